"""Sticky sessions: the model that answers each conversation. Bounded; time is an argument."""

from __future__ import annotations

from collections import OrderedDict

_MOST = 10_000
_KEEP_S = 3600.0


class Sessions:
    """Remembers the model of each session; the least recently used session is forgotten first.

    Args:
        most: sessions remembered at most.
        keep_s: a session is forgotten this long after its last request.
    """

    def __init__(self, most: int = _MOST, keep_s: float = _KEEP_S) -> None:
        self._most = most
        self._keep_s = keep_s
        self._models: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._models)

    def recall(self, route: str, session: str, now_s: float) -> str | None:
        """Return the session's model; None when none is remembered."""
        entry = self._models.get((route, session))
        if entry is None:
            return None
        model, last_s = entry
        if now_s - last_s > self._keep_s:
            del self._models[route, session]
            return None
        return model

    def remember(self, route: str, session: str, model: str, now_s: float) -> None:
        """Remember the model that answers a session now."""
        self._models[route, session] = (model, now_s)
        self._models.move_to_end((route, session))
        if len(self._models) > self._most:
            self._models.popitem(last=False)
