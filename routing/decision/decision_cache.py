"""Cache of the latest decisions, for requests that look the same.

Requests whose quality does not depend on their content, with the same target, class, deadline,
limits and size, facing the same load, get the same decision from ``Router.decide`` up to what the
latency model learns in between, which is little in a twentieth of a second. At a thousand requests
a second, most decisions come from here.
"""

from __future__ import annotations

from collections.abc import Hashable

from turnout.types import Decision

_KEEP_S = 0.05
_MOST = 256


class DecisionCache:
    """Remembers decisions for ``_KEEP_S``. Time is an argument."""

    def __init__(self) -> None:
        self._decisions: dict[Hashable, tuple[float, Decision]] = {}

    def recall(self, key: Hashable, request_id: str, now_s: float) -> Decision | None:
        """Return the recent decision for an equal request, under this request's id."""
        entry = self._decisions.get(key)
        if entry is None or now_s - entry[0] > _KEEP_S:
            return None
        decision = entry[1]
        return Decision(
            request_id,
            decision.route,
            decision.model,
            decision.fallbacks,
            decision.reason,
            decision.rule,
            decision.latency_class,
            decision.candidates,
            decision.propensity,
        )

    def remember(self, key: Hashable, decision: Decision, now_s: float) -> None:
        """Keep a decision for ``_KEEP_S``."""
        if len(self._decisions) >= _MOST:
            self._decisions.clear()
        self._decisions[key] = (now_s, decision)
