"""Measure one case of the router's benchmark: cross-validation, rates, intervals."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import lightgbm as lgb
import numpy as np
from scipy.stats import rankdata
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.router_cases import (
    DEFAULT_ROUTER,
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
from routing.evaluation.seen_questions import seen_by
from routing.features.text import form_values, read
from routing.quality import LearnedQuality, ModelPrior, load_router
from routing.quality.encoder import Encoder
from routing.quality.factors import Factors
from routing.training.fit import train_router
from routing.training.outcomes import Outcomes, read_outcomes

LEAST_MET: Final = 0.05
ROUNDS: Final = 200


@dataclass(slots=True)
class Predicted:
    """The cross-validated predictions of a case's questions.

    Attributes:
        fast: P(good) by the real-time tier, shape (n, 2).
        full: by the fuller tier, shape (n, 2).
        met: by the fuller tier over a pool that was asked these questions, shape (n, 2); None
            where there is no such pool.
        reference: gain by the reference, shape (n,).
        parts: rows of each fold, and how many labels its router was trained on.
        training_s: of the slowest fold.
    """

    fast: Any
    full: Any
    met: Any | None
    reference: Any
    parts: list[tuple[Any, int]] = field(default_factory=list)
    training_s: float = 0.0

    def gains(self) -> dict[str, Any]:
        """Return the gains by name, shape (n,) each."""
        found = {"reference": self.reference}
        for name, p_good in (("fast", self.fast), ("full", self.full), ("met", self.met)):
            if p_good is not None:
                found[name] = p_good[:, 1] - p_good[:, 0]
        return found

    def places(self) -> dict[str, Any]:
        """Return ``within`` of each gain."""
        return {name: within(self.parts, gain) for name, gain in self.gains().items()}


@dataclass(frozen=True, slots=True)
class Scores:
    """The win rates by name, shape (n,) each, compared with the recorded scores.

    Attributes:
        rates: "reference" is one of them.
        weak: score of the weak model, shape (n,).
        strong: score of the strong model, shape (n,).
    """

    rates: dict[str, Any]
    weak: Any
    strong: Any

    def apgr(self, name: str, rows: Any) -> float:
        """Return the APGR on these rows."""
        return pair_curve(self.rates[name][rows], self.weak[rows], self.strong[rows]).apgr

    def lead(self, name: str, rows: Any) -> list[float]:
        """Return the APGR minus the reference's: value and 95 % interval."""

        def more(i: Any) -> float:
            return self.apgr(name, rows[i]) - self.apgr("reference", rows[i])

        found = bootstrap(more, len(rows), rounds=ROUNDS)
        return [found.value, found.low, found.high]


def measure(
    case: Case, data: Path, encoders: dict[Hashable, Encoder], *, quick: bool
) -> dict[str, Any]:
    """Measure both tiers and all baselines, with intervals.

    ``encoders`` keeps pretrained encoders for cases that can share them.
    """
    whole, started = read_outcomes([data / case.table]), time.monotonic()
    if quick:
        whole = whole.sample(400, 0)
    table = whole.only([case.weak, case.strong])
    weak, strong = table.score.T
    knows = pretrained(case, whole, None, data)
    remembered = cast("Factors", knows.factors).memory.of
    met_share = float(np.mean([remembered(prompt).any() for prompt in table.prompts]))

    def encoder(train: Any) -> Encoder:
        own = (case.weak, case.strong, train.tobytes()) if case.table in case.pool else ()
        if (case.table, own) not in encoders:
            encoders[case.table, own] = pretrained(case, whole, train, data)
        return encoders[case.table, own]

    met = knows if met_share >= LEAST_MET else None
    found = _cross_validate(case, table, folds(case, table), encoder, met)
    scores = Scores(
        (found.gains() if case.by_group else found.places())
        | {
            "length": length_win_rate(table.prompts),
            "random": np.random.default_rng(1).random(len(table)),
            "oracle": oracle_win_rate(weak, strong),
        },
        weak,
        strong,
    )
    everything = np.arange(len(table))
    fresh = np.flatnonzero([put_aside(stem) for stem in stems(table)])
    curve = pair_curve(scores.rates["full"], weak, strong)
    interval = bootstrap(lambda i: scores.apgr("full", i), len(table), rounds=ROUNDS)
    return {
        "case": case.name,
        "questions": len(table),
        "training_questions": case.limit or len(table) - len(table) // case.folds,
        "apgr": {name: scores.apgr(name, everything) for name in scores.rates},
        "full_95": [interval.low, interval.high],
        "full_less_reference": scores.lead("full", everything),
        "met_share": met_share,
        "met_less_reference": None if met is None else scores.lead("met", everything),
        "as_shipped": _as_shipped(case, table) if case.as_shipped else None,
        "fresh": {name: scores.apgr(name, fresh) for name in scores.rates}
        | {"questions": len(fresh)},
        "fresh_full_less_reference": scores.lead("full", fresh),
        "cpt50": curve.cpt(0.5),
        "cpt80": curve.cpt(0.8),
        "ece": _calibration(found.full, table),
        "ece_fast": _calibration(found.fast, table),
        "ece_met": None if met is None else _calibration(found.met, table),
        "ece_of_chance": _by_chance(found.full, found.parts),
        "target": case.target,
        "training_s": found.training_s,
        "seconds": time.monotonic() - started,
    }


def _as_shipped(case: Case, table: Outcomes) -> dict[str, Any]:
    """Measure the router that ships, which is trained on random questions."""
    shipped = load_router(DEFAULT_ROUTER)
    parts = random_folds(case, table)
    found = _cross_validate(case, table, parts, lambda _: shipped.encoder, None)
    scores = Scores(found.places(), *table.score.T)
    everything = np.arange(len(table))
    met = seen_by(shipped, table.prompts).asked_pool
    return {
        **{name: scores.apgr(name, everything) for name in scores.rates},
        "full_less_reference": scores.lead("full", everything),
        "full_of_new": scores.apgr("full", np.flatnonzero(~met)),
        "met_share": float(met.mean()),
        "ece": _calibration(found.full, table),
    }


def within(parts: Sequence[tuple[Any, int]], gain: Any) -> Any:
    """Return each gain's rank within its fold, in (0, 1].

    A fold's router is used alone: what it says of its own questions is not held against what
    another one, of other base rates, says of others. Where folds are drawn at random, a share of
    all calls is then the same share of each fold's, up to equal gains.
    """
    place = np.empty(len(gain))
    for rows, _ in parts:
        place[rows] = rankdata(gain[rows]) / len(rows)
    return place


def _cross_validate(
    case: Case,
    table: Outcomes,
    parts: Sequence[tuple[Any, Any]],
    encoder: Callable[[Any], Encoder],
    met: Encoder | None,
) -> Predicted:
    """Train on each fold's other questions and predict its own.

    Args:
        case: says how many questions to train on.
        table: of the pair.
        parts: rows to train on and to predict.
        encoder: from rows to train on to what a router starts from.
        met: one whose pool was asked these questions.
    """
    models = [ModelPrior(case.weak, 0.5), ModelPrior(case.strong, 0.5)]
    fast, full, remembered = (np.empty(table.score.shape) for _ in range(3))
    found = Predicted(fast, full, None if met is None else remembered, np.empty(len(table)))
    random = np.random.default_rng(0)
    for train, test in parts:
        rows = random.permutation(train)[: case.limit] if case.limit else train
        part = table.take(np.sort(rows))
        found.parts.append((test, len(part)))
        known, before = encoder(train), time.monotonic()
        router = train_router(part, known)
        found.training_s = max(found.training_s, time.monotonic() - before)
        fast[test] = _predict(router, table, test, models, fast=True)
        full[test] = _predict(router, table, test, models, fast=False)
        if met is not None:
            remembered[test] = _predict(train_router(part, met), table, test, models, fast=False)
        found.reference[test] = _reference(part, table.take(test))
    return found


def _calibration(p_good: Any, table: Outcomes) -> dict[str, float]:
    return {
        model: reliability(p_good[:, i], table.score[:, i]).ece
        for i, model in enumerate(table.models)
    }


def _by_chance(p_good: Any, parts: Sequence[tuple[Any, int]]) -> float:
    """Return the worst model's calibration error of perfect probabilities with drawn labels.

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
    """Return the gain by TF-IDF with logistic regression, averaged with boosted features."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    terms, test_terms = words.fit_transform(train.prompts), words.transform(test.prompts)
    form = np.array([form_values(read(prompt)) for prompt in train.prompts], np.float32)
    test_form = np.array([form_values(read(prompt)) for prompt in test.prompts], np.float32)
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
