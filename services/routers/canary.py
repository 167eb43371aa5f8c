"""A canary router on trial: stopped as soon as it is shown to be worse."""

from __future__ import annotations

import logging
from typing import Any

from routing.rollout.sequential import SequentialTest

logger = logging.getLogger("turnout.routers")

_NOT_ITS_FAULT = frozenset({"cancelled", "invalid_request"})


class RouterCanary:
    """Compares the canary's requests with the serving router's.

    Three losses, each with its own test: the request failed; its answer missed the deadline; its
    feedback was low. Together they raise a false alarm in at most one trial of twenty.
    """

    def __init__(self) -> None:
        self._tests = {
            "failed": SequentialTest(),
            "late": SequentialTest(),
            "unhappy": SequentialTest(),
        }
        self.stopped: str | None = None

    def ended(self, part: str | None, status: str, held: bool) -> None:
        """A request that this router decided has ended."""
        if part is None or status in _NOT_ITS_FAULT:
            return
        self._add(part, "failed", float(status != "ok"))
        self._add(part, "late", float(not held))

    def scored(self, part: str | None, score: float) -> None:
        """Feedback on such a request, in [0, 1]."""
        if part is not None:
            self._add(part, "unhappy", 1.0 - score)

    def state(self) -> dict[str, Any]:
        """The evidence: an alarm is raised where a wealth reaches 60."""
        return {
            "stopped": self.stopped,
            "tests": {
                name: {"pairs": test.pairs, "wealth": round(test.wealth, 4)}
                for name, test in self._tests.items()
            },
        }

    def _add(self, part: str, name: str, loss: float) -> None:
        test = self._tests[name]
        if part == "canary":
            test.new(loss)
        else:
            test.old(loss)
        if test.alarm and self.stopped is None:
            self.stopped = name
            logger.error("canary router stopped: its requests are worse (%s)", name)
