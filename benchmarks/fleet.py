"""Many models in one process under a budget for a third of them, beside LRU and a process a model.

    python -m benchmarks.fleet --json FILE [--catalog catalog/ecommerce.yaml] [--rate 60]
        [--seconds 40] [--processes 6] [--fault]

Every inline model of the catalog is asked for by name, open loop, how often by Zipf's law over a
shuffled order, in the class of its most urgent route. The budget is what the process takes beside
its models under this traffic plus a third of what all models take, both measured first. The same
traffic then meets the same pool with least-recently-used eviction. ``--processes`` models are
served by one BentoML process each, for their memory. ``--fault`` adds a fake model with each
trouble under traffic and compares the attainment of the others with and without.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvloop
import yaml

from benchmarks.clock_face import draw
from benchmarks.open_loop import Result, http_request, run
from benchmarks.provenance import save
from benchmarks.servers import PROJECT, Server, free_port, running
from services.store import resolve
from turnout.catalog import Catalog, Model, load
from turnout.errors import ArtifactInvalid
from turnout.types import TensorSpec

_MIB = 1024**2
_SHARE = 1 / 3
_ZIPF = 1.0
_MOST_OF_ROOM = 0.4
_READY_LIMIT_S = 120.0
_FAULTS = {
    "crash": "run",
    "hang": "hang",
    "nan": "nan",
    "leak": "leak",
    "slow": "slow",
}
_TEXT = "waterproof running shoes for wide feet"


class Sampler:
    """The largest resident memory of a server's processes while it is open."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.05):
            self.peak_bytes = max(self.peak_bytes, worker_bytes(self._server))


def worker_bytes(server: Server) -> int:
    """Resident memory of the largest process of a server: the one that holds the models."""
    processes = (server.process, *server.process.children(recursive=True))
    return max((one.memory_info().rss for one in processes if one.is_running()), default=0)


def classes_of(catalog: Catalog) -> dict[str, str]:
    """The latency class of each inline model that is built: its most urgent route's."""
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
    """One row for a model with these inputs, as JSON."""
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
    """Requests by class, the same for every server: Zipf over a shuffled order of the models."""
    rng = np.random.default_rng(6)
    names = list(rng.permutation(sorted(models)))
    weights = 1.0 / np.arange(1, len(names) + 1) ** _ZIPF
    with tempfile.TemporaryDirectory() as folder:
        picture = base64.b64encode(draw(Path(folder) / "clock.jpg").read_bytes()).decode()
    made: dict[str, list[bytes]] = defaultdict(list)
    for name in rng.choice(names, count, p=weights / weights.sum()):
        latency_class = models[name]
        body = body_of(_inputs(catalog, name), rng, picture)
        url = f"{address}/v2/models/{name}/infer"
        made[latency_class].append(http_request(url, body, {"x-latency-class": latency_class}))
    return made


def _inputs(catalog: Catalog, name: str) -> tuple[TensorSpec, ...]:
    signature = catalog.signature_of(name)
    return signature.inputs if signature else ()


async def offer(catalog: Catalog, requests: dict[str, list[bytes]], address: str, seconds: float
                ) -> dict[str, Result]:  # fmt: skip
    """Offer each class its requests, evenly over the time, all classes at once."""
    names = list(requests)
    results = await asyncio.gather(
        *(
            run(address, requests[name], len(requests[name]) / seconds, seconds, 32,
                catalog.classes[name].deadline_ms / 1e3)
            for name in names
        )
    )  # fmt: skip
    return dict(zip(names, results, strict=True))


def attainment(result: Result) -> float:
    """Share of all requests that were answered well within their deadline."""
    total = sum(result.statuses.values())
    answered = result.statuses.get("200", 0)
    return 0.0 if not answered else result.within / result.achieved * answered / total


def pool_numbers(address: str, names: list[str]) -> dict[str, Any]:
    """Loads, evictions and hit rate over all models, and what each takes."""
    with httpx.Client(base_url=address, timeout=10.0) as client:
        said = [client.get(f"/v2/models/{name}").json()["parameters"] for name in names]
    hits, misses = (sum(one[key] for one in said) for key in ("hits", "misses"))
    return {
        "loads": sum(one["loads"] for one in said),
        "evictions": sum(one["evictions"] for one in said),
        "hit_rate": round(hits / max(hits + misses, 1), 4),
        "bytes": {n: one["memory_bytes"] for n, one in zip(names, said, strict=True)},
        "loaded": sum(one["state"] == "ready" for one in said),
        "troubled": {n: one["state"] for n, one in zip(names, said, strict=True)
                     if one["state"] not in ("ready", "cold", "loading")},
    }  # fmt: skip


def serve(folder: Path, name: str, document: dict[str, Any]) -> Any:
    """A gateway over a catalog that is written to ``folder``."""
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    port = free_port()
    return running([str(Path(sys.executable).parent / "bentoml"), "serve"], port, "/readyz",
                   limit_s=_READY_LIMIT_S, PORT=str(port), TURNOUT_CATALOG=str(file),
                   TURNOUT_DATABASE_URL=f"sqlite:///{folder / name}.db")  # fmt: skip


def inline_only(document: dict[str, Any], models: dict[str, str]) -> dict[str, Any]:
    """The catalog without models in processes of their own, so that one process is measured."""
    kept = {name: entry for name, entry in document["models"].items() if name in models}
    routes = {}
    for name, route in document["routes"].items():
        candidates = [one for one in route["candidates"] if one in kept]
        if candidates:
            routes[name] = route | {"candidates": candidates}
    return document | {"models": kept, "routes": routes, "pipelines": {}}


def measured(folder: Path, name: str, document: dict[str, Any], catalog: Catalog,
             models: dict[str, str], given: argparse.Namespace) -> dict[str, Any]:  # fmt: skip
    """One server under the traffic."""
    began_s = time.monotonic()
    with serve(folder, name, document) as server:
        ready_s = time.monotonic() - began_s
        time.sleep(3.0)
        requests = traffic(catalog, models, server.address, int(given.rate * given.seconds))
        with Sampler(server) as sampler:
            results = uvloop.run(offer(catalog, requests, server.address, given.seconds))
        found = {
            "ready_s": round(ready_s, 2),
            "peak_bytes": sampler.peak_bytes,
            "classes": {
                key: {"attainment": round(attainment(result), 5), **result.as_json()}
                for key, result in results.items()
            },
        } | pool_numbers(server.address, list(models))
    show(name, found)
    return found


def show(name: str, found: dict[str, Any]) -> None:
    """A server's lines."""
    print(f"{name}: ready {found['ready_s']:.1f} s, peak {found['peak_bytes'] / _MIB:.0f} MiB, "
          f"{found['loads']} loads, {found['evictions']} evictions, hit rate "
          f"{found['hit_rate']:.1%}", flush=True)  # fmt: skip
    for key, one in found["classes"].items():
        print(f"  {key:<12} attained {one['attainment']:8.3%}  offered {one['offered']:6.1f}/s  "
              f"p50 {one['p50_ms']:7.1f} ms  p99 {one['p99_ms']:7.1f} ms  {one['statuses']}",
              flush=True)  # fmt: skip


def sizes(
    folder: Path,
    document: dict[str, Any],
    catalog: Catalog,
    models: dict[str, str],
    given: argparse.Namespace,
) -> dict[str, Any]:
    """What all models take together, and what the process takes beside them, in bytes.

    Measured after some seconds of the traffic, because scratch memory and buffers come with it.
    """
    # A budget that is never reached: scratch memory and mapped weights as in the runs.
    gateway = document.get("gateway", {}) | {"memory_budget": "64GiB"}
    with serve(folder, "all", document | {"gateway": gateway}) as server:
        names = list(models)
        _all_loaded(server.address, names)
        seconds = given.seconds / 3
        requests = traffic(catalog, models, server.address, int(given.rate * seconds))
        uvloop.run(offer(catalog, requests, server.address, seconds))
        taken = pool_numbers(server.address, names)["bytes"]
        total = sum(taken.values())
        return {"process": worker_bytes(server) - total, "models": total, "each": taken}


def _all_loaded(address: str, names: list[str]) -> None:
    until_s = time.monotonic() + _READY_LIMIT_S
    while pool_numbers(address, names)["loaded"] < len(names) and time.monotonic() < until_s:
        time.sleep(0.5)


def processes(folder: Path, document: dict[str, Any], models: dict[str, str], count: int
              ) -> dict[str, Any]:  # fmt: skip
    """Memory and time to ready of one BentoML process a model, for the first ``count``."""
    file = folder / "apart.yaml"
    file.write_text(yaml.safe_dump(inline_only(document, models), sort_keys=False))
    taken, ready = [], []
    for name in list(models)[:count]:
        port = free_port()
        began_s = time.monotonic()
        with running(
            [str(Path(sys.executable).parent / "bentoml"), "serve", f"services.models:{name}"],
            port, f"/v2/models/{name}/ready", limit_s=_READY_LIMIT_S, PORT=str(port),
            TURNOUT_CATALOG=str(file),
        ) as server:  # fmt: skip
            ready.append(time.monotonic() - began_s)
            taken.append(server.memory_bytes())
    found = {"models": count, "bytes_a_model": int(np.median(taken)),
             "ready_s": round(float(np.median(ready)), 2)}  # fmt: skip
    print(f"one BentoML process a model ({count} of {len(models)} measured): "
          f"{found['bytes_a_model'] / _MIB:.0f} MiB each, ready after {found['ready_s']} s; "
          f"{len(models)} would take {found['bytes_a_model'] * len(models) / _MIB:.0f} MiB "
          "(extrapolated)", flush=True)  # fmt: skip
    return found


def with_faults(document: dict[str, Any], catalog: Catalog) -> dict[str, Any]:
    """The catalog with one fake model for each trouble, in the most urgent class."""
    urgent = min(catalog.classes, key=lambda name: catalog.classes[name].priority)
    models, routes = dict(document["models"]), dict(document["routes"])
    for name, fault in _FAULTS.items():
        models[f"fault-{name}"] = {
            "task": "tabular",
            "runner": {
                "engine": "fake",
                "latency_ms": 5,
                "fail": fault,
                "after_runs": 50,
                "leak_bytes": 128 * 1024,
            },
            "profile": {"base_ms": 5},
            "limits": {"max_run_s": 2},
            "memory": "4MiB",
        }
        routes[f"to-fault-{name}"] = {
            "task": "tabular", "candidates": [f"fault-{name}"], "latency_class": urgent,
        }  # fmt: skip
    return document | {"models": models, "routes": routes}


async def beside_faults(
    catalog: Catalog,
    requests: dict[str, list[bytes]],
    address: str,
    given: argparse.Namespace,
    faulty: Catalog,
) -> dict[str, Result]:
    """The same traffic, with 10 requests a second to each model in trouble."""
    rng = np.random.default_rng(3)
    ill = []
    for name in _FAULTS:
        body = body_of(_inputs(faulty, f"fault-{name}"), rng, "")
        ill.append(http_request(f"{address}/v2/models/fault-{name}/infer", body))
    rate = 10.0 * len(ill)
    results, _ = await asyncio.gather(
        offer(catalog, requests, address, given.seconds),
        run(address, ill, rate, given.seconds, 64),
    )
    return results


def faults(folder: Path, document: dict[str, Any], catalog: Catalog, models: dict[str, str],
           given: argparse.Namespace) -> dict[str, Any]:  # fmt: skip
    """Attainment of the sound models while five others are in trouble."""
    ill = with_faults(document, catalog)
    with serve(folder, "faults", ill) as server:
        time.sleep(3.0)
        faulty = load(folder / "faults.yaml")
        requests = traffic(catalog, models, server.address, int(given.rate * given.seconds))
        results = uvloop.run(beside_faults(catalog, requests, server.address, given, faulty))
        found = pool_numbers(server.address, [f"fault-{name}" for name in _FAULTS])
    shares = {key: round(attainment(result), 5) for key, result in results.items()}
    print(f"beside five models in trouble: {shares}; {found['troubled']}", flush=True)
    return {"attainment": shares, "troubled": found["troubled"]}


def main() -> int:
    """Run it; 1 when a target was missed."""
    parser = argparse.ArgumentParser(description="A fleet in one process.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--catalog", type=Path, default=PROJECT / "catalog" / "ecommerce.yaml")
    parser.add_argument("--rate", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--fault", action="store_true")
    given = parser.parse_args()
    catalog = load(given.catalog)
    models = classes_of(catalog)
    document = yaml.safe_load(given.catalog.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = inline_only(document, models)
        size = sizes(folder, base, catalog, models, given)
        budget = int(size["process"] + _SHARE * size["models"])
        print(f"{len(models)} models take {size['models'] / _MIB:.0f} MiB, the process beside them "
              f"{size['process'] / _MIB:.0f} MiB, budget {budget / _MIB:.0f} MiB",
              flush=True)  # fmt: skip
        room = budget - size["process"]
        large = [name for name, taken in size["each"].items() if taken > _MOST_OF_ROOM * room]
        if large:
            print(f"not asked for, because it would fill the room alone: {', '.join(large)}")
        models = {name: kept for name, kept in models.items() if name not in large}
        result: dict[str, Any] = {
            "not_asked": large,
            "models": len(models),
            "sizes": size,
            "budget_bytes": budget,
        }
        for order in ("worth", "lru"):
            gateway = base.get("gateway", {}) | {"memory_budget": f"{budget}B", "eviction": order}
            budgeted = base | {"gateway": gateway}
            result[order] = measured(folder, order, budgeted, catalog, models, given)
            if order == "worth" and given.fault:
                result["faults"] = faults(folder, budgeted, catalog, models, given)
        if given.processes:
            result["processes"] = processes(folder, document, models, given.processes)
            small = size["models"] / len(size["each"])
            ratio = small / result["processes"]["bytes_a_model"]
            result["memory_ratio"] = round(ratio, 4)
            print(f"a model here takes {small / _MIB:.1f} MiB on average: {ratio:.3f} of a process")
    save(given.json, result)
    return 0 if result["worth"]["peak_bytes"] <= 1.05 * budget else 1


if __name__ == "__main__":
    raise SystemExit(main())
