"""Run passes one after another and cache each result under a key of everything it depends on.

A key covers the pass, its options, its version, the versions of the packages it builds with, the
hash of its input model and, where they matter, the calibration inputs and the processor. A killed
run therefore resumes at the first pass that has no result, and no two models share one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from filelock import FileLock

from runners.engines.host import processor, versions
from runners.optimize.optimization import Options, PassContext, Report
from runners.optimize.registry import complete_options, load_pass
from runners.recipes.source import sha256_of
from runners.recipes.versions import PASS_VERSIONS
from turnout.cache_folder import cache_folder
from turnout.errors import ArtifactInvalid

if TYPE_CHECKING:
    from turnout.types import Tensors

Chain: TypeAlias = Sequence[tuple[str, Options]]
FILE = "model.onnx"
_RESULT_FILE = "made.json"


@dataclass(frozen=True, slots=True)
class PassResult:
    """The result of one pass.

    Attributes:
        name: the pass.
        options: every option of the pass, with its value.
        path: the ONNX file that it wrote.
        sha256: the file's hash.
        measured: the numbers that the pass reports.
        took_s: seconds the pass ran when the file was written.
        cached: whether the result came from the cache.
    """

    name: str
    options: Mapping[str, Any]
    path: Path
    sha256: str
    measured: Mapping[str, Any]
    took_s: float
    cached: bool

    def described(self) -> dict[str, Any]:
        """Return all but the path, for the report."""
        return {key: value for key, value in asdict(self).items() if key != "path"}


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """Model inputs for the passes that calibrate, and the hash over all of them."""

    samples: Sequence[Tensors]
    digest: str


def run_chain(
    source: Path,
    chain: Chain,
    calibration_set: CalibrationSet,
    runner: Mapping[str, Any],
    report: Report,
) -> list[PassResult]:
    """Run every pass of a chain, or take its result from the cache.

    Args:
        source: the ONNX file that the first pass reads.
        chain: the passes, each with the options set for it.
        calibration_set: inputs for the passes that calibrate.
        runner: the catalog entry's ``runner`` part, as plain data.
        report: called with one line of progress at a time.

    Returns:
        The result of each pass, in order.

    Raises:
        ConfigError: a pass or an option is unknown; checked before anything runs.
        ArtifactInvalid: a pass cannot handle the model; the message says what to do.
    """
    checked = [(name, complete_options(name, options)) for name, options in chain]
    stages: list[PassResult] = []
    model = source
    for name, options in checked:
        setting = PassContext(options, calibration_set.samples, runner, report)
        stages.append(_run_pass(name, model, setting, calibration_set.digest))
        model = stages[-1].path
    return stages


def _run_pass(name: str, model: Path, setting: PassContext, calibration: str) -> PassResult:
    folder = cache_folder() / "optimize" / _key(name, model, setting, calibration)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if (cached := _read_cached(name, folder)) is not None:
            setting.report(f"{name}: taken from the cache")
            return cached
        shutil.rmtree(folder, ignore_errors=True)
        _run_into(name, model, folder, setting)
    result = _read_cached(name, folder)
    if result is None:
        raise ArtifactInvalid(f"{folder} was changed while it was written; run this again")
    return PassResult(
        name, result.options, result.path, result.sha256, result.measured, result.took_s, False
    )


def _run_into(name: str, model: Path, folder: Path, setting: PassContext) -> None:
    started_s = monotonic()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        out = Path(scratch) / "made"
        out.mkdir()
        measured = load_pass(name).run(model, out / FILE, setting)
        took_s = round(monotonic() - started_s, 2)
        result = {
            "options": setting.options,
            "sha256": sha256_of(out / FILE),
            "measured": measured,
            "took_s": took_s,
        }
        (out / _RESULT_FILE).write_text(json.dumps(result, indent=1, default=list))
        out.rename(folder)


def _read_cached(name: str, folder: Path) -> PassResult | None:
    """Return the cached result of a pass; None when it is missing or damaged."""
    try:
        result = json.loads((folder / _RESULT_FILE).read_text("utf-8"))
        is_intact = sha256_of(folder / FILE) == result["sha256"]
    except (OSError, ValueError, KeyError):
        return None
    if not is_intact:
        return None
    return PassResult(
        name,
        result["options"],
        folder / FILE,
        result["sha256"],
        result["measured"],
        result["took_s"],
        True,
    )


def _key(name: str, model: Path, setting: PassContext, calibration: str) -> str:
    step = load_pass(name)
    dependencies = {
        "pass": name,
        "options": setting.options,
        "code": PASS_VERSIONS[name],
        "versions": dict(versions(step.built_with)),
        "given": sha256_of(model),
        "calibration": calibration if step.calibrated else None,
        "host": processor()[1] if step.host else None,
        "runner": setting.runner if step.host else None,
    }
    text = json.dumps(dependencies, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
