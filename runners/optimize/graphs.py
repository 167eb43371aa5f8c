"""Queries on an ONNX graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx

from turnout.errors import ConfigError


def name_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with a name on every node, so that options can refer to nodes."""
    existing = {node.name for node in model.graph.node}
    for index, node in enumerate(model.graph.node):
        if not node.name:
            name = f"{node.op_type.lower()}_{index}"
            node.name = name if name not in existing else f"{name}_"
    return model


def operators(model: onnx.ModelProto) -> set[str]:
    """Return every operator of the graph, with its domain where that is not ONNX's own."""
    return {
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for node in model.graph.node
    }


def nodes_of(model: onnx.ModelProto, kinds: Collection[str]) -> list[str]:
    """Return the names of the nodes of these operators, in the graph's order."""
    return [node.name for node in model.graph.node if node.op_type in kinds]


def check_names(model: onnx.ModelProto, names: Sequence[str], key: str) -> None:
    """Refuse names that no node has.

    Raises:
        ConfigError: with the option and some of the existing names.
    """
    node_names = [node.name for node in model.graph.node]
    unknown = [name for name in names if name not in node_names]
    if unknown:
        raise ConfigError(
            f"{key}: the graph has no node {unknown[0]!r}; it has {', '.join(node_names[:8])}, ..."
        )
