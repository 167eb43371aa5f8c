"""The query string of a list request."""

from __future__ import annotations

from urllib.parse import parse_qs

from services.http.messages import HttpRequest
from turnout.errors import InvalidRequest


class Query:
    """Reads ``?after=&limit=&...`` of a request."""

    def __init__(self, http: HttpRequest) -> None:
        self._values = parse_qs(http.query.decode("latin-1"))

    def text(self, name: str) -> str | None:
        """A parameter's text, or None."""
        return self._values.get(name, [None])[0]

    def limit(self, default: int, most: int) -> int:
        """How many entries to show.

        Raises:
            InvalidRequest: not a number from 1 to ``most``.
        """
        text = self.text("limit")
        if text is None:
            return default
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise InvalidRequest(
                f"limit must be a number from 1 to {most}, got {text!r}", param="limit"
            )
        return int(text)

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        """One of ``known``; the first when absent.

        Raises:
            InvalidRequest: something else.
        """
        text = self.text(name) or known[0]
        if text not in known:
            raise InvalidRequest(f"{name} must be {' or '.join(known)}", param=name)
        return text
