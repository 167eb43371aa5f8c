"""``expires_after``: how long a file is kept, as the OpenAI API has it.

Without it a file is kept until it is deleted.
"""

from __future__ import annotations

from turnout.errors import InvalidRequest

_LEAST_S, _MOST_S = 3600, 30 * 24 * 3600
_ANCHOR = "created_at"


def expires_after_s(anchor: object, seconds: object, param: str) -> float | None:
    """Seconds a file is kept after it was made; None is for good.

    Args:
        anchor: what the seconds count from.
        seconds: a number, or its text in a form.
        param: the field to name in a refusal.

    Raises:
        InvalidRequest: one without the other, another anchor, or out of range.
    """
    if anchor is None and seconds is None:
        return None
    if anchor != _ANCHOR:
        raise InvalidRequest(f"{param}.anchor must be {_ANCHOR!r}, got {anchor!r}", param=param)
    if isinstance(seconds, str) and seconds.isdecimal():
        seconds = int(seconds)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not _fits(seconds):
        raise InvalidRequest(
            f"{param}.seconds must be a number from {_LEAST_S} to {_MOST_S}, got {seconds!r}",
            param=param,
        )
    return float(seconds)


def _fits(seconds: int) -> bool:
    return _LEAST_S <= seconds <= _MOST_S
