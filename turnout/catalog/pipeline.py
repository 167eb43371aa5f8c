"""Pipelines, their stages and their parameters, as strict pydantic models.

A pipeline is a small graph. Its stages call routes; a stage's inputs come from the request or from
the outputs of other stages, which is also what orders them: stages that don't need each other run
at the same time. ``plan`` checks the names and tensors of one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict, Field, PositiveInt, field_validator, model_validator

from turnout.catalog.fields import Strict

_STAGE = r"^[a-z][a-z0-9_-]{0,30}$"
_REFERENCE = re.compile(
    r"^(?:(?P<stage>[a-z][a-z0-9_-]*)\.)?(?P<tensor>[a-z][a-z0-9_]*)(?P<row>\.0)?$"
)
_BRACED = re.compile(r"\{([^{}]*)\}")

StageName = Annotated[str, Field(pattern=_STAGE)]
TensorName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Reference_ = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Reference:
    """The source of a tensor.

    Attributes:
        stage: whose output it is; None for an input of the request.
        tensor: its name.
        first: whether only its first row is read, so that the items of one query become rows.
    """

    stage: str | None
    tensor: str
    first: bool

    @classmethod
    def read(cls, text: str) -> Reference:
        """Parse ``tensor``, ``stage.tensor`` or ``stage.tensor.0``.

        Raises:
            ValueError: the text is none of these.
        """
        match = _REFERENCE.match(text)
        if match is None or (match["row"] and match["stage"] is None):
            raise ValueError(
                f"{text!r} is no reference: write an input of the request, stage.tensor, or "
                "stage.tensor.0 for its first row"
            )
        return cls(match["stage"], match["tensor"], bool(match["row"]))


class Parameter(Strict):
    """A word that chooses routes: ``{category}`` in a stage's route.

    Attributes:
        source: reference to the text that stands for it when the request gives none.
        default: what stands for it when there is no such text, or no route for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    source: Reference_ | None = Field(default=None, alias="from")
    default: str | None = None

    @field_validator("source")
    @classmethod
    def _source_is_an_output(cls, value: str | None) -> str | None:
        if value is not None and Reference.read(value).stage is None:
            raise ValueError("name a stage's output, such as intent.label")
        return value


class Stage(Strict):
    """One step.

    Attributes:
        route: the route or model that is called; ``{name}`` is replaced by a parameter.
        inputs: where each of its public inputs comes from.
        prompt: for a route that writes: what it is asked, with references in braces.
        max_tokens: for a route that writes: how much at most.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    route: Annotated[str, Field(min_length=1)]
    inputs: dict[TensorName, Reference_] = Field(default_factory=dict, alias="in")
    prompt: str | None = None
    max_tokens: PositiveInt = 64

    @field_validator("inputs")
    @classmethod
    def _references_read(cls, value: dict[str, str]) -> dict[str, str]:
        for text in value.values():
            Reference.read(text)
        return value

    @field_validator("prompt")
    @classmethod
    def _prompt_refers(cls, value: str | None) -> str | None:
        for text in _BRACED.findall(value or ""):
            Reference.read(text)
        return value

    @model_validator(mode="after")
    def _one_kind_of_input(self) -> Stage:
        if bool(self.inputs) == (self.prompt is not None):
            raise ValueError("give either in, or a prompt")
        return self

    @property
    def words(self) -> tuple[str, ...]:
        """Names of the parameters in ``route``."""
        return tuple(_BRACED.findall(self.route))

    def references(self) -> Iterator[Reference]:
        """Yield the references that this stage reads."""
        texts = _BRACED.findall(self.prompt) if self.prompt else self.inputs.values()
        return map(Reference.read, texts)

    def filled(self, values: dict[str, str]) -> str:
        """Return the route for these parameters."""
        return _BRACED.sub(lambda match: values[match[1]], self.route)

    def filled_prompt(self, values: dict[str, str]) -> str:
        """Return the prompt with each reference replaced by its text."""
        return _BRACED.sub(lambda match: values[match[1]], self.prompt or "")

    def matches(self, name: str) -> dict[str, str] | None:
        """Return the parameters for which this stage calls ``name``; None when it never does."""
        parts = _BRACED.split(self.route)
        parameters: set[str] = set()
        pattern = ""
        for index, part in enumerate(parts):
            if index % 2 == 0:
                pattern += re.escape(part)
            elif part in parameters:
                pattern += f"(?P={part})"
            else:
                parameters.add(part)
                pattern += f"(?P<{part}>[a-z0-9._-]+)"
        match = re.fullmatch(pattern, name)
        return None if match is None else match.groupdict()


class Pipeline(Strict):
    """Several routes behind one name.

    Attributes:
        latency_class: the class of a request that names none; the deadline is the whole's.
        parameters: words that choose routes; a request gives them, or they have a default.
        stages: by name; what they read of each other orders them.
        out: the answer's tensors: where each comes from.
        sort_by: an answer's tensor; all of them are put in its descending order.
        limit: rows of a sorted answer at most, where the request doesn't say.
    """

    latency_class: str
    parameters: dict[TensorName, Parameter] = Field(default_factory=dict)
    stages: Annotated[dict[StageName, Stage], Field(min_length=1)]
    out: Annotated[dict[TensorName, Reference_], Field(min_length=1)]
    sort_by: str | None = None
    limit: PositiveInt | None = None

    @field_validator("out")
    @classmethod
    def _outputs_are_stages(cls, value: dict[str, str]) -> dict[str, str]:
        for text in value.values():
            if Reference.read(text).stage is None:
                raise ValueError(f"{text!r}: name a stage's output, such as rank.score")
        return value

    def needs(self, stage: str, supplied: Collection[str] = ()) -> frozenset[str]:
        """Return the stages that ``stage`` waits for, when the request gives these parameters."""
        needed = {ref.stage for ref in self.stages[stage].references() if ref.stage}
        for parameter in self.stages[stage].words:
            source = self.parameters[parameter].source if parameter in self.parameters else None
            if source is not None and parameter not in supplied:
                needed.add(Reference.read(source).stage or "")
        return frozenset(needed)

    def needed(self, supplied: Collection[str] = ()) -> frozenset[str]:
        """Return the stages that the answer depends on, when the request gives these parameters."""
        needed: set[str] = set()
        todo = [Reference.read(text).stage or "" for text in self.out.values()]
        while todo:
            stage = todo.pop()
            if stage not in needed:
                needed.add(stage)
                todo.extend(self.needs(stage, supplied))
        return frozenset(needed)
