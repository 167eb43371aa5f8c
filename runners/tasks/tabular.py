"""Card transactions in, probability of fraud out: checked, otherwise passed through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runners.tasks.rows import single
from turnout.errors import InvalidRequest
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
"""The columns of ``features``, in order.

Source: "Reproducible Machine Learning for Credit Card Fraud Detection", chapter 3.
"""


class TabularTask:
    """``features`` FP32 [n, 15] to ``probability`` FP32 [n]."""

    @classmethod
    def load(cls, folder: Path) -> TabularTask:
        """Nothing to read: the task is the same for every model."""
        return cls()

    def prepare(self, tensors: Tensors) -> Tensors:
        """See ``TensorTask.prepare``."""
        features = single(tensors, "features")
        if features.dtype != np.float32:
            raise InvalidRequest(
                f"features must be FP32, not {features.dtype}: convert before sending",
                param="features",
            )
        if features.ndim != 2 or features.shape[1] != len(FEATURES) or not len(features):
            raise InvalidRequest(
                f"features must have shape [n, {len(FEATURES)}] with n at least 1, "
                f"not {list(features.shape)}; the columns are {', '.join(FEATURES)}",
                param="features",
            )
        # One sum settles it for almost all: of squares, it is finite only if every value is.
        if not math.isfinite(np.vdot(features, features)):
            _check_finite(features)
        return {"features": features}

    def collate(self, requests: Sequence[Tensors]) -> Tensors:
        """See ``TensorTask.collate``."""
        if len(requests) == 1:
            return requests[0]
        return {"features": np.concatenate([request["features"] for request in requests])}

    def finish(self, outputs: Tensors) -> Tensors:
        """See ``TensorTask.finish``."""
        return {"probability": outputs["probability"].reshape(-1).astype(np.float32, copy=False)}

    def example(self, rows: int) -> Tensors:
        """See ``TensorTask.example``."""
        return {"features": np.ones((rows, len(FEATURES)), np.float32)}


def _check_finite(features: np.ndarray[Any, Any]) -> None:
    finite = np.isfinite(features)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InvalidRequest(
            f"features row {row}: {FEATURES[column]} is {features[row, column]}; "
            "every feature must be a finite number",
            param="features",
        )
