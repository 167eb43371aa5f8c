"""Report of a replay: the models that would answer, and estimates of the rewards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from routing.replay.cascade import mixed
from routing.replay.log import Row
from routing.replay.off_policy import Estimates, Evidence, estimate
from routing.replay.replay import ReplayedDecision
from turnout.types import Prediction


@dataclass(frozen=True, slots=True)
class Report:
    """A replay's findings.

    Attributes:
        requests: decisions in the log.
        same: number of requests that would go to the same model.
        refused: number of requests that would be refused.
        logged: answers by model, as logged.
        replayed: answers by model, as decided again; of a cascade the first model.
        escalated: share of a cascade's rows that are answered twice, ``logged`` and ``replayed``;
            ``unknown`` requests, for which the log is not enough. Empty without a cascade.
        rewards: estimates by name: ``quality`` (feedback), ``cost_usd``, ``first_s``, ``total_s``.
    """

    requests: int
    same: int
    refused: int
    logged: dict[str, int]
    replayed: dict[str, int]
    escalated: dict[str, float]
    rewards: dict[str, Estimates]

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)


_TIE = 1e-9
_Reward = tuple[Callable[[Row], float | None], Callable[[Prediction], float]]
_REWARDS: dict[str, _Reward] = {
    "quality": (lambda row: row.score, lambda prediction: prediction.quality),
    "cost_usd": (lambda row: row.cost_usd, lambda prediction: prediction.cost_usd),
    "first_s": (lambda row: row.first_s, lambda prediction: prediction.p50_s),
}


def report(replayed: Sequence[ReplayedDecision], *, rounds: int = 500, seed: int = 0) -> Report:
    """Compare a replay with its log; a reward that was never observed is left out."""
    rewards: dict[str, Estimates] = {}
    for name, (observed, predicted) in _REWARDS.items():
        evidence = _evidence(replayed, observed, predicted)
        if evidence is not None:
            rewards[name] = estimate(evidence, rounds=rounds, seed=seed)
    return Report(
        requests=len(replayed),
        same=sum(_same(each) for each in replayed),
        refused=sum(each.model is None for each in replayed),
        logged=dict(Counter(each.row.model for each in replayed).most_common()),
        replayed=dict(Counter(each.model for each in replayed if each.model).most_common()),
        escalated=_escalated(replayed),
        rewards=rewards,
    )


def _escalated(replayed: Sequence[ReplayedDecision]) -> dict[str, float]:
    logged = [
        (step.rows if step.done else 0, step.of) for each in replayed if (step := each.row.step)
    ]
    decided = [(each.second.rows, each.second.of) if each.second else (0, each.row.step.of)
             for each in replayed if each.row.step is not None]  # fmt: skip
    unknown = sum(each.unknown for each in replayed)
    if not logged and not unknown and not any(each.second for each in replayed):
        return {}
    return {"logged": _share(logged), "replayed": _share(decided), "unknown": unknown}


def _share(rows: Sequence[tuple[int, int]]) -> float:
    return sum(row for row, _ in rows) / max(sum(of for _, of in rows), 1)


def _logged_share(row: Row) -> float:
    return 0.0 if row.step is None else row.step.share


def _same(each: ReplayedDecision) -> bool:
    """Return whether the same models would answer, the same number of rows each."""
    return each.model == each.row.model and abs(each.share - _logged_share(each.row)) < _TIE


def _logged_prediction(row: Row) -> Prediction:
    """Return the prediction for the logged answer."""
    first, share = row.candidate(row.model).prediction, _logged_share(row)
    if row.step is None or not share:
        return first
    return mixed(first, row.candidate(row.step.to).prediction, share)


def _evidence(
    replayed: Sequence[ReplayedDecision],
    observed: Callable[[Row], float | None],
    predicted: Callable[[Prediction], float],
) -> Evidence | None:
    """Return the requests with a known reward that would be answered; None if there are none."""
    samples: list[tuple[bool, float, float, float, float, float]] = []
    for each in replayed:
        reward, row, model, new = observed(each.row), each.row, each.model, each.prediction
        if reward is None or model is None or new is None or each.unknown:
            continue
        same, chance = _same(each), row.propensity[row.model]
        # Escalation is deterministic: the logged policy did it, or never does it.
        never = model == row.model and not same
        support = 0.0 if never else row.propensity[model]
        old = predicted(_logged_prediction(row))
        samples.append((same, chance, support, reward, old, predicted(new)))
    if not samples:
        return None
    same, chance, support, reward, old, new = zip(*samples, strict=True)
    return Evidence(
        np.array(same, np.bool_),
        np.array(chance, np.float64),
        np.array(support, np.float64),
        np.array(reward, np.float64),
        np.array(old, np.float64),
        np.array(new, np.float64),
    )
