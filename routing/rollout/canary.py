"""Statistical test of a canary version against production. Pure.

Each finished request of either becomes losses of 0 or 1 (its feedback a loss in between):

* **failed**: it raised, answered NaN, hung, or was out of service;
* **late**: its answer missed the deadline;
* **slow**: its answer took over ``slower`` times production's p95 so far;
* **unhappy**: one less its score.

On each runs the betting test of ``routing.rollout.sequential``, twice: once against "no
worse by more than the margin", which takes the canary back, and once against "worse by the margin",
which allows its promotion. Both may be evaluated after every request. The first kind shares
one probability of a false alarm; a canary is called sound only when *every* test says so, so there
each has its own. Several trials of one canary beside each other share both probabilities.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

from routing.rollout.sequential import SequentialTest, WorseTests
from turnout.catalog import Rollback

Part = Literal["production", "canary"]
Verdict = Literal["watching", "sound", "worse"]

_TESTS = ("failed", "late", "slow", "unhappy")
_WRONGLY_SOUND = 0.05
_KEPT = 500
_FEWEST = 50
_RENEW = 25


@dataclass(slots=True)
class _Mean:
    """A running mean, for a person."""

    count: int = 0
    total: float = 0.0

    def add(self, loss: float) -> None:
        self.count += 1
        self.total += loss

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None


@dataclass(slots=True)
class _ProductionLatency:
    """Production's p95 so far; None before there are enough answers."""

    times_s: deque[float] = field(default_factory=lambda: deque[float](maxlen=_KEPT))
    p95_s: float | None = None
    count: int = 0

    def add(self, took_s: float) -> None:
        self.times_s.append(took_s)
        self.count += 1
        if self.count >= _FEWEST and self.count % _RENEW == 0:
            self.p95_s = sorted(self.times_s)[math.ceil(0.95 * len(self.times_s)) - 1]


class CanaryTest:
    """The evidence on one canary.

    Args:
        rollback: how much worse it may be.
        testers: number of trials of this canary beside each other, each on its own requests.
    """

    def __init__(self, rollback: Rollback, testers: int = 1) -> None:
        self._margins: dict[str, float] = {name: getattr(rollback, name) for name in _TESTS}
        self._against = WorseTests(self._margins, rollback.false_alarm / (len(_TESTS) * testers))
        self._in_favour = {
            name: SequentialTest(-margin, _WRONGLY_SOUND / testers)
            for name, margin in self._margins.items()
        }
        self._means: dict[str, dict[Part, _Mean]] = {
            name: {"production": _Mean(), "canary": _Mean()} for name in _TESTS
        }
        self._slower = rollback.slower
        self._latency = _ProductionLatency()
        self.requests: dict[Part, int] = {"production": 0, "canary": 0}

    @property
    def worse(self) -> str | None:
        """The loss that showed the canary to be worse; None while none did."""
        return self._against.worse

    def ended(self, part: Part, *, failed: bool, late: bool | None, took_s: float | None) -> None:
        """Add a finished request.

        Args:
            part: the version it was drawn for.
            failed: whether that version failed it.
            late: whether its answer missed the deadline; None when the version is not to blame
                (it was not loaded yet, for example).
            took_s: seconds from its arrival to the answer of that version, or None likewise.
        """
        self.requests[part] += 1
        self._add(part, "failed", float(failed))
        if late is not None:
            self._add(part, "late", float(late))
        if took_s is None or failed:
            return
        usual_s = self._latency.p95_s
        if usual_s is not None:
            self._add(part, "slow", float(took_s > self._slower * usual_s))
        if part == "production":
            self._latency.add(took_s)

    def scored(self, part: Part, score: float) -> None:
        """Add the score of an answer of this part, in [0, 1]."""
        self._add(part, "unhappy", 1.0 - score)

    @property
    def verdict(self) -> Verdict:
        """``worse``: roll it back; ``sound``: shown to be no worse; else ``watching``."""
        if self.worse is not None:
            return "worse"
        if all(test.alarm for name, test in self._in_favour.items() if self._counts(name)):
            return "sound"
        return "watching"

    @property
    def why(self) -> str:
        """The verdict in a sentence."""
        if self.worse is not None:
            return self._worse_because(self.worse)
        canary = self.requests["canary"]
        if self.verdict == "sound":
            return f"shown to be no worse than production in {canary} requests"
        return f"{canary} requests, nothing against it yet, and not enough for it"

    def state(self) -> dict[str, Any]:
        """Return the evidence as plain values; ``against`` reaches ``needed`` when a test fails it.

        ``for`` likewise reaches ``enough`` when the test has shown that it is no worse.
        """
        return {
            "verdict": self.verdict,
            "why": self.why,
            "requests": dict(self.requests),
            "usual_p95_ms": None if self._latency.p95_s is None else self._latency.p95_s * 1e3,
            "tests": {name: self._evidence(name) for name in _TESTS},
        }

    def _counts(self, name: str) -> bool:
        """Return whether a test must favour the canary: without feedback ``unhappy`` need not."""
        return name in ("failed", "late") or self._means[name]["canary"].count > 0

    def _add(self, part: Part, name: str, loss: float) -> None:
        self._means[name][part].add(loss)
        self._against.add(name, loss, canary=part == "canary")
        test = self._in_favour[name]
        if part == "canary":
            test.old(loss)
        else:
            test.new(loss)

    def _worse_because(self, name: str) -> str:
        means = self._means[name]
        canary, production = means["canary"], means["production"]
        return (
            f"{name}: {canary.mean or 0.0:.1%} of {canary.count} requests of the canary, "
            f"{production.mean or 0.0:.1%} of {production.count} of production; "
            f"{self._margins[name]:.1%} more is allowed"
        )

    def _evidence(self, name: str) -> dict[str, Any]:
        against, in_favour = self._against.tests[name], self._in_favour[name]
        return {
            part: None if losses.mean is None else round(losses.mean, 6)
            for part, losses in self._means[name].items()
        } | {
            "margin": self._margins[name],
            "pairs": against.pairs,
            "against": _finite(against.wealth),
            "needed": round(against.limit, 4),
            "for": _finite(in_favour.wealth),
            "enough": round(in_favour.limit, 4),
        }


def _finite(wealth: float) -> float:
    """Return a finite number for JSON, which has no infinity."""
    return round(min(wealth, 1e12), 4)
