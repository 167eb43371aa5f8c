"""Decisions of a moment ago, given again to requests that look the same.

Requests whose quality does not depend on their content, with the same target, class, deadline,
limits and size, facing the same load, get the same answer from ``Router.decide`` up to what the
latency model has learned in between, which in a twentieth of a second is little. At a thousand
requests a second this is most of the cost of deciding.
"""

from __future__ import annotations

from collections.abc import Hashable

from turnout.types import Decision

_KEEP_S = 0.05
_MOST = 256


class DecisionCache:
    """Remembers decisions for ``_KEEP_S``. Time is an argument."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[float, Decision]] = {}

    def recall(self, key: Hashable, request_id: str, now_s: float) -> Decision | None:
        """The decision of an equal request a moment ago, under this request's id."""
        found = self._known.get(key)
        if found is None or now_s - found[0] > _KEEP_S:
            return None
        known = found[1]
        return Decision(
            request_id,
            known.route,
            known.model,
            known.fallbacks,
            known.reason,
            known.rule,
            known.latency_class,
            known.candidates,
            known.propensity,
        )

    def remember(self, key: Hashable, decision: Decision, now_s: float) -> None:
        """Keep a decision for ``_KEEP_S``."""
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key] = (now_s, decision)
