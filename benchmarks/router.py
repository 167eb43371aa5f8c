"""How well the router routes, on held-back questions: ``python -m benchmarks.router --data DIR``.

DIR holds the outcome tables that ``router_cases.CASES`` names (docs/router.md says where they come
from). Every number is cross-validated: the scores of a test question, or of one with the same
stem, never reach the router that predicts it, nor the pretrained factors it starts from; where
subjects are held back, none of the subject's questions reach the router. No model of either family
of the pair is in the pretraining.

That is a router on prompts nobody has met. ``met`` is the other end: the same router, whose pool
was asked these very questions (by models of other families, never by the pair) and remembers them.
``as_shipped`` is what ``turnout router train`` gives on this table: the pool that ships, and test
questions held back at random, whatever their stems.

Three questions in ten (by a hash of the stem) were put aside before the present recipe was chosen:
``fresh`` are the numbers on those alone. The others took part in choosing it.

Gains are ranked within each fold, since each fold's router is used alone (not where subjects are
held back: folds differ there).

Beside the router, on the same folds: prompt length, random, oracle, and a reference made of
well-known parts (TF-IDF with logistic regression, averaged with gradient boosting on the hand-made
features, trained per model). Differences from the reference come with paired intervals.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, cast

import lightgbm as lgb
import numpy as np
from scipy.stats import rankdata
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.provenance import save
from benchmarks.router_cases import (
    CASES,
    DEFAULT_ROUTER,
    MMLU,
    Case,
    folds,
    pretrained,
    put_aside,
    random_folds,
    stems,
)
from routing.evaluation.bootstrap import bootstrap
from routing.evaluation.calibration import reliability
from routing.evaluation.pair import length_win_rate, oracle_win_rate, pair_curve
from routing.features.text import hand_made, read
from routing.known import known_to
from routing.quality import LearnedQuality, ModelPrior, load_router
from routing.quality.encoder import Encoder
from routing.quality.factors import Factors
from routing.training.fit import train_router
from routing.training.outcomes import Outcomes, read_outcomes

LEAST_MET: Final = 0.05


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and, with ``--json``, save it with commit and hardware."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the outcome tables")
    parser.add_argument("--json", type=Path, help="file to save the results to")
    parser.add_argument("--quick", action="store_true", help="few questions: does it run at all?")
    parser.add_argument("--skip-latency", action="store_true", help="cases only")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--jobs", type=int, default=1, help="cases side by side, one thread each")
    given = parser.parse_args(arguments)
    results: list[dict[str, Any]] = []
    print(
        f"{'case':58} length refer. fast  full  [95 %]         full - reference  "
        "fresh: ref. full   met  shipped  target"
    )
    for case, found in measured(
        [case for case in CASES if given.only in case.name], given.data, given.jobs, given.quick
    ):
        results.append(found)
        a, fresh, (low, high) = found["apgr"], found["fresh"], found["full_95"]
        more = found["full_less_reference"]
        shipped = found["as_shipped"]["full"] if found["as_shipped"] else np.nan
        target = f"{case.target:.2f}" if case.target else "  - "
        print(
            f"{case.name:58} {a['length']:.3f}  {a['reference']:.3f}  {a['fast']:.3f} "
            f"{a['full']:.3f} [{low:.3f}, {high:.3f}] {more[0]:+.3f} [{more[1]:+.3f}, "
            f"{more[2]:+.3f}]  {fresh['reference']:.3f} {fresh['full']:.3f}  "
            f"{a.get('met', float('nan')):.3f}  {shipped:.3f}  {target}",
            flush=True,
        )
        _save(given.json, results, [], quick=given.quick)
    if given.skip_latency:
        return
    print("cases done; measuring latency", flush=True)
    latency = measure_latency(given.data / MMLU, quick=given.quick)
    for row in latency:
        print(
            f"decision, {row['tier']} tier, {row['prompts']}: p50 {row['p50_us']:.0f} µs, "
            f"p99 {row['p99_us']:.0f} µs of CPU"
        )
    _save(given.json, results, latency, quick=given.quick)


def measured(
    cases: Sequence[Case], data: Path, jobs: int, quick: bool
) -> Iterator[tuple[Case, dict[str, Any]]]:
    """``measure`` of each case, in order. Cases of one pair share what was pretrained for it.

    Args:
        cases: those of one pair one after the other.
        data: folder of the tables.
        jobs: how many pairs side by side, each in a process of one thread.
        quick: few questions.
    """
    pairs = [list(same) for _, same in groupby(cases, lambda case: (case.table, case.strong))]
    if jobs == 1:
        found = (_measure_pair(same, data, quick) for same in pairs)
        yield from ((case, one) for same in found for case, one in same)
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes to come; this one has its threads
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(_measure_pair, same, data, quick) for same in pairs]
        try:
            for each in running:
                yield from each.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _measure_pair(
    cases: Sequence[Case], data: Path, quick: bool
) -> list[tuple[Case, dict[str, Any]]]:
    encoders: dict[Hashable, Encoder] = {}
    return [(case, measure(case, data, encoders, quick=quick)) for case in cases]


def _save(
    path: Path | None,
    cases: list[dict[str, Any]],
    latency: list[dict[str, Any]],
    *,
    quick: bool,
) -> None:
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    save(path, {"quick": quick, "threads": threads, "cases": cases, "latency": latency})


@dataclass(slots=True)
class Predicted:
    """What cross-validation found of every question of a case.

    Attributes:
        fast: P(good) by the real-time tier, shape (n, 2).
        full: by the fuller tier, shape (n, 2).
        met: by the fuller tier over a pool that was asked these questions, shape (n, 2).
        met_share: share of the questions that this pool remembers; below ``LEAST_MET`` there is no
            ``met``.
        reference: gain by the reference, shape (n,).
        parts: rows of each fold, and how many labels its router was trained on.
        training_s: of the slowest fold.
    """

    fast: Any
    full: Any
    met: Any
    met_share: float
    reference: Any
    parts: list[tuple[Any, int]] = field(default_factory=list)
    training_s: float = 0.0


def measure(
    case: Case, data: Path, encoders: dict[Hashable, Encoder], *, quick: bool
) -> dict[str, Any]:
    """Both tiers and every baseline, with intervals.

    ``encoders`` keeps pretrained encoders for cases that can share them.
    """
    whole, started = read_outcomes([data / case.table]), time.monotonic()
    if quick:
        whole = whole.sample(400, 0)
    table = whole.only([case.weak, case.strong])
    weak, strong = table.score[:, 0], table.score[:, 1]
    found = _cross_validate(case, whole, table, data, encoders)
    gains = {
        "reference": found.reference,
        "fast": found.fast[:, 1] - found.fast[:, 0],
        "full": found.full[:, 1] - found.full[:, 0],
    }
    if found.met_share >= LEAST_MET:
        gains["met"] = found.met[:, 1] - found.met[:, 0]
    if not case.by_group:
        gains = {name: within(found.parts, gain) for name, gain in gains.items()}
    rates = gains | {
        "length": length_win_rate(table.prompts),
        "random": np.random.default_rng(1).random(len(table)),
        "oracle": oracle_win_rate(weak, strong),
    }
    everything = np.arange(len(table))
    fresh = np.flatnonzero([put_aside(stem) for stem in stems(table)])

    def apgr(name: str, i: Any) -> float:
        return pair_curve(rates[name][i], weak[i], strong[i]).apgr

    def lead(name: str, rows: Any) -> list[float]:
        """APGR less the reference's: value and 95 % interval."""
        more = bootstrap(
            lambda i: apgr(name, rows[i]) - apgr("reference", rows[i]), len(rows), rounds=200
        )
        return [more.value, more.low, more.high]

    curve = pair_curve(rates["full"], weak, strong)
    shipped = _as_shipped(case, table) if case.as_shipped else None
    interval = bootstrap(lambda i: apgr("full", i), len(table), rounds=200)
    return {
        "case": case.name,
        "questions": len(table),
        "training_questions": case.limit or len(table) - len(table) // case.folds,
        "apgr": {name: apgr(name, everything) for name in rates},
        "full_95": [interval.low, interval.high],
        "full_less_reference": lead("full", everything),
        "met_share": found.met_share,
        "met_less_reference": lead("met", everything) if "met" in rates else None,
        "as_shipped": shipped,
        "fresh": {name: apgr(name, fresh) for name in rates} | {"questions": len(fresh)},
        "fresh_full_less_reference": lead("full", fresh),
        "cpt50": curve.cpt(0.5),
        "cpt80": curve.cpt(0.8),
        "ece": _calibration(found.full, table),
        "ece_fast": _calibration(found.fast, table),
        "ece_met": _calibration(found.met, table) if "met" in rates else None,
        "ece_of_chance": _by_chance(found.full, found.parts),
        "target": case.target,
        "training_s": found.training_s,
        "seconds": time.monotonic() - started,
    }


def _as_shipped(case: Case, table: Outcomes) -> dict[str, Any]:
    """APGR of the router that ships, trained on questions at random, and its lead."""
    encoder, models = load_router(DEFAULT_ROUTER).encoder, _models(case)
    fast, full, reference = (np.empty(shape) for shape in (*[table.score.shape] * 2, len(table)))
    parts: list[tuple[Any, int]] = []
    for _, part, test in _training(case, table, random_folds(case, table)):
        parts.append((test, len(part)))
        router = train_router(part, encoder)
        fast[test] = _predict(router, table, test, models, fast=True)
        full[test] = _predict(router, table, test, models, fast=False)
        reference[test] = _reference(part, table.take(test))
    gains = {"reference": reference} | {
        name: p_good[:, 1] - p_good[:, 0] for name, p_good in (("fast", fast), ("full", full))
    }
    rates = {name: within(parts, gain) for name, gain in gains.items()}
    weak, strong = table.score.T

    def apgr(name: str, rows: Any) -> float:
        return pair_curve(rates[name][rows], weak[rows], strong[rows]).apgr

    more = bootstrap(lambda i: apgr("full", i) - apgr("reference", i), len(table), rounds=200)
    everything = np.arange(len(table))
    met = known_to(load_router(DEFAULT_ROUTER), table.prompts).asked_pool
    return {
        **{name: apgr(name, everything) for name in rates},
        "full_less_reference": [more.value, more.low, more.high],
        "full_of_new": apgr("full", np.flatnonzero(~met)),
        "met_share": met.mean(),
        "ece": _calibration(full, table),
    }


def _models(case: Case) -> list[ModelPrior]:
    return [ModelPrior(case.weak, 0.5), ModelPrior(case.strong, 0.5)]


def _training(
    case: Case, table: Outcomes, folds: Sequence[tuple[Any, Any]]
) -> Iterator[tuple[Any, Outcomes, Any]]:
    """Of each fold the rows to train on, so many of their questions as the case has, test rows."""
    random = np.random.default_rng(0)
    for train, test in folds:
        rows = random.permutation(train)[: case.limit] if case.limit else train
        yield train, table.take(np.sort(rows)), test


def within(parts: Sequence[tuple[Any, int]], gain: Any) -> Any:
    """Each gain's place among those of its fold, in (0, 1].

    A fold's router is used alone: what it says of its own questions is not held against what
    another one, of other base rates, says of others. Where folds are drawn at random, a share of
    all calls is then the same share of each fold's, up to equal gains.
    """
    place = np.empty(len(gain))
    for rows, _ in parts:
        place[rows] = rankdata(gain[rows]) / len(rows)
    return place


def _cross_validate(
    case: Case, whole: Outcomes, table: Outcomes, data: Path, encoders: dict[Hashable, Encoder]
) -> Predicted:
    """Train on each fold's other questions, predict its own."""
    models = _models(case)
    knows = pretrained(case, whole, None, data)
    remembered = cast("Factors", knows.factors).memory.of
    share = float(np.mean([remembered(prompt).any() for prompt in table.prompts]))
    fast, full, met = (np.empty(table.score.shape) for _ in range(3))
    found = Predicted(fast, full, met, share, np.empty(len(table)))
    for train, part, test in _training(case, table, folds(case, table)):
        found.parts.append((test, len(part)))
        own = (case.weak, case.strong, train.tobytes()) if case.table in case.pool else ()
        if (case.table, own) not in encoders:
            encoders[case.table, own] = pretrained(case, whole, train, data)
        before = time.monotonic()
        router = train_router(part, encoders[case.table, own])
        found.training_s = max(found.training_s, time.monotonic() - before)
        fast[test] = _predict(router, table, test, models, fast=True)
        full[test] = _predict(router, table, test, models, fast=False)
        if share >= LEAST_MET:
            met[test] = _predict(train_router(part, knows), table, test, models, fast=False)
        found.reference[test] = _reference(part, table.take(test))
    return found


def _calibration(p_good: Any, table: Outcomes) -> dict[str, float]:
    return {
        model: reliability(p_good[:, i], table.score[:, i]).ece
        for i, model in enumerate(table.models)
    }


def _by_chance(p_good: Any, parts: Sequence[tuple[Any, int]]) -> float:
    """The error of perfect probabilities whose base rate came from the labels, worst model.

    Args:
        p_good: shape (n, 2).
        parts: rows of each fold, and how many labels their router was trained on.
    """
    random = np.random.default_rng(0)
    odds = np.log(p_good / (1.0 - p_good))
    information = np.mean(p_good * (1.0 - p_good), axis=0)
    rounds: list[list[float]] = []
    for _ in range(40):
        score, off = (random.random(p_good.shape) < p_good).astype(float), odds.copy()
        for rows, labels in parts:
            off[rows] += random.normal(size=2) / np.sqrt(information * labels)
        guess = 1.0 / (1.0 + np.exp(-off))
        rounds.append([reliability(guess[:, i], score[:, i]).ece for i in range(2)])
    return float(np.mean(rounds, axis=0).max())


def _predict(
    router: LearnedQuality, table: Outcomes, rows: Any, models: list[ModelPrior], *, fast: bool
) -> Any:
    return np.stack([router.predict(table.prompts[row], models, fast=fast) for row in rows])


def _reference(train: Outcomes, test: Outcomes) -> Any:
    """Gain by TF-IDF with logistic regression, averaged with boosting on hand-made features."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    terms, test_terms = words.fit_transform(train.prompts), words.transform(test.prompts)
    form = np.stack([hand_made(read(prompt)) for prompt in train.prompts])
    test_form = np.stack([hand_made(read(prompt)) for prompt in test.prompts])
    linear, boosted = np.zeros(len(test)), np.zeros(len(test))
    for column, sign in ((0, -1.0), (1, 1.0)):
        good = train.score[:, column] >= 0.5
        if good.all() or not good.any():
            continue
        regression = LogisticRegression(max_iter=300).fit(terms, good)
        linear += sign * regression.predict_proba(test_terms)[:, 1]
        trees = lgb.LGBMRegressor(
            n_estimators=200, learning_rate=0.03, num_leaves=15, n_jobs=1, verbose=-1
        ).fit(form, train.score[:, column])
        boosted += sign * np.asarray(trees.booster_.predict(test_form))
    return linear / (linear.std() + 1e-9) + boosted / (boosted.std() + 1e-9)


def measure_latency(path: Path, *, quick: bool) -> list[dict[str, Any]]:
    """CPU time of one decision's quality prediction, in this process, one thread."""
    table = read_outcomes([path])
    router = train_router(
        table.sample(600 if quick else 4000, 0), load_router(DEFAULT_ROUTER).encoder
    )
    models = [ModelPrior(name, 0.5) for name in table.models]
    text = "\n".join(table.prompts)
    sets = {
        "prompts as recorded": list(table.sample(1000, 1).prompts),
        "prompts of 2,000 characters": [text[i * 2000 : (i + 1) * 2000] for i in range(500)],
    }
    rows: list[dict[str, Any]] = []
    for tier, fast in (("real-time", True), ("fuller", False)):
        for name, prompts in sets.items():
            times: list[int] = []
            for prompt in (prompts[:50] + prompts)[: 200 if quick else None]:
                before = time.process_time_ns()
                router.predict(prompt, models, fast=fast)
                times.append(time.process_time_ns() - before)
            p50, p99 = np.quantile(times[50:], [0.5, 0.99]) / 1e3
            rows.append({"tier": tier, "prompts": name, "p50_us": p50, "p99_us": p99})
    return rows


if __name__ == "__main__":
    main()
