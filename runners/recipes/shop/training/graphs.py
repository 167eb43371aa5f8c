"""Write the ONNX graphs of the shop's models, node by node, from their trained arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET, _IR = 17, 8
_EPSILON = np.array(1e-12, np.float32)


class Graph:
    """Collects nodes and constants; every operation returns the name of its result."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, kind: type, shape: Sequence[int | str]) -> str:
        """Declare an input and return its name."""
        self._inputs.append(helper.make_tensor_value_info(name, _kind(kind), shape))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        """Put an array into the graph and return its name."""
        self._constants[name] = numpy_helper.from_array(value, name)
        return name

    def add(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Apply an operator and return the name of its result."""
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def top(self, scores: str, count: int) -> tuple[str, str]:
        """Return the largest of each row: ``score`` and ``item``, both [n, count]."""
        size = self.constant("count", np.array([count], np.int64))
        self._nodes.append(helper.make_node("TopK", [scores, size], ["score", "item"], axis=1))
        return "score", "item"

    def bag(self, table: np.ndarray, grams: str) -> str:
        """Return the unit-length sum of a text's gram vectors in ``table``: [n, width]."""
        rows = self.add("Gather", [self.constant("table", table), grams], "rows")
        axis = self.constant("axis", np.array([1], np.int64))
        total = self.add("ReduceSum", [rows, axis], "total", keepdims=0)
        squares = self.add("Mul", [total, total], "squares")
        size = self.add("ReduceSum", [squares, axis], "size", keepdims=1)
        size = self.add("Add", [size, self.constant("epsilon", _EPSILON)], "size_above_zero")
        return self.add("Div", [total, self.add("Sqrt", [size], "length")], "sentence")

    def write(self, path: Path, outputs: Mapping[str, tuple[type, Sequence[int | str]]]) -> None:
        """Check the graph and write it as one file."""
        graph = helper.make_graph(
            self._nodes,
            path.stem,
            self._inputs,
            [helper.make_tensor_value_info(n, _kind(k), s) for n, (k, s) in outputs.items()],
            list(self._constants.values()),
        )
        opsets = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def write_embedder(table: np.ndarray, path: Path) -> None:
    """Write the graph ``grams`` INT64 [n, m] to ``sentence`` FP32 [n, width]."""
    graph = Graph()
    graph.bag(table, graph.input("grams", np.int64, ["n", "m"]))
    graph.write(path, {"sentence": (np.float32, ["n", table.shape[1]])})


def write_classifier(table: np.ndarray, layers: Sequence[np.ndarray], path: Path) -> None:
    """Write the graph ``grams`` INT64 [n, m] to ``probabilities`` FP32 [n, labels].

    Args:
        table: float32 [buckets + 1, width].
        layers: weight [in, out] and bias [out] of each layer, one after another.
        path: the file.
    """
    graph = Graph()
    value = graph.bag(table, graph.input("grams", np.int64, ["n", "m"]))
    for index in range(0, len(layers), 2):
        weight = graph.constant(f"weight_{index}", layers[index])
        bias = graph.constant(f"bias_{index}", layers[index + 1])
        product = graph.add("MatMul", [value, weight], f"product_{index}")
        value = graph.add("Add", [product, bias], f"layer_{index}")
        if index + 2 < len(layers):
            value = graph.add("Relu", [value], f"active_{index}")
    graph.add("Softmax", [value], "probabilities", axis=1)
    graph.write(path, {"probabilities": (np.float32, ["n", len(layers[-1])])})


def write_index(vectors: np.ndarray, facts: np.ndarray, top: int, path: Path) -> None:
    """Write the graph of an index.

    ``embedding`` FP32 [n, width] to ``item``, ``score`` [n, top], ``features`` [n, top, f + 2]. The
    features are the score, its distance from the best one, and the item's facts.

    Args:
        vectors: float32 [items, width], of unit length.
        facts: float32 [items, f].
        top: the number of items returned.
        path: the file.
    """
    graph = Graph()
    query = graph.input("embedding", np.float32, ["n", vectors.shape[1]])
    transposed = graph.constant("vectors", np.ascontiguousarray(vectors.T))
    scores = graph.add("MatMul", [query, transposed], "scores")
    columns = _best_items(graph, scores, facts, top)
    graph.add("Concat", columns, "features", axis=2)
    graph.write(path, _outputs(top, facts.shape[1] + 2))


def write_recommender(
    users: np.ndarray, items: np.ndarray, habits: Mapping[str, np.ndarray], facts: np.ndarray,
    top: int, path: Path,
) -> None:  # fmt: skip
    """Write the graph of a recommender.

    ``user`` INT64 [n] to ``item``, ``score`` [n, top], ``features`` [n, top, f + 4]. The
    features are those of ``write_index`` with, between them, the distance of the price from
    the user's usual one and the share of the item's category in the user's purchases.

    Args:
        users: float32 [users + 1, width]; the last row stands for every unknown user.
        items: float32 [items, width].
        habits: ``usual`` [users + 1, 1] log price, ``shares`` [users + 1, categories],
            ``log_price`` [items], all float32, ``category`` int64 [items].
        facts: float32 [items, f].
        top: the number of items returned.
        path: the file.
    """
    graph = Graph()
    row = _user_row(graph, graph.input("user", np.int64, ["n"]), len(users) - 1)
    vector = graph.add("Gather", [graph.constant("users", users), row], "vector")
    transposed = graph.constant("items", np.ascontiguousarray(items.T))
    scores = graph.add("MatMul", [vector, transposed], "scores")
    score, above, described = _best_items(graph, scores, facts, top)

    usual = graph.add("Gather", [graph.constant("usual", habits["usual"]), row], "usual_price")
    prices = graph.constant("log_price", habits["log_price"])
    price = graph.add("Gather", [prices, "item"], "price")
    gap = graph.add("Abs", [graph.add("Sub", [price, usual], "off")], "gap")
    shares = graph.add("Gather", [graph.constant("shares", habits["shares"]), row], "habit")
    categories = graph.constant("category", habits["category"])
    category = graph.add("Gather", [categories, "item"], "item_category")
    share = graph.add("GatherElements", [shares, category], "share", axis=1)
    last = [_last_axis(graph, name) for name in (gap, share)]
    graph.add("Concat", [score, above, *last, described], "features", axis=2)
    graph.write(path, _outputs(top, facts.shape[1] + 4))


def write_cards(texts: Sequence[str], path: Path) -> None:
    """Write the graph ``item`` INT64 [n] to ``text`` strings [n]."""
    graph = Graph()
    item = graph.input("item", np.int64, ["n"])
    cards = graph.constant("cards", np.array([text.encode() for text in texts], dtype=object))
    graph.add("Gather", [cards, item], "text")
    graph.write(path, {"text": (np.bytes_, ["n"])})


def _best_items(graph: Graph, scores: str, facts: np.ndarray, top: int) -> tuple[str, str, str]:
    """Return each row's best: score and distance to the best [n, top, 1], facts [n, top, f]."""
    score, item = graph.top(scores, top)
    first = graph.constant("first", np.array([0], np.int64))
    best = graph.add("Gather", [score, first], "best", axis=1)
    under = graph.add("Sub", [score, best], "under")
    described = graph.add("Gather", [graph.constant("facts", facts), item], "described")
    return _last_axis(graph, score), _last_axis(graph, under), described


def _user_row(graph: Graph, user: str, users: int) -> str:
    """Return a user's row; the last row for a number that is not a user's."""
    low = graph.constant("none_below", np.array(0, np.int64))
    high = graph.constant("none_from", np.array(users, np.int64))
    below = graph.add("Less", [user, low], "below")
    above = graph.add("GreaterOrEqual", [user, high], "above")
    return graph.add("Where", [graph.add("Or", [below, above], "new"), high, user], "row")


def _last_axis(graph: Graph, name: str) -> str:
    axes = graph.constant("last", np.array([2], np.int64))
    return graph.add("Unsqueeze", [name, axes], f"{name}_column")


def _outputs(top: int, columns: int) -> Mapping[str, tuple[type, Sequence[int | str]]]:
    return {
        "item": (np.int64, ["n", top]),
        "score": (np.float32, ["n", top]),
        "features": (np.float32, ["n", top, columns]),
    }


def _kind(kind: type) -> int:
    return {np.int64: TensorProto.INT64, np.float32: TensorProto.FLOAT}.get(
        kind, TensorProto.STRING
    )
