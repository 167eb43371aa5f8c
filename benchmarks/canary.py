"""Measure how soon a bad canary is rolled back, and how often a good one, in simulation.

On the same requests the betting test is compared with the rule of dashboards: over the last 200
requests of each version (and at least 100), the canary's error rate is over twice production's and
over 2 points higher. Pure simulation: no server, no clock.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.provenance import save
from routing.rollout.canary import CanaryTest, Part
from turnout.catalog import Rollback

SHARE = 0.05
WINDOW, FEWEST = 200, 100


@dataclass(frozen=True)
class Case:
    """The failure rates of both versions, and the canary's slowdown.

    Attributes:
        name: the name of the case.
        production: production's failure rate, by number of the request.
        canary: the canary's failure rate, likewise.
        slower: the canary's time as a multiple of production's.
        bad: whether the canary should be rolled back.
    """

    name: str
    production: Callable[[int], float]
    canary: Callable[[int], float]
    slower: float = 1.0
    bad: bool = True


def _always(rate: float) -> Callable[[int], float]:
    return lambda index: rate


def _outage(index: int) -> float:
    """Return the failure rate with an outage of both versions every 2,000 requests."""
    return 0.3 if index % 2000 < 200 else 0.005


CASES = (
    Case("equal, 1 % fail", _always(0.01), _always(0.01), bad=False),
    Case("equal, outages that hit both", _outage, _outage, bad=False),
    Case("always fails", _always(0.01), _always(1.0)),
    Case("30 % fail", _always(0.01), _always(0.3)),
    Case("10 % fail", _always(0.01), _always(0.1)),
    Case("5 % fail", _always(0.01), _always(0.05)),
    Case("four times slower", _always(0.01), _always(0.01), slower=4.0),
)


class Rule:
    """The rule of the windowed ratio."""

    def __init__(self) -> None:
        self._last: dict[Part, deque[bool]] = {
            "production": deque(maxlen=WINDOW),
            "canary": deque(maxlen=WINDOW),
        }
        self.worse = False

    def ended(self, part: Part, failed: bool) -> None:
        """Record a request and decide at once."""
        self._last[part].append(failed)
        if part == "production" or min(map(len, self._last.values())) < FEWEST:
            return
        old, new = (sum(each) / len(each) for each in self._last.values())
        self.worse = self.worse or new > max(2.0 * old, old + 0.02)


def run(case: Case, requests: int, seed: int) -> tuple[int | None, int | None]:
    """Return the canary requests until the test and until the rule roll it back; None for never."""
    rng = np.random.default_rng(seed)
    draws, fails = rng.random(requests), rng.random(requests)
    took_s = 0.01 * rng.lognormal(0.0, 0.4, requests)
    trial, rule = CanaryTest(Rollback()), Rule()
    asked, by_test, by_rule = 0, None, None
    for index in range(requests):
        canary = bool(draws[index] < SHARE)
        part: Part = "canary" if canary else "production"
        asked += canary
        failed = bool(fails[index] < (case.canary if canary else case.production)(index))
        slower = case.slower if canary else 1.0
        trial.ended(part, failed=failed, late=False, took_s=float(took_s[index]) * slower)
        rule.ended(part, failed)
        if by_test is None and trial.worse is not None:
            by_test = asked
        if by_rule is None and rule.worse:
            by_rule = asked
        if by_test is not None and by_rule is not None:
            break
    return by_test, by_rule


def measure(case: Case, runs: int, requests: int) -> dict[str, Any]:
    """Run a case many times."""
    found = [run(case, requests, seed) for seed in range(runs)]
    shown: dict[str, Any] = {"case": case.name, "should_be_taken_back": case.bad}
    for place, name in enumerate(("test", "rule")):
        taken = [after for one in found if (after := one[place]) is not None]
        shown[name] = {
            "taken_back": len(taken) / runs,
            "median_canary_requests": median(taken) if taken else None,
        }
    return shown


def main() -> None:
    """Run every case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(f"{arguments.runs} runs of {arguments.requests} requests, {SHARE:.0%} to the canary")
    print(f"{'':30} {'taken back: test':>18} {'rule':>8} {'after: test':>14} {'rule':>8}")
    rows = [measure(case, arguments.runs, arguments.requests) for case in CASES]
    for row in rows:
        test, rule = row["test"], row["rule"]
        print(
            f"{row['case']:30} {test['taken_back']:>18.0%} {rule['taken_back']:>8.0%} "
            f"{test['median_canary_requests'] or '-':>14} "
            f"{rule['median_canary_requests'] or '-':>8}"
        )
    settings = {"runs": arguments.runs, "requests": arguments.requests, "share": SHARE}
    save(arguments.json, settings | {"cases": rows})


if __name__ == "__main__":
    main()
