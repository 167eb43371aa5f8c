"""Run passes one after another, each result kept in a cache addressed by all that shapes it.

A key is made of the pass, its options, its code, the versions it builds with, the hash of what it
was given and, where they matter, the calibration inputs and the processor. So a run that was
killed goes on where it was, and two models share nothing by accident.
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
from runners.optimize.optimization import Options, Report, Setting
from runners.optimize.registry import completed, load_pass
from runners.recipes.source import sha256_of
from runners.recipes.versions import PASS_VERSIONS
from turnout.cache_folder import cache_folder
from turnout.errors import ArtifactInvalid

if TYPE_CHECKING:
    from turnout.types import Tensors

Chain: TypeAlias = Sequence[tuple[str, Options]]
FILE = "model.onnx"
_MADE = "made.json"


@dataclass(frozen=True, slots=True)
class Stage:
    """What one pass made.

    Attributes:
        name: the pass.
        options: all of them.
        path: the ONNX file.
        sha256: of it.
        measured: by the pass.
        took_s: when it was made.
        cached: whether it was made before.
    """

    name: str
    options: Mapping[str, Any]
    path: Path
    sha256: str
    measured: Mapping[str, Any]
    took_s: float
    cached: bool

    def described(self) -> dict[str, Any]:
        """For the report."""
        return {key: value for key, value in asdict(self).items() if key != "path"}


@dataclass(frozen=True, slots=True)
class Calibrating:
    """Model inputs for passes that need some, and the hash of them all."""

    samples: Sequence[Tensors]
    digest: str


def run_chain(
    source: Path,
    chain: Chain,
    calibrating: Calibrating,
    runner: Mapping[str, Any],
    report: Report,
) -> list[Stage]:
    """Run every pass of a chain, or find its result in the cache.

    Args:
        source: the ONNX file to begin with.
        chain: passes with the options given for them.
        calibrating: for passes that are calibrated.
        runner: the catalog entry's ``runner`` part, as plain data.
        report: told what happens, one line each.

    Returns:
        A stage for each pass, in order.

    Raises:
        ConfigError: an unknown pass or option; found before anything runs.
        ArtifactInvalid: a pass can't do it, with the way out.
    """
    checked = [(name, completed(name, options)) for name, options in chain]
    stages: list[Stage] = []
    given = source
    for name, options in checked:
        setting = Setting(options, calibrating.samples, runner, report)
        stages.append(_stage(name, given, setting, calibrating.digest))
        given = stages[-1].path
    return stages


def _stage(name: str, given: Path, setting: Setting, calibration: str) -> Stage:
    folder = cache_folder() / "optimize" / _key(name, given, setting, calibration)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if (found := _kept(name, folder)) is not None:
            setting.report(f"{name}: made before")
            return found
        shutil.rmtree(folder, ignore_errors=True)
        _make(name, given, folder, setting)
    made = _kept(name, folder)
    if made is None:
        raise ArtifactInvalid(f"{folder} was changed while it was written; run this again")
    return Stage(name, made.options, made.path, made.sha256, made.measured, made.took_s, False)


def _make(name: str, given: Path, folder: Path, setting: Setting) -> None:
    started_s = monotonic()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        out = Path(scratch) / "made"
        out.mkdir()
        measured = load_pass(name).run(given, out / FILE, setting)
        took_s = round(monotonic() - started_s, 2)
        made = {
            "options": setting.options,
            "sha256": sha256_of(out / FILE),
            "measured": measured,
            "took_s": took_s,
        }
        (out / _MADE).write_text(json.dumps(made, indent=1, default=list))
        out.rename(folder)


def _kept(name: str, folder: Path) -> Stage | None:
    """What the cache holds, if it is whole."""
    try:
        made = json.loads((folder / _MADE).read_text("utf-8"))
        whole = sha256_of(folder / FILE) == made["sha256"]
    except (OSError, ValueError, KeyError):
        return None
    if not whole:
        return None
    return Stage(
        name,
        made["options"],
        folder / FILE,
        made["sha256"],
        made["measured"],
        made["took_s"],
        True,
    )


def _key(name: str, given: Path, setting: Setting, calibration: str) -> str:
    one = load_pass(name)
    shaping = {
        "pass": name,
        "options": setting.options,
        "code": PASS_VERSIONS[name],
        "versions": dict(versions(one.built_with)),
        "given": sha256_of(given),
        "calibration": calibration if one.calibrated else None,
        "host": processor()[1] if one.host else None,
        "runner": setting.runner if one.host else None,
    }
    text = json.dumps(shaping, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
