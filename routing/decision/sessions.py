"""Sticky sessions: which model answers a conversation. Bounded; time is an argument."""

from __future__ import annotations

from collections import OrderedDict

_MOST = 10_000
_KEEP_S = 3600.0


class Sessions:
    """The model of each session, the least recently used forgotten first.

    Args:
        most: sessions remembered at most.
        keep_s: a session is forgotten this long after its last request.
    """

    def __init__(self, most: int = _MOST, keep_s: float = _KEEP_S) -> None:
        self._most = most
        self._keep_s = keep_s
        self._known: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, route: str, session: str, now_s: float) -> str | None:
        """The session's model; None when it has none (any more)."""
        found = self._known.get((route, session))
        if found is None:
            return None
        model, last_s = found
        if now_s - last_s > self._keep_s:
            del self._known[route, session]
            return None
        return model

    def remember(self, route: str, session: str, model: str, now_s: float) -> None:
        """Note who answers a session now."""
        self._known[route, session] = (model, now_s)
        self._known.move_to_end((route, session))
        if len(self._known) > self._most:
            self._known.popitem(last=False)
