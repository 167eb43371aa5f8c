"""The split of a request's remaining time among the stages still to come."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Seconds = Callable[[str], float]


def seconds_after(stage: str, readers: Mapping[str, tuple[str, ...]], expected_s: Seconds) -> float:
    """Expected seconds of the slowest path from the end of a stage to the answer.

    Args:
        stage: the stage.
        readers: the stages that wait for each stage; no stage waits for itself.
        expected_s: expected seconds of one stage.
    """
    return max(
        (expected_s(next_) + seconds_after(next_, readers, expected_s) for next_ in readers[stage]),
        default=0.0,
    )


def share_s(left_s: float, own_s: float, after_s: float) -> float:
    """A stage's share of the time that is left.

    In proportion to what it and the stages after it are expected to take: each keeps at least
    its expected time while there is enough for all, and all lose alike when there is not.

    Args:
        left_s: until the deadline; not negative.
        own_s: expected seconds of the stage.
        after_s: expected seconds of the stages after it.
    """
    total_s = own_s + after_s
    return left_s if total_s <= 0 else left_s * (own_s / total_s)
