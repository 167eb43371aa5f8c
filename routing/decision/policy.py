"""From predictions to a choice: constraints first, then the cheapest that is good enough.

One function a policy, in one explicit dictionary. Each takes the feasible candidates and returns
the chosen one with the rule and the sentence that say why. What happens when nothing is feasible
is decided by the latency class, not by the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from routing.decision.budget_control import Steer
from turnout.types import Candidate

_TIE = 1e-9


@dataclass(slots=True)
class Choice:
    """The chosen candidate, the stable name of the rule, and a sentence for a person."""

    candidate: Candidate
    rule: str
    reason: str


Policy = Callable[[Sequence[Candidate], float], Choice]


def cheapest(feasible: Sequence[Candidate], target: float) -> Choice:
    """Choose the cheapest candidate whose quality is at least ``target`` x the best one's.

    Args:
        feasible: at least one candidate.
        target: share of the best quality that is good enough, in [0, 1].
    """
    top = max(candidate.prediction.quality for candidate in feasible)
    needed = target * top
    good = [c for c in feasible if c.prediction.quality >= needed - _TIE]
    chosen = min(good, key=_by_cost)
    quality = chosen.prediction.quality
    cheaper = [c for c in feasible if c.prediction.cost_usd < chosen.prediction.cost_usd - _TIE]
    if cheaper:
        rival = max(cheaper, key=lambda c: c.prediction.quality)
        return Choice(
            chosen,
            "quality",
            f"cheaper {rival.model} is expected to answer well {rival.prediction.quality:.0%} of "
            f"the time, under the {needed:.0%} this class needs ({target:.0%} of the best, "
            f"{top:.0%}); {chosen.model} reaches {quality:.0%}",
        )
    return Choice(
        chosen,
        "cheapest",
        f"cheapest candidate that reaches the target: {quality:.0%} expected, {needed:.0%} needed "
        f"({target:.0%} of the best, {top:.0%})",
    )


def best(feasible: Sequence[Candidate], target: float) -> Choice:
    """Choose the candidate with the highest expected quality, cheaper first among equals."""
    chosen = max(feasible, key=lambda c: (c.prediction.quality, -c.prediction.cost_usd))
    quality = chosen.prediction.quality
    return Choice(chosen, "best", f"highest expected quality: {quality:.0%}")


def fastest(feasible: Sequence[Candidate], target: float) -> Choice:
    """Choose the candidate with the lowest predicted p95."""
    chosen = min(feasible, key=_by_latency)
    return Choice(chosen, "fastest", f"lowest predicted p95: {shown_ms(chosen.prediction.p95_s)}")


def cascade(feasible: Sequence[Candidate], target: float) -> Choice:
    """Choose the cheapest candidate; the data plane escalates when its answer is unsure."""
    chosen = min(feasible, key=_by_cost)
    return Choice(chosen, "cascade", f"{chosen.model} answers first; it escalates when unsure")


def priced(feasible: Sequence[Candidate], choice: Choice, steer: Steer) -> Choice:
    """Correct the policy's choice by the present prices of share and budget.

    Of the candidates no dearer than the choice, the one worth most at these prices answers; at
    price zero that is the choice itself.
    """
    if steer.free:
        return choice
    usual = choice.candidate
    pool = [c for c in feasible if c.prediction.cost_usd <= usual.prediction.cost_usd]
    chosen = max(pool, key=lambda c: (steer.worth(c), c.prediction.quality))
    if chosen is usual or steer.worth(chosen) <= steer.worth(usual) + _TIE:
        return choice
    strong = steer.share_price if usual.model == steer.strongest else 0.0
    saved_usd = usual.prediction.cost_usd - chosen.prediction.cost_usd
    of_budget = steer.usd_price * saved_usd
    rule, knob = ("budget", "budget_usd_per_hour") if of_budget > strong else (
        "strong_share", "max_strong_share"
    )  # fmt: skip
    gain = usual.prediction.quality - chosen.prediction.quality
    return Choice(
        chosen,
        rule,
        f"{usual.model} would answer well {gain * 100:.1f} points more often; to hold {knob} it "
        f"must bring {(strong + of_budget) * 100:.1f} now, so {chosen.model} answers",
    )


POLICIES: dict[str, Policy] = {
    "cheapest": cheapest,
    "best": best,
    "fastest": fastest,
    "cascade": cascade,
}


def shown_ms(seconds: float) -> str:
    """Format a time in milliseconds, three digits or whole: ``4.21 ms``, ``8720 ms``."""
    ms = seconds * 1e3
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.3g} ms"


def _by_cost(candidate: Candidate) -> tuple[float, float, str]:
    prediction = candidate.prediction
    return (prediction.cost_usd, prediction.p95_s, candidate.model)


def _by_latency(candidate: Candidate) -> tuple[float, float, str]:
    prediction = candidate.prediction
    return (prediction.p95_s, prediction.cost_usd, candidate.model)
