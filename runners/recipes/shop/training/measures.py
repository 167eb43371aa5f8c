"""How good rankings are.

Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (2002).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ndcg(gains: np.ndarray, best: np.ndarray, at: int = 10) -> float:
    """Discounted gain of a ranking as a share of the best possible one; 1 where none is possible.

    Args:
        gains: of the items in the order they are shown.
        best: of every item that could have been shown, in any order.
        at: places that count.
    """
    discounts = 1 / np.log2(np.arange(at) + 2)
    ideal = np.sort(best)[::-1][:at]
    possible = float((2.0**ideal - 1) @ discounts[: len(ideal)])
    shown = gains[:at]
    return float((2.0**shown - 1) @ discounts[: len(shown)]) / possible if possible else 1.0


def recall(shown: np.ndarray, wanted: np.ndarray, at: int = 20) -> float:
    """Share of the wanted items among the first ``at`` shown."""
    return float(np.isin(wanted, shown[:at]).mean())


def mean(values: Sequence[float]) -> float:
    """Mean, to four places."""
    return round(float(np.mean(values)), 4)
