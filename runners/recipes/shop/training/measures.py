"""Metrics of rankings.

Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (2002).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ndcg(gains: np.ndarray, best: np.ndarray, at: int = 10) -> float:
    """Return the nDCG of a ranking; 1 where no gain is possible.

    Args:
        gains: the gains of the items in the order of the ranking.
        best: the gains of all items that could be ranked, in any order.
        at: the number of places that count.
    """
    discounts = 1 / np.log2(np.arange(at) + 2)
    ideal = np.sort(best)[::-1][:at]
    possible = float((2.0**ideal - 1) @ discounts[: len(ideal)])
    counted = gains[:at]
    return float((2.0**counted - 1) @ discounts[: len(counted)]) / possible if possible else 1.0


def recall(ranking: np.ndarray, wanted: np.ndarray, at: int = 20) -> float:
    """Return the share of the wanted items among the first ``at`` of a ranking."""
    return float(np.isin(wanted, ranking[:at]).mean())


def mean(values: Sequence[float]) -> float:
    """Return the mean, rounded to four places."""
    return round(float(np.mean(values)), 4)
