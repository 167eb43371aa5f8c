"""Keyed draws: a uniform number for each id, without state and equal on replay."""

from __future__ import annotations

from hashlib import blake2b


class Draws:
    """Draws a uniform number for each request.

    Args:
        seed: key of the hash; the same seed gives the same draws.
    """

    def __init__(self, seed: bytes) -> None:
        self._seed = seed[:64]

    def draw(self, request_id: str) -> float:
        """Return a number in [0, 1), always the same for this id."""
        digest = blake2b(request_id.encode(), digest_size=8, key=self._seed).digest()
        return (int.from_bytes(digest, "big") >> 11) * 2.0**-53
