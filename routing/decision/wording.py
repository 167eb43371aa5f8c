"""Numbers as reasons say them."""

from __future__ import annotations


def shown_ms(seconds: float) -> str:
    """A time in milliseconds, three digits or whole: ``4.21 ms``, ``8720 ms``."""
    ms = seconds * 1e3
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.3g} ms"
