"""Measure how well scores detect frauds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from runners.recipes.fraud.table import Table

CARDS_A_DAY = 100
"""The number of cards that a team can check per day. Source: the handbook, chapter 4."""


def evaluate(table: Table, scores: np.ndarray) -> Mapping[str, float]:
    """Return the metrics of scores against the recorded frauds.

    Args:
        table: the transactions judged.
        scores: shape (n,), higher is more suspicious.

    Returns:
        ``roc_auc``, ``average_precision``, and ``card_precision_100``: of the 100 cards with the
        highest score of a day, the share that had a fraud that day, averaged over days.
    """
    return {
        "roc_auc": round(float(roc_auc_score(table.fraud, scores)), 4),
        "average_precision": round(float(average_precision_score(table.fraud, scores)), 4),
        "card_precision_100": round(card_precision(table, scores), 4),
    }


def card_precision(table: Table, scores: np.ndarray) -> float:
    """Return ``card_precision_100``; see ``evaluate``."""
    return float(np.mean([_of_day(table, scores, day) for day in np.unique(table.day)]))


def _of_day(table: Table, scores: np.ndarray, day: int) -> float:
    rows = np.flatnonzero(table.day == day)
    cards, place = np.unique(table.customer[rows], return_inverse=True)
    highest = np.full(len(cards), -np.inf)
    np.maximum.at(highest, place, scores[rows])
    defrauded = np.zeros(len(cards), bool)
    np.logical_or.at(defrauded, place, table.fraud[rows])
    checked = np.argsort(-highest, kind="stable")[:CARDS_A_DAY]
    return float(defrauded[checked].sum() / CARDS_A_DAY)
