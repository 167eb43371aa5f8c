"""Measure whether features of a row or of a picture's header improve the choice of a model.

    python -m benchmarks.feature_routing --transactions FILE --images DIR --json FILE

Card transactions: the catalog's two fraud models flag their 1 % most suspicious transactions (each
threshold from the earlier days); an answer is good when what is flagged is fraud and what is not is
not. A router is trained on the earlier days' outcomes and judged on the later ones: by what it says
before any answer, and, as a cascade, once the small model has answered, beside that model's own
confidence, chance and an oracle. Intervals resample days.

Pictures: the same from what a file's header says, cross-validated on all labelled pictures.

CPU: one look, one decision with and without it, one run of either fraud model, in this process.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cascade import logits_of
from benchmarks.decide import microseconds, plane_of
from benchmarks.images import labelled
from benchmarks.provenance import save
from routing.decision.request_view import RequestAnalyzer
from routing.evaluation.calibration import reliability
from routing.evaluation.pair import oracle_win_rate, pair_curve, quality_at
from routing.features.picture import NAMES, picture_features
from routing.quality.feature_artifact import save_feature_router
from routing.quality.feature_quality import FeatureQuality, row_predictor
from routing.training.feature_fit import train_features
from routing.training.outcomes import Outcomes
from runners.recipes.fraud.features import DELAY_DAYS, WARM_UP_DAYS
from runners.recipes.fraud.table import Table, read
from runners.tasks.tabular import FEATURES
from services.artifacts.store import resolve
from services.routers.tensor_routers import TensorRouters
from turnout.catalog import load
from turnout.types import Request, Task

_CATALOG = Path(__file__).parents[1] / "catalog" / "default.yaml"
_FRAUD = ("fraud-small", "fraud-large")
_PICTURES = ("efficientnet-lite0", "efficientnet-lite2")
_SHARES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_FLAGGED = 0.01
_DOOR, _SURE = "features, before any answer", "confidence in the first answer"
_AFTER = "features and that confidence"
_FOLDS = 5
_EASY = 0.2

Rates = dict[str, np.ndarray]


def folder_of(model: str) -> Path:
    """Return the folder of a model's files."""
    artifact = load(_CATALOG).models[model].artifact
    if artifact is None:
        raise SystemExit(f"{model} has no artefact")
    return resolve(artifact)


def table_of(
    models: tuple[str, str], names: tuple[str, ...], rows: np.ndarray, score: np.ndarray
) -> Outcomes:
    """Return the outcomes of two models, the weak first."""
    ids = tuple(map(str, range(len(rows))))
    blank = ("",) * len(rows)
    cost = np.full_like(score, np.nan)
    return Outcomes(ids, blank, blank, models, score, cost, rows.astype(np.float64), names)


def at_share(rate: np.ndarray, score: np.ndarray, share: float) -> float:
    """Return the mean score when the strong model answers the share with the highest rate."""
    return quality_at(rate, score[:, 0], score[:, 1], share)


def fraud(file: Path, most_rows: int, rounds: int) -> tuple[dict[str, Any], FeatureQuality]:
    """Run the fraud case of the module; also return the trained router."""
    from runners.recipes.onnx_session import run_onnx

    table = read(file)
    table = table.rows(table.day >= WARM_UP_DAYS)
    raised = [
        run_onnx(folder_of(name) / "model.onnx", {"features": table.features}).reshape(-1)
        for name in _FRAUD
    ]
    middle = int(np.median(table.day))
    early, late = table.day < middle - DELAY_DAYS, table.day >= middle
    flagged = [p > np.quantile(p[early], 1.0 - _FLAGGED) for p in raised]
    score = np.stack([(flag == table.fraud).astype(np.float64) for flag in flagged], axis=1)
    random = np.random.default_rng(0)
    rows = random.permutation(np.flatnonzero(early))[:most_rows]
    confidence = np.maximum(raised[0], 1.0 - raised[0])
    known = table_of(_FRAUD, FEATURES, table.features[rows], score[rows])
    sure = np.column_stack((confidence[rows], np.full(len(rows), np.nan)))
    router = train_features(replace(known, confidence=sure))
    rest = table.rows(late)
    seen, confidence = score[late], confidence[late]
    p_good = router.predict(rest.features).astype(np.float64)
    rates: Rates = {
        _DOOR: p_good[:, 1] - p_good[:, 0],
        _SURE: -confidence,
        _AFTER: learned_gain(router, rest.features, confidence),
        "random": random.random(len(seen)),
        "oracle": oracle_win_rate(seen[:, 0], seen[:, 1]),
    }
    found = summary(rates, seen, p_good)
    found["least_ratio"] = round(float(router.least[0, 1]), 3)
    found["train_rows"], found["trees"] = len(rows), len(router.trees.feature) // 3
    found["less_strong"] = by_days(rest, rates, seen, rounds)
    return found, router


def learned_gain(
    router: FeatureQuality,
    rows: np.ndarray,
    confidence: np.ndarray,
    models: tuple[str, str] = _FRAUD,
) -> np.ndarray:
    """Return the learned gain of a second answer; untrained, the first's uncertainty."""
    if models[0] not in router.after:
        return -confidence.astype(np.float64)
    found = router.gain_after(*models, rows, confidence)
    return np.where(np.isnan(found), np.float32(0.7) - confidence, found).astype(np.float64)


def summary(rates: Rates, score: np.ndarray, p_good: np.ndarray) -> dict[str, Any]:
    """Return every method's curve and quality at each share, and both models' calibration."""
    weak, strong = score[:, 0], score[:, 1]
    methods: dict[str, Any] = {}
    for name, rate in rates.items():
        curve = pair_curve(rate, weak, strong)
        methods[name] = {
            "apgr": round(curve.apgr, 3),
            "cpt50": round(curve.cpt(0.5), 3),
            "cpt80": round(curve.cpt(0.8), 3),
            "at_share": {str(s): round(at_share(rate, score, s), 6) for s in _SHARES},
        }
    return {
        "rows": len(score),
        "weak": round(float(weak.mean()), 6),
        "strong": round(float(strong.mean()), 6),
        "ece": [round(reliability(p_good[:, i], score[:, i]).ece, 4) for i in (0, 1)],
        "methods": methods,
    }


def by_days(table: Table, rates: Rates, score: np.ndarray, rounds: int) -> dict[str, Any]:
    """Return each share's mean score minus the strong model's, with intervals over days."""
    days, place = np.unique(table.day, return_inverse=True)
    count = np.bincount(place)
    draws = np.random.default_rng(0).integers(0, len(days), (rounds, len(days)))
    found: dict[str, Any] = {}
    for name in (_DOOR, _SURE, _AFTER):
        order = np.argsort(-rates[name], kind="stable")
        found[name] = {}
        for share in _SHARES:
            chosen = np.zeros(len(score), bool)
            chosen[order[: round(share * len(score))]] = True
            lead = np.where(chosen, 0.0, score[:, 0] - score[:, 1])
            sums = np.bincount(place, lead)
            means = sums[draws].sum(axis=1) / count[draws].sum(axis=1)
            low, high = np.quantile(means, [0.025, 0.975])
            shown = (float(lead.mean()), float(low), float(high))
            found[name][str(share)] = [round(value * 1e4, 2) for value in shown]
    return found


def pictures(folder: Path, repeat: int) -> dict[str, Any]:
    """Run the pictures case of the module."""
    paths, classes = labelled(folder)
    logits = [logits_of(folder_of(name), paths).astype(np.float64) for name in _PICTURES]
    score = np.stack([(z.argmax(axis=1) == classes).astype(np.float64) for z in logits], axis=1)
    top = np.sort(np.exp(logits[0] - logits[0].max(axis=1, keepdims=True)), axis=1)[:, -2:]
    confidence = top[:, 1] / top.sum(axis=1)
    features = np.stack([picture_features(path.read_bytes()) for path in paths])
    random = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in (_DOOR, _AFTER, _SURE, "random")}
    silent = 0
    for seed in range(repeat):
        fold = np.random.default_rng(seed).permutation(len(score)) % _FOLDS
        for held in range(_FOLDS):
            kept, test = fold != held, fold == held
            rows = table_of(_PICTURES, NAMES, features[kept], score[kept])
            sure = np.column_stack((confidence[kept], np.full(kept.sum(), np.nan)))
            router = train_features(replace(rows, confidence=sure), seed=seed)
            silent += router.constant
            p_good, ties = router.predict(features[test]), 1e-9 * random.random(int(test.sum()))
            rates = {
                _DOOR: p_good[:, 1] - p_good[:, 0] + ties,
                _AFTER: learned_gain(router, features[test], confidence[test], _PICTURES) + ties,
                _SURE: -confidence[test],
                "random": ties,
            }
            for name, rate in rates.items():
                found[name].append(at_share(rate, score[test], 0.2))
    return {
        "pictures": len(score),
        "weak": round(float(score[:, 0].mean()), 4),
        "strong": round(float(score[:, 1].mean()), 4),
        "routers": repeat * _FOLDS,
        "routers_that_saw_nothing": int(silent),
        "at_share_0.2": {name: round(float(np.mean(values)), 4) for name, values in found.items()},
    }


def cpu(router: FeatureQuality, file: Path | None) -> dict[str, Any]:
    """Return the microseconds of each step; see the module."""
    import onnxruntime

    row = router.centre[None].copy()
    many = np.tile(row, (64, 1))
    look, sure = row_predictor(router), np.array([0.9], np.float32)
    found: dict[str, Any] = {
        "a look at one row": microseconds(lambda _: look(row[0])),
        "a look at one row and a confidence": microseconds(
            lambda _: router.gain_after(*_FRAUD, row, sure)
        ),
        "a look at 64 rows": microseconds(lambda _: router.of_request(many), 2_000),
    }
    for name in _FRAUD:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            str(folder_of(name) / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

        def run(_: int, session: Any = session) -> object:
            return session.run(None, {"features": row})

        found[f"a run of {name}, one row"] = microseconds(run, 5_000)
    if file is not None:
        image = file.read_bytes()
        found["a look at a picture's header"] = microseconds(lambda _: picture_features(image))
    return found | decisions(router, row)


def decisions(router: FeatureQuality, row: np.ndarray) -> dict[str, Any]:
    """Measure single fraud decisions, with the route's router and without."""
    catalog = load(_CATALOG)
    easy = catalog.routes["fraud"].model_copy(update={"target_quality": _EASY})
    settled = catalog.model_copy(update={"routes": catalog.routes | {"fraud": easy}})
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        save_feature_router(router, folder, {})
        for name, fleet, step_s in (
            ("a decision from priors", None, 1.0),
            ("a decision from priors, 1,000 a second", None, 0.001),
            ("a decision that needs no look, 1,000 a second", settled, 0.001),
            ("a decision with a look", catalog, 1.0),
            ("a decision with a look, 1,000 a second", catalog, 0.001),
        ):
            learned = None if fleet is None else TensorRouters(fleet, {"fraud": Path(folder)})
            plane = plane_of(fleet or catalog)
            plane.adopt(plane.catalog, RequestAnalyzer(plane.catalog, tensors=learned))

            def decide(index: int, plane: Any = plane, step_s: float = step_s) -> object:
                now_s = 1000.0 + index * step_s
                tensors = {"features": row}
                task, told = Task.TABULAR, "realtime"
                return plane.decide(
                    Request(str(index), "fraud", task, tensors, told, now_s, now_s + 0.1)
                )

            found[name] = microseconds(decide)
    return found


def main() -> None:
    """Measure, print, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--rows", type=int, default=200_000, help="trained on at most")
    parser.add_argument("--rounds", type=int, default=1_000, help="bootstrap resamples")
    parser.add_argument("--repeat", type=int, default=10, help="cross-validations of pictures")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    result: dict[str, Any] = {}
    result["fraud"], router = fraud(given.transactions, given.rows, given.rounds)
    for name, row in result["fraud"]["methods"].items():
        print(f"{name:<32} APGR {row['apgr']:.3f} {row['at_share']}")
    print({key: result["fraud"][key] for key in ("weak", "strong", "ece", "less_strong")})
    picture = None
    if given.images is not None:
        result["pictures"] = pictures(given.images, given.repeat)
        print(result["pictures"])
        picture = labelled(given.images)[0][0]
    result["cpu_us"] = cpu(router, picture)
    for name, row in result["cpu_us"].items():
        print(f"{name:<40} {row}")
    save(given.json, result)


if __name__ == "__main__":
    main()
