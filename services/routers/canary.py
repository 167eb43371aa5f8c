"""Trial of a canary router, which stops as soon as it is shown to be worse."""

from __future__ import annotations

import logging
from typing import Any

from routing.rollout.sequential import WorseTests

logger = logging.getLogger("turnout.routers")

_LOSSES = ("failed", "late", "unhappy")
_MARGIN = 0.02
_FALSE_ALARM = 0.05
_NOT_ITS_FAULT = frozenset({"cancelled", "invalid_request"})


class RouterCanary:
    """Compares the canary's requests with the serving router's.

    Three losses, each with its own test: the request failed; its answer missed the deadline; its
    feedback was low. Together they raise a false alarm in at most one trial of twenty.
    """

    def __init__(self) -> None:
        self._tests = WorseTests(dict.fromkeys(_LOSSES, _MARGIN), _FALSE_ALARM / len(_LOSSES))

    @property
    def worse(self) -> str | None:
        """The loss that showed the canary to be worse; None while none did."""
        return self._tests.worse

    def ended(self, part: str | None, status: str, held: bool) -> None:
        """Count a finished request that this part decided; ``held``: within its deadline."""
        if part is None or status in _NOT_ITS_FAULT:
            return
        self._add(part, "failed", float(status != "ok"))
        self._add(part, "late", float(not held))

    def scored(self, part: str | None, score: float) -> None:
        """Count the score of such a request, in [0, 1]."""
        if part is not None:
            self._add(part, "unhappy", 1.0 - score)

    def state(self) -> dict[str, Any]:
        """Return the evidence; a test raises the alarm where its wealth reaches 60."""
        return {
            "stopped": self.worse,
            "tests": {
                name: {"pairs": test.pairs, "wealth": round(test.wealth, 4)}
                for name, test in self._tests.tests.items()
            },
        }

    def _add(self, part: str, name: str, loss: float) -> None:
        before = self.worse
        self._tests.add(name, loss, canary=part == "canary")
        if before is None and self.worse is not None:
            logger.error("canary router stopped: its requests are worse (%s)", name)
