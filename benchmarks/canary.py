"""How soon a bad canary is gone, and how often a good one is taken back: simulated requests.

Beside the betting test, in the same requests, the rule that dashboards use: over the last 200
requests of each version (and at least 100), the canary's errors are over twice production's and
over 2 points more. Pure simulation: no server, no clock.
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
    """How often each version fails, and how much longer the canary takes.

    Attributes:
        name: of the case.
        production: share of production's requests that fail, by number of the request.
        canary: likewise.
        slower: times production's time that the canary takes.
        bad: whether it should be taken back.
    """

    name: str
    production: Callable[[int], float]
    canary: Callable[[int], float]
    slower: float = 1.0
    bad: bool = True


def _always(rate: float) -> Callable[[int], float]:
    return lambda index: rate


def _outage(index: int) -> float:
    """Both versions fail more for a while, every 2,000 requests."""
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
    """The windowed ratio."""

    def __init__(self) -> None:
        self._last: dict[Part, deque[bool]] = {
            "production": deque(maxlen=WINDOW),
            "canary": deque(maxlen=WINDOW),
        }
        self.worse = False

    def ended(self, part: Part, failed: bool) -> None:
        """Hear of a request; look at once."""
        self._last[part].append(failed)
        if part == "production" or min(map(len, self._last.values())) < FEWEST:
            return
        old, new = (sum(each) / len(each) for each in self._last.values())
        self.worse = self.worse or new > max(2.0 * old, old + 0.02)


def run(case: Case, requests: int, seed: int) -> tuple[int | None, int | None]:
    """Canary requests until the test, and until the rule, takes it back; None: never."""
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
    """A case, many times."""
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
