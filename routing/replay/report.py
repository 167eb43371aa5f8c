"""What a replay found, as numbers: who would answer, and what that would have meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from routing.replay.cascade import mixed
from routing.replay.log import Row
from routing.replay.off_policy import Estimates, Evidence, estimate
from routing.replay.replay import Again
from turnout.types import Prediction


@dataclass(frozen=True, slots=True)
class Report:
    """A replay's findings.

    Attributes:
        requests: decisions in the log.
        same: how many would go to the same model.
        refused: how many would be refused.
        logged: answers by model, as logged.
        replayed: answers by model, as decided again; of a cascade who answers first.
        escalated: share of a cascade's rows that are answered twice, ``logged`` and ``replayed``;
            ``unknown`` requests, of which the log does not say. Empty without a cascade.
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
        """The report as plain values."""
        return asdict(self)


_TIE = 1e-9
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
        same=sum(_same(each) for each in found),
        refused=sum(each.model is None for each in found),
        logged=dict(Counter(each.row.model for each in found).most_common()),
        replayed=dict(Counter(each.model for each in found if each.model).most_common()),
        escalated=_escalated(found),
        rewards=rewards,
    )


def _escalated(found: Sequence[Again]) -> dict[str, float]:
    logged = [(step.rows if step.done else 0, step.of) for a in found if (step := a.row.step)]
    again = [(a.second.rows, a.second.of) if a.second else (0, a.row.step.of)
             for a in found if a.row.step is not None]  # fmt: skip
    unknown = sum(each.unknown for each in found)
    if not logged and not unknown and not any(each.second for each in found):
        return {}
    return {"logged": _share(logged), "replayed": _share(again), "unknown": unknown}


def _share(rows: Sequence[tuple[int, int]]) -> float:
    return sum(row for row, _ in rows) / max(sum(of for _, of in rows), 1)


def _logged_share(row: Row) -> float:
    return 0.0 if row.step is None else row.step.share


def _same(each: Again) -> bool:
    """Whether the same models would answer, the same number of rows each."""
    return each.model == each.row.model and abs(each.share - _logged_share(each.row)) < _TIE


def _taken(row: Row) -> Prediction:
    """What was predicted of what was done."""
    first, share = row.candidate(row.model).prediction, _logged_share(row)
    if row.step is None or not share:
        return first
    return mixed(first, row.candidate(row.step.to).prediction, share)


def _evidence(
    found: Sequence[Again],
    observed: Callable[[Row], float | None],
    predicted: Callable[[Prediction], float],
) -> Evidence | None:
    """The requests whose reward is known and that would be answered; None when there are none."""
    known: list[tuple[bool, float, float, float, float, float]] = []
    for each in found:
        reward, row, model, new = observed(each.row), each.row, each.model, each.told
        if reward is None or model is None or new is None or each.unknown:
            continue
        same, chance = _same(each), row.propensity[row.model]
        # Who goes on is no matter of chance: it was done, or the log never does it.
        never = model == row.model and not same
        support = 0.0 if never else row.propensity[model]
        known.append((same, chance, support, reward, predicted(_taken(row)), predicted(new)))
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
