"""How the time a request has left is shared among the stages still to come."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Seconds = Callable[[str], float]


def seconds_after(stage: str, readers: Mapping[str, tuple[str, ...]], expected_s: Seconds) -> float:
    """Expected seconds of the slowest way from the end of a stage to the answer.

    Args:
        stage: the stage.
        readers: who waits for each stage; no stage waits for itself.
        expected_s: of a stage by itself.
    """
    return max(
        (expected_s(next_) + seconds_after(next_, readers, expected_s) for next_ in readers[stage]),
        default=0.0,
    )


def share_s(left_s: float, own_s: float, after_s: float) -> float:
    """What a stage may take of the time that is left.

    In proportion to what it and the stages after it are expected to take: each keeps at least
    its expected time while there is enough for all, and all lose alike when there is not.

    Args:
        left_s: until the deadline; not negative.
        own_s: what the stage is expected to take.
        after_s: what the stages after it are.
    """
    whole_s = own_s + after_s
    return left_s if whole_s <= 0 else left_s * (own_s / whole_s)
