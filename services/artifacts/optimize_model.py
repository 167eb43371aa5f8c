"""Optimise a catalog entry and store the artefact with its gate's report.

``turnout optimize`` studies one model; ``turnout models build`` does the same, on the task's own
inputs, for entries that declare ``optimize`` and have no artefact yet.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.optimize import gate as gates
from runners.optimize import report as reports
from runners.optimize.candidate import Candidate, assemble_folder
from runners.optimize.chain import Chain
from runners.optimize.input_types import Inputs
from runners.optimize.inputs import read_inputs
from runners.optimize.registry import CHAINS, complete_options
from runners.optimize.study import Study, split_inputs, study
from runners.recipes.origin import Origin, Source
from services.artifacts import build
from services.artifacts.store import home, read_manifest
from turnout.catalog import Artifact, Catalog, Gate, Model, Optimize
from turnout.errors import ArtifactInvalid, ConfigError, UnknownModel

Report = Callable[[str], None]
_ENGINES = frozenset({"onnx", "tensorrt"})


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of an optimisation.

    Attributes:
        study: candidates with their measurements.
        report: the same as plain data.
        path: the artefact's folder in the store; the report's folder when nothing was stored.
        stored: the artefact, when its file was put into the store.
        may_serve: whether it passed its gate.
    """

    study: Study
    report: Mapping[str, Any]
    path: Path
    stored: Artifact | None
    may_serve: bool


def optimize(
    catalog: Catalog,
    name: str,
    report: Report,
    inputs: Path | None = None,
    passes: Sequence[Chain] = (),
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Optimise one model of a catalog and store the result.

    An entry with ``optimize`` gets exactly those passes, and its artefact is stored with the
    verdict, whichever it is. For any other entry (or with ``passes``) candidates are tried, and
    the fastest that may serve is stored under ``<tag>-optimized``.

    Args:
        catalog: the catalog.
        name: the model's name.
        report: called with one line of progress at a time.
        inputs: folder or file to calibrate and judge on, one half each; the entry's own if None.
        passes: chains to try instead of the catalog's.
        on_step: called with the number of finished steps and of all steps.

    Raises:
        UnknownModel, ConfigError, DataError, ArtifactInvalid: each with the remedy.
    """
    entry = _entry(catalog, name)
    artifact = entry.artifact
    if artifact is None:
        raise ConfigError(f"model {name!r} has no artifact to optimise")
    declared = artifact.optimize if not passes else None
    chains = _chains(entry, declared, passes)
    place = inputs or _declared_inputs(declared)
    gate = declared.gate if declared else Gate()
    rows = declared.calibration.rows if declared else Optimize(passes=("graph",)).calibration.rows
    try:
        base = build.find_built(artifact.base) or build.ensure_built(artifact.base, report)
        parts = split_inputs(read_inputs(entry.task, place, report), rows)
        outcome = study(name, entry, base, chains, parts, gate, report, on_step)
        return _keep(outcome, artifact, base, chains, parts, declared)
    except OSError as error:
        raise ArtifactInvalid(build.explain(error, "turnout optimize")) from error


def _keep(
    outcome: Study,
    artifact: Artifact,
    base: Path,
    chains: Sequence[Chain],
    parts: tuple[Inputs, Inputs],
    declared: Optimize | None,
) -> Result:
    if declared is not None:
        chosen: Candidate | None = outcome.candidates[0]
        target = artifact
    else:
        chosen = outcome.best
        target = artifact.model_copy(update={"tag": f"{artifact.tag}-optimized"})
        if chosen is not None:
            steps = chains[list(outcome.candidates).index(chosen)]
            own = Optimize(passes=tuple(_as_catalog(step, options) for step, options in steps))
            target = target.model_copy(update={"optimize": own})
    with tempfile.TemporaryDirectory() as scratch:
        if chosen is None or not chosen.stages:
            return _report_only(outcome, base)
        out = assemble_folder(base, chosen.stages[-1].path, Path(scratch) / "files")
        report = reports.write(outcome, chosen.name, out)
        more = {
            "gate": gates.verdict(list(chosen.checks)) if chosen.checks else _refused(chosen),
            "base": f"{base.parent.name}:{base.name}",
            "judged_on": parts[1].digest(),
        }
        path = build.put(target, out, _origin(base, chosen), more)
    return Result(outcome, report, path, target, not chosen.why_not)


def _report_only(outcome: Study, base: Path) -> Result:
    folder = home() / "turnout" / "reports" / base.parent.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Result(outcome, reports.write(outcome, None, folder), folder, None, False)


def _refused(chosen: Candidate) -> dict[str, Any]:
    return {"passed": False, "why": chosen.why_not}


def _origin(base: Path, chosen: Candidate) -> Origin:
    manifest = read_manifest(base)
    judgement = chosen.judgement
    measured: dict[str, float | int | str] = {"passes": chosen.name}
    if judgement is not None:
        measured |= {"loss": judgement.loss.value, "agreement": judgement.agreement.value}
    if chosen.measured is not None:
        measured["speedup"] = chosen.speedup
    return Origin(
        sources=tuple(Source(**source) for source in manifest["origin"]),
        measured=measured,
        built_with=("onnxruntime", "onnx", "numpy"),
    )


def _entry(catalog: Catalog, name: str) -> Model:
    entry = catalog.models.get(name)
    if entry is None:
        raise UnknownModel(name, tuple(catalog.models))
    if entry.runner.engine not in _ENGINES:
        raise ConfigError(
            f"model {name!r} runs on {entry.runner.engine!r}; passes work on ONNX files, which "
            f"the engines {' and '.join(sorted(_ENGINES))} run"
        )
    return entry


def _chains(entry: Model, declared: Optimize | None, passes: Sequence[Chain]) -> list[Chain]:
    """Return the chains to try; every name and option is checked before anything is built."""
    if declared is not None:
        chains: list[Chain] = [declared.chain()]
    elif passes:
        chains = list(passes)
    else:
        chains = [tuple((step, {}) for step in chain) for chain in CHAINS[entry.task.value]]
    for chain in chains:
        for step, options in chain:
            complete_options(step, options)
    return chains


def _as_catalog(step: str, options: Mapping[str, Any]) -> Any:
    return {step: dict(options)} if options else step


def _declared_inputs(declared: Optimize | None) -> Path | None:
    if declared is None or declared.calibration.inputs is None:
        return None
    return Path(declared.calibration.inputs).expanduser()
