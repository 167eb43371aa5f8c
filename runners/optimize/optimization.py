"""What a pass is: one step from an ONNX file to another."""

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
class Setting:
    """What a pass may use besides the file it is given.

    Attributes:
        options: the catalog's, completed by the pass's defaults.
        samples: model inputs, one row each, that nothing is judged on; empty for a pass that is
            not ``calibrated``.
        model: the catalog entry's ``runner`` part, as plain data.
        report: told what happens, one line each.
    """

    options: Options
    samples: Sequence[Tensors] = ()
    runner: Mapping[str, Any] = field(default_factory=dict)
    report: Report = lambda line: None


@dataclass(frozen=True, slots=True)
class Pass:
    """One step.

    Attributes:
        run: reads the first path, writes the second, and returns what it measured. Raises
            ``ArtifactInvalid`` with the way out when it can't.
        what: one line for a person.
        options: every option with its default.
        calibrated: whether it needs ``Setting.samples``.
        built_with: distributions whose version shapes the result.
        host: whether the result depends on this machine's processor or device.
    """

    run: Callable[[Path, Path, Setting], Mapping[str, Any]]
    what: str
    options: Options = field(default_factory=dict)
    calibrated: bool = False
    built_with: tuple[str, ...] = ("onnxruntime", "onnx")
    host: bool = False
