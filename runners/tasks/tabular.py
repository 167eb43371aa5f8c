"""Tabular models: rows of features in, a probability or a score out, checked but not converted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from runners.tasks.outputs import vector
from runners.tasks.rows import finite_rows, single
from runners.tasks.settings import FILE, Settings
from turnout.types import Tensors

FEATURES = (
    "TX_AMOUNT",
    "TX_DURING_WEEKEND",
    "TX_DURING_NIGHT",
    "CUSTOMER_ID_NB_TX_1DAY_WINDOW",
    "CUSTOMER_ID_AVG_AMOUNT_1DAY_WINDOW",
    "CUSTOMER_ID_NB_TX_7DAY_WINDOW",
    "CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW",
    "CUSTOMER_ID_NB_TX_30DAY_WINDOW",
    "CUSTOMER_ID_AVG_AMOUNT_30DAY_WINDOW",
    "TERMINAL_ID_NB_TX_1DAY_WINDOW",
    "TERMINAL_ID_RISK_1DAY_WINDOW",
    "TERMINAL_ID_NB_TX_7DAY_WINDOW",
    "TERMINAL_ID_RISK_7DAY_WINDOW",
    "TERMINAL_ID_NB_TX_30DAY_WINDOW",
    "TERMINAL_ID_RISK_30DAY_WINDOW",
)
"""The columns of a card transaction, in order.

Source: "Reproducible Machine Learning for Credit Card Fraud Detection", chapter 3.
"""


class TabularTask:
    """Classification: ``features`` FP32 [n, columns] to ``probability`` FP32 [n].

    Args:
        columns: the names of the features, in order.
    """

    output = "probability"

    def __init__(self, columns: Sequence[str] = FEATURES) -> None:
        self._columns = columns
        self._hint = f"; the columns are {', '.join(columns)}"
        self.dimensions = {"columns": len(columns)}

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``task.json``; a folder without one holds a model of card transactions."""
        return cls(Settings(folder).words("columns")) if (folder / FILE).is_file() else cls()

    def prepare(self, tensors: Tensors) -> Tensors:
        """See ``TensorTask.prepare``."""
        features = single(tensors, "features")
        return {"features": finite_rows(features, "features", self._columns, self._hint)}

    def collate(self, requests: Sequence[Tensors]) -> Tensors:
        """See ``TensorTask.collate``."""
        if len(requests) == 1:
            return requests[0]
        return {"features": np.concatenate([request["features"] for request in requests])}

    def finish(self, outputs: Tensors) -> Tensors:
        """See ``TensorTask.finish``."""
        return {self.output: vector(outputs, self.output).astype(np.float32, copy=False)}

    def example(self, rows: int) -> Tensors:
        """See ``TensorTask.example``."""
        return {"features": np.ones((rows, len(self._columns)), np.float32)}


class RankTask(TabularTask):
    """Ranking: ``features`` FP32 [n, columns] to ``score`` FP32 [n], the highest first."""

    output = "score"
