"""The interface of a pass: one step from an ONNX file to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from turnout.types import Tensors

Options: TypeAlias = Mapping[str, Any]
Report: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PassContext:
    """The options and data that a pass may use besides its input file.

    Attributes:
        options: the catalog's, completed by the pass's defaults.
        samples: model inputs, one row each, that nothing is judged on; empty for a pass that is
            not ``calibrated``.
        runner: the catalog entry's ``runner`` part, as plain data.
        report: called with one line of progress at a time.
    """

    options: Options
    samples: Sequence[Tensors] = ()
    runner: Mapping[str, Any] = field(default_factory=dict)
    report: Report = lambda line: None


@dataclass(frozen=True, slots=True)
class Pass:
    """The description of a pass and its function.

    Attributes:
        run: reads the first path, writes the second, and returns its measurements. Raises
            ``ArtifactInvalid`` with the remedy when it cannot handle the model.
        what: a one-line description for the user.
        options: every option with its default.
        calibrated: whether it needs ``PassContext.samples``.
        built_with: distributions whose version shapes the result.
        host: whether the result depends on this machine's processor or device.
    """

    run: Callable[[Path, Path, PassContext], Mapping[str, Any]]
    what: str
    options: Options = field(default_factory=dict)
    calibrated: bool = False
    built_with: tuple[str, ...] = ("onnxruntime", "onnx")
    host: bool = False
