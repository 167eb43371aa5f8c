"""Train LightGBM trees and write them as ONNX with the tasks' names."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

_OPSET = 15
_FIXED = {"seed": 1, "num_threads": 1, "verbose": -1, "deterministic": True, "force_col_wise": True}


def train_ranker(
    features: np.ndarray, gains: np.ndarray, groups: list[int], trees: int, leaves: int
) -> lightgbm.Booster:
    """Fit trees that rank the rows of each group by gain (LambdaMART).

    Args:
        features: float32 [n, columns].
        gains: int [n], 0 to 3.
        groups: rows of each query, one after another.
        trees: the number of trees.
        leaves: the leaves of each.
    """
    parameters = {"objective": "lambdarank", "learning_rate": 0.1, "num_leaves": leaves}
    data = lightgbm.Dataset(features, gains, group=groups)
    return lightgbm.train({**_FIXED, **parameters, "min_data_in_leaf": 30}, data, trees)


def train_classifier(
    features: np.ndarray, happened: np.ndarray, trees: int, leaves: int
) -> lightgbm.Booster:
    """Fit trees for P(happened)."""
    parameters: dict[str, Any] = {
        "objective": "binary",
        "learning_rate": 0.08,
        "num_leaves": leaves,
    }
    data = lightgbm.Dataset(features, happened.astype(np.float32))
    return lightgbm.train({**_FIXED, **parameters, "min_data_in_leaf": 50}, data, trees)


def write_trees(model: lightgbm.Booster, columns: int, output: str, path: Path) -> None:
    """Write the trees as ``features`` FP32 [n, columns] to ``output`` FP32 [n].

    The output is a ranker's score or a classifier's P(happened).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proto = convert_lightgbm(
            model,
            initial_types=[("features", FloatTensorType([None, columns]))],
            zipmap=False,
            target_opset=_OPSET,
        )
    graph = proto.graph
    last = graph.output[-1].name
    column = np.array(len(graph.output) - 1, np.int64)
    del graph.output[:]
    graph.initializer.append(onnx.numpy_helper.from_array(column, "its_column"))
    graph.node.append(onnx.helper.make_node("Gather", [last, "its_column"], [output], axis=1))
    rows = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["rows"])
    graph.output.append(rows)
    onnx.checker.check_model(proto)
    onnx.save(proto, path)
