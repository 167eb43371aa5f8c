"""Triton's extensions of the Open Inference Protocol: model configuration and statistics.

Source: Triton's model configuration and statistics extensions, as ``tritonclient.http`` reads them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from services.dataplane.data_plane import DataPlane
from services.http.messages import HttpRequest, Reply, json_reply
from turnout.catalog import Catalog, Model, model_name, split
from turnout.errors import UnknownModel
from turnout.types import TensorSpec

_TYPES = {"BYTES": "TYPE_STRING"}
_NS = 1e9


class TritonProtocol:
    """The adapter of Triton's extensions over one plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def config(self, http: HttpRequest, name: str) -> Reply:
        """``GET /v2/models/{name}/config``: a route has the configuration its candidates share."""
        catalog = self._plane.catalog
        signature = catalog.signature_of(name)
        if signature is None:
            raise self._unknown(name)
        route = catalog.routes.get(name)
        models = [catalog.models[each] for each in catalog.models_of(name)]
        return json_reply(
            {
                "name": split(name)[0],
                "platform": "turnout_route" if route else f"turnout_{models[0].runner.engine}",
                "backend": "turnout",
                "version_policy": {"latest": {"num_versions": 1}},
                "max_batch_size": min(model.batching.max_rows for model in models),
                "input": [_tensor(spec) for spec in signature.inputs],
                "output": [_tensor(spec) for spec in signature.outputs],
                "instance_group": _instances(name, models),
                "dynamic_batching": {"preferred_batch_size": [], "max_queue_delay_microseconds": 0},
                "parameters": _parameters(route.candidates if route else ()),
            }
        )

    async def stats(self, http: HttpRequest, name: str | None = None) -> Reply:
        """``GET /v2/models/{name}/stats``, or of all models without a name: since the start.

        A batch is not counted here, so ``execution_count`` is that of requests.
        """
        # Imported here: only scrapes need it, and it would delay the start.
        from services.metrics.exposition import totals

        catalog = self._plane.catalog
        if name is not None and catalog.named(name) is None:
            raise self._unknown(name)
        self._plane.measure()
        if self._plane.peers is not None:
            await self._plane.peers.ask("measure")
        counted = _Counted(totals(self._plane.metrics.registry))
        names = (*catalog.routes, *catalog.models) if name is None else _metric_names(catalog, name)
        statistics = [counted.of(each, is_route=each in catalog.routes) for each in names]
        return json_reply({"model_stats": statistics})

    def _unknown(self, name: str) -> UnknownModel:
        return UnknownModel(name, self._plane.catalog.names)


def _metric_names(catalog: Catalog, name: str) -> tuple[str, ...]:
    """Return the names counted under a name: of a model with versions, each version."""
    versioned = catalog.versioned.get(name)
    if versioned is not None:
        return tuple(model_name(name, version) for version in versioned.versions)
    return (name,) if name in catalog.routes else (catalog.model_called(name) or name,)


class _Counted:
    """The metrics that Triton's statistics are made of, by the name of a route or model."""

    def __init__(self, samples: Iterable[tuple[str, Mapping[str, str], float]]) -> None:
        self._sums: defaultdict[tuple[str, str, str], float] = defaultdict(float)
        for metric, labels, value in samples:
            for kind in ("route", "model"):
                if kind in labels:
                    self._sums[metric + labels.get("status", ""), kind, labels[kind]] += value
                    if labels.get("status", "ok") != "ok":
                        self._sums[metric + "failed", kind, labels[kind]] += value

    def of(self, name: str, *, is_route: bool) -> dict[str, Any]:
        kind = "route" if is_route else "model"

        def total(metric: str) -> float:
            return self._sums[metric, kind, name]

        ok, failed = (total("turnout_requests_total" + how) for how in ("ok", "failed"))
        queue_s, run_s = total("turnout_queue_seconds_sum"), total("turnout_run_seconds_sum")
        all_s = total("turnout_request_seconds_sum") if is_route else queue_s + run_s
        own, version = split(name)
        return {
            "name": own,
            "version": version or "1",
            "last_inference": 0,
            "inference_count": int(ok),
            "execution_count": int(ok),
            "inference_stats": {
                "success": _duration(ok, all_s),
                "fail": _duration(failed, 0.0),
                "queue": _duration(0 if is_route else ok, queue_s),
                "compute_input": _duration(0, 0.0),
                "compute_infer": _duration(0 if is_route else ok, run_s),
                "compute_output": _duration(0, 0.0),
                "cache_hit": _duration(0, 0.0),
                "cache_miss": _duration(0, 0.0),
            },
            "batch_stats": [],
            "memory_usage": [],
        }


def _duration(count: float, seconds: float) -> dict[str, int]:
    return {"count": int(count), "ns": round(seconds * _NS)}


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    """Return a tensor without its first axis, which is the batch."""
    kind = _TYPES.get(spec.datatype, f"TYPE_{spec.datatype}")
    return {"name": spec.name, "data_type": kind, "dims": list(spec.shape[1:]) or [1]}


def _instances(name: str, models: Iterable[Model]) -> list[dict[str, Any]]:
    gpu = any(model.device != "cpu" for model in models)
    return [{"name": name, "kind": "KIND_GPU" if gpu else "KIND_CPU", "count": 1}]


def _parameters(candidates: Iterable[str]) -> dict[str, Any]:
    names = ", ".join(candidates)
    return {"candidates": {"string_value": names}} if names else {}
