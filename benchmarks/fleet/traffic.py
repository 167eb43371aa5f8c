"""The traffic of a fleet: every model by name, with Zipf frequencies, in its own class."""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clock_face import draw
from benchmarks.open_loop import Result, http_request, run
from services.artifacts.store import resolve
from turnout.catalog import Catalog, Model
from turnout.errors import ArtifactInvalid
from turnout.types import TensorSpec

_ZIPF = 1.0
_TEXT = "waterproof running shoes for wide feet"
_CONNECTIONS = 32


def classes_of(catalog: Catalog) -> dict[str, str]:
    """Return the latency class of each built inline model: its most urgent route's."""
    found: dict[str, str] = {}
    for route in catalog.routes.values():
        for name in route.candidates:
            known = found.get(name)
            rank = catalog.classes[route.latency_class].priority
            if known is None or rank < catalog.classes[known].priority:
                found[name] = route.latency_class
    return {
        name: found[name]
        for name, model in catalog.models.items()
        if model.placement == "inline" and name in found and _is_built(model)
    }


def _is_built(model: Model) -> bool:
    try:
        return model.artifact is None or bool(resolve(model.artifact))
    except ArtifactInvalid:
        return False


def body_of(specs: tuple[TensorSpec, ...], rng: np.random.Generator, picture: str) -> bytes:
    """Return one row for a model with these inputs, as JSON."""
    inputs = []
    for spec in specs:
        shape = [1, *spec.shape[1:]]
        count = int(np.prod(shape))
        data: list[Any]
        if spec.datatype == "BYTES":
            data = [picture if spec.name == "image" else _TEXT] * count
        elif spec.datatype == "INT64":
            data = [int(value) for value in rng.integers(0, 50, count)]
        else:
            data = [round(float(value), 3) for value in rng.random(count)]
        entry = {"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": data}
        inputs.append(entry)
    return json.dumps({"inputs": inputs}).encode()


def traffic(catalog: Catalog, models: dict[str, str], address: str, count: int,
            ) -> dict[str, list[bytes]]:  # fmt: skip
    """Return the requests by class, equal for all servers: Zipf over shuffled models."""
    rng = np.random.default_rng(6)
    names = list(rng.permutation(sorted(models)))
    weights = 1.0 / np.arange(1, len(names) + 1) ** _ZIPF
    with tempfile.TemporaryDirectory() as folder:
        picture = base64.b64encode(draw(Path(folder) / "clock.jpg").read_bytes()).decode()
    made: dict[str, list[bytes]] = defaultdict(list)
    for name in rng.choice(names, count, p=weights / weights.sum()):
        latency_class = models[name]
        body = body_of(inputs_of(catalog, name), rng, picture)
        url = f"{address}/v2/models/{name}/infer"
        made[latency_class].append(http_request(url, body, {"x-latency-class": latency_class}))
    return made


def inputs_of(catalog: Catalog, name: str) -> tuple[TensorSpec, ...]:
    """Return the input tensors of a model."""
    signature = catalog.signature_of(name)
    return signature.inputs if signature else ()


async def offer(catalog: Catalog, requests: dict[str, list[bytes]], address: str, seconds: float
                ) -> dict[str, Result]:  # fmt: skip
    """Offer each class its requests, evenly over the time, all classes at once."""
    names = list(requests)
    results = await asyncio.gather(
        *(
            run(address, requests[name], len(requests[name]) / seconds, seconds, _CONNECTIONS,
                catalog.classes[name].deadline_ms / 1e3)
            for name in names
        )
    )  # fmt: skip
    return dict(zip(names, results, strict=True))


def attainment(result: Result) -> float:
    """Return the share of requests answered successfully within their deadline."""
    total = sum(result.statuses.values())
    answered = result.statuses.get("200", 0)
    return 0.0 if not answered else result.within / result.achieved * answered / total
