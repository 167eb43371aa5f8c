"""What a replay found, as numbers: who would answer, and what that would have meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from routing.log_row import Row
from routing.off_policy import Estimates, Evidence, estimate
from routing.replay import Again
from turnout.types import Prediction


@dataclass(frozen=True, slots=True)
class Report:
    """A replay's findings.

    Attributes:
        requests: decisions in the log.
        same: how many would go to the same model.
        refused: how many would be refused.
        logged: answers by model, as logged.
        replayed: answers by model, as decided again.
        rewards: estimates by name: ``quality`` (feedback), ``cost_usd``, ``first_s``, ``total_s``.
    """

    requests: int
    same: int
    refused: int
    logged: dict[str, int]
    replayed: dict[str, int]
    rewards: dict[str, Estimates]

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)


_Reward = tuple[Callable[[Row], float | None], Callable[[Prediction], float]]
_REWARDS: dict[str, _Reward] = {
    "quality": (lambda row: row.score, lambda told: told.quality),
    "cost_usd": (lambda row: row.cost_usd, lambda told: told.cost_usd),
    "first_s": (lambda row: row.first_s, lambda told: told.p50_s),
}


def report(found: Sequence[Again], *, rounds: int = 500, seed: int = 0) -> Report:
    """Compare a replay with its log; a reward that was never observed is left out."""
    rewards: dict[str, Estimates] = {}
    for name, (observed, predicted) in _REWARDS.items():
        evidence = _evidence(found, observed, predicted)
        if evidence is not None:
            rewards[name] = estimate(evidence, rounds=rounds, seed=seed)
    return Report(
        requests=len(found),
        same=sum(each.model == each.row.model for each in found),
        refused=sum(each.model is None for each in found),
        logged=dict(Counter(each.row.model for each in found).most_common()),
        replayed=dict(Counter(each.model for each in found if each.model).most_common()),
        rewards=rewards,
    )


def _evidence(
    found: Sequence[Again],
    observed: Callable[[Row], float | None],
    predicted: Callable[[Prediction], float],
) -> Evidence | None:
    """The requests whose reward is known and that would be answered; None when there are none."""
    known: list[tuple[bool, float, float, float, float, float]] = []
    for each in found:
        reward, row, model = observed(each.row), each.row, each.model
        if reward is None or model is None:
            continue
        taken, new = row.candidate(row.model).prediction, row.candidate(model).prediction
        chance, support = row.propensity[row.model], row.propensity[model]
        known.append(
            (row.model == model, chance, support, reward, predicted(taken), predicted(new))
        )
    if not known:
        return None
    same, chance, support, reward, taken, new = zip(*known, strict=True)
    return Evidence(
        np.array(same, np.bool_),
        np.array(chance, np.float64),
        np.array(support, np.float64),
        np.array(reward, np.float64),
        np.array(taken, np.float64),
        np.array(new, np.float64),
    )
