"""Report on one weak/strong pair of models on recorded outcomes."""

# pyright: basic

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routing.evaluation.bootstrap import Interval, bootstrap
from routing.evaluation.calibration import Reliability, reliability
from routing.evaluation.pair import (
    Curve,
    length_win_rate,
    oracle_win_rate,
    pair_curve,
    quality_at,
)
from routing.evaluation.pool import pool_frontier

Floats = NDArray[np.float64]
SHARES: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True, slots=True)
class PairReport:
    """A router beside random, length-only and oracle routing.

    Attributes:
        weak: name of the weak model.
        strong: name of the strong model.
        questions: number of questions that both models answered.
        curves: by method: router, length (of prompts), random, oracle.
        apgr: by method, with intervals.
        cpt50: strong calls needed for half the gap, by method.
        cpt80: strong calls needed for 80 % of the gap, by method.
        at_share: mean score by method when the strong model answers these shares of questions,
            those with the highest win rate; equal rates in the table's order.
        reliability: calibration of both models.
        cost: mean cost of an answer by model, in USD; NaN where not recorded.
        aiq: of the router and of the best single-model mixture; None without costs.
    """

    weak: str
    strong: str
    questions: int
    curves: Mapping[str, Curve]
    apgr: Mapping[str, Interval]
    cpt50: Mapping[str, float]
    cpt80: Mapping[str, float]
    at_share: Mapping[str, Mapping[float, float]]
    reliability: Mapping[str, Reliability]
    cost: Mapping[str, float]
    aiq: Mapping[str, float] | None

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers for ``--json``."""
        methods = {
            name: {
                "apgr": self.apgr[name].value,
                "apgr_95": [self.apgr[name].low, self.apgr[name].high],
                "cpt50": self.cpt50[name],
                "cpt80": self.cpt80[name],
                "strong_share": curve.share.tolist(),
                "quality": curve.quality.tolist(),
                "pgr": curve.pgr.tolist(),
                "mean_cost_usd": self.mean_cost(curve),
                "at_share": {f"{share:g}": q for share, q in self.at_share[name].items()},
            }
            for name, curve in self.curves.items()
        }
        return {
            "weak": self.weak,
            "strong": self.strong,
            "questions": self.questions,
            "methods": methods,
            "ece": {model: reliability.ece for model, reliability in self.reliability.items()},
            "aiq": None if self.aiq is None else dict(self.aiq),
        }

    def mean_cost(self, curve: Curve) -> list[float] | None:
        """Return the mean cost per question at each point; None where not recorded."""
        weak, strong = self.cost[self.weak], self.cost[self.strong]
        if np.isnan(weak) or np.isnan(strong):
            return None
        return (weak + curve.share * (strong - weak)).tolist()


def pair_report(
    *,
    names: tuple[str, str],
    prompts: Sequence[str] | None,
    p_good: Floats,
    score: Floats,
    cost: Floats,
    more: Mapping[str, Floats] = MappingProxyType({}),
    rounds: int = 500,
    seed: int = 0,
) -> PairReport:
    """Evaluate predictions of a weak and a strong model.

    Args:
        names: weak, strong.
        prompts: n questions; None where the queries are no texts and have no length.
        p_good: shape (n, 2), weak then strong.
        score: shape (n, 2), recorded; no NaN.
        cost: shape (n, 2), NaN where not recorded.
        more: win rates of other methods, shape (n,), by name.
        rounds: bootstrap resamples.
        seed: of resampling, of the random router and of the oracle's ties.

    Raises:
        DataError: the strong model is not better on average.
    """
    weak, strong = score[:, 0], score[:, 1]
    rates = {
        "router": p_good[:, 1] - p_good[:, 0],
        **({} if prompts is None else {"length": length_win_rate(prompts)}),
        **more,
        "random": np.random.default_rng(seed).random(len(weak)),
        "oracle": oracle_win_rate(weak, strong, seed),
    }
    curves = {name: pair_curve(rate, weak, strong) for name, rate in rates.items()}
    apgr = {
        name: bootstrap(
            lambda rows, rate=rate: pair_curve(rate[rows], weak[rows], strong[rows]).apgr,
            len(weak),
            rounds=rounds,
            seed=seed,
        )
        for name, rate in rates.items()
    }
    means = np.array([_mean(cost[:, 0]), _mean(cost[:, 1])])
    aiq = None
    if not np.isnan(means).any():
        filled = np.where(np.isnan(cost), means, cost)
        frontier = pool_frontier(p_good, score, filled)
        low, high = float(means.min()), float(means.max())
        mixture = float(score.mean(axis=0).mean())
        aiq = {"router": frontier.aiq(low, high), "mixture": mixture} if high > low else None
    return PairReport(
        weak=names[0],
        strong=names[1],
        questions=len(weak),
        curves=curves,
        apgr=apgr,
        cpt50={name: curve.cpt(0.5) for name, curve in curves.items()},
        cpt80={name: curve.cpt(0.8) for name, curve in curves.items()},
        at_share={
            name: {share: quality_at(rate, weak, strong, share) for share in SHARES}
            for name, rate in rates.items()
        },
        reliability={name: reliability(p_good[:, i], score[:, i]) for i, name in enumerate(names)},
        cost=dict(zip(names, means.tolist(), strict=True)),
        aiq=aiq,
    )


def _mean(values: Floats) -> float:
    recorded = values[~np.isnan(values)]
    return float(recorded.mean()) if len(recorded) else float("nan")
