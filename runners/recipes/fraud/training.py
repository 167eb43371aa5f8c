"""Train gradient-boosted trees on the 15 features and write their ONNX graph."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from runners.recipes.fraud.table import Table
from runners.tasks.tabular import FEATURES

SIZES: Mapping[str, tuple[int, Mapping[str, Any]]] = {
    "small": (40, {"num_leaves": 8, "learning_rate": 0.1}),
    "large": (
        400,
        {
            "num_leaves": 31,
            "learning_rate": 0.03,
            "min_data_in_leaf": 200,
            "feature_fraction": 0.7,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "lambda_l2": 10.0,
        },
    ),
}
"""The trees and LightGBM parameters of each size, tuned on simulated data (docs/models.md)."""

_OPSET = 15


def train(table: Table, size: str, threads: int = 1) -> lightgbm.Booster:
    """Fit the trees of one size; the same table gives the same trees.

    One thread by default: LightGBM's threads wait for each other by spinning; on two shared cores
    that turned a build of half a minute into one of eleven.
    """
    trees, parameters = SIZES[size]
    fixed = {"objective": "binary", "seed": 1, "num_threads": threads, "verbose": -1}
    fixed |= {"deterministic": True, "force_col_wise": True}
    data = lightgbm.Dataset(table.features, table.fraud.astype(np.float32))
    return lightgbm.train({**fixed, **parameters}, data, trees)


def predict(model: lightgbm.Booster, features: np.ndarray, threads: int = 2) -> np.ndarray:
    """Return P(fraud) of each row, float64 [n]."""
    return np.asarray(model.predict(features, num_threads=threads))


def write_onnx(model: lightgbm.Booster, path: Path) -> None:
    """Write the trees as ``features`` FP32 [n, 15] to ``probability`` FP32 [n]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proto = convert_lightgbm(
            model,
            initial_types=[("features", FloatTensorType([None, len(FEATURES)]))],
            zipmap=False,
            target_opset=_OPSET,
        )
    onnx.save(_fraud_column_only(proto), path)


def _fraud_column_only(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Replace the outputs (label, probabilities [n, 2]) by the second column alone."""
    graph = proto.graph
    both = graph.output[1].name
    del graph.output[:]
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.int64), "fraud_column"))
    graph.node.append(
        onnx.helper.make_node("Gather", [both, "fraud_column"], ["probability"], axis=1)
    )
    graph.output.append(
        onnx.helper.make_tensor_value_info("probability", onnx.TensorProto.FLOAT, ["rows"])
    )
    onnx.checker.check_model(proto)
    return proto
