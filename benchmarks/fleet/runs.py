"""Run one server under the traffic, its models' memory, and the same models one process each."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvloop
import yaml

from benchmarks.fleet.serving import (
    READY_LIMIT_S,
    Sampler,
    all_loaded,
    inline_only,
    pool_numbers,
    serve,
    worker_bytes,
)
from benchmarks.fleet.traffic import attainment, offer, traffic
from benchmarks.open_loop import Result
from benchmarks.servers import free_port, running
from services.artifacts.mapped_weights import map_graphs
from turnout.catalog import Catalog, load

MIB = 1024**2
_SETTLE_S = 3.0


def sizes(
    folder: Path,
    document: dict[str, Any],
    catalog: Catalog,
    models: dict[str, str],
    given: argparse.Namespace,
) -> dict[str, Any]:
    """Return the bytes of all models together and of the process without them.

    All are loaded, asked for some seconds (scratch memory and buffers come with that), and
    unloaded again: what is left is the process's own. The weights of these models are made ready
    to be mapped first, as ``turnout serve`` does.
    """
    # A budget that is never reached: scratch memory and mapped weights as in the runs.
    gateway = document.get("gateway", {}) | {"memory_budget": "64GiB"}
    file = folder / "all.yaml"
    file.write_text(yaml.safe_dump(document | {"gateway": gateway}, sort_keys=False))
    map_graphs(load(file), lambda line: print(line, flush=True))
    with serve(folder, "all", document | {"gateway": gateway}) as server:
        names = list(models)
        all_loaded(server.address, names)
        seconds = given.seconds / 3
        requests = traffic(catalog, models, server.address, int(given.rate * seconds))
        uvloop.run(offer(catalog, requests, server.address, seconds))
        taken = pool_numbers(server.address, names)["bytes"]
        whole = worker_bytes(server)
        with httpx.Client(base_url=server.address, timeout=60.0) as client:
            for name in names:
                client.post(f"/v2/repository/models/{name}/unload").raise_for_status()
        own = worker_bytes(server)
        return {"process": own, "models": whole - own, "each": taken}


def measured(
    folder: Path,
    name: str,
    document: dict[str, Any],
    catalog: Catalog,
    models: dict[str, str],
    given: argparse.Namespace,
) -> dict[str, Any]:
    """Measure one server under the traffic."""
    began_s = time.monotonic()
    with serve(folder, name, document) as server:
        ready_s = time.monotonic() - began_s
        time.sleep(_SETTLE_S)
        requests = traffic(catalog, models, server.address, int(given.rate * given.seconds))
        with Sampler(server) as sampler:
            results = uvloop.run(offer(catalog, requests, server.address, given.seconds))
        found = {
            "ready_s": round(ready_s, 2),
            "peak_bytes": sampler.peak_bytes,
            "classes": {key: _of_class(result) for key, result in results.items()},
        } | pool_numbers(server.address, list(models))
    hits = found.pop("hits_of")
    for key, one in found["classes"].items():
        of_class = [hits[model] for model, its in models.items() if its == key]
        asked = sum(hit + miss for hit, miss in of_class)
        one["hit_rate"] = round(sum(hit for hit, _ in of_class) / max(asked, 1), 4)
    show(name, found)
    return found


def together(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge several rounds of one server: counts are summed, other numbers are the worst."""
    classes: dict[str, Any] = {}
    for key in rounds[0]["classes"]:
        its = [one["classes"][key] for one in rounds]
        statuses: Counter[str] = Counter()
        for one in its:
            statuses.update(one["statuses"])
        asked = sum(one["asked"] for one in its)
        classes[key] = {
            "attainment": round(sum(one["attainment"] * one["asked"] for one in its) / asked, 5),
            "asked": asked,
            "hit_rate": round(sum(one["hit_rate"] * one["asked"] for one in its) / asked, 4),
            "p99_ms": max(one["p99_ms"] for one in its),
            "statuses": dict(statuses),
        }
    return {
        "ready_s": max(one["ready_s"] for one in rounds),
        "peak_bytes": max(one["peak_bytes"] for one in rounds),
        "classes": classes,
        "rounds": rounds,
    }


def show(name: str, found: dict[str, Any]) -> None:
    """Print a server's results."""
    print(f"{name}: ready {found['ready_s']:.1f} s, peak {found['peak_bytes'] / MIB:.0f} MiB, "
          f"{found['loads']} loads, {found['evictions']} evictions, hit rate "
          f"{found['hit_rate']:.1%}", flush=True)  # fmt: skip
    for key, one in found["classes"].items():
        print(f"  {key:<12} attained {one['attainment']:8.3%}  hit rate {one['hit_rate']:6.1%}  "
              f"p50 {one['p50_ms']:7.1f} ms  p99 {one['p99_ms']:7.1f} ms  {one['statuses']}",
              flush=True)  # fmt: skip
    for model, why in found["troubled"].items():
        print(f"  {model}: {why}", flush=True)


def processes(folder: Path, document: dict[str, Any], models: dict[str, str], count: int
              ) -> dict[str, Any]:  # fmt: skip
    """Measure memory and time to ready of one BentoML process per model, for ``count`` models."""
    file = folder / "apart.yaml"
    file.write_text(yaml.safe_dump(inline_only(document, models), sort_keys=False))
    taken, ready = [], []
    for name in list(models)[:count]:
        port = free_port()
        began_s = time.monotonic()
        with running(
            [str(Path(sys.executable).parent / "bentoml"), "serve", f"services.models:{name}"],
            port, f"/v2/models/{name}/ready", limit_s=READY_LIMIT_S, PORT=str(port),
            TURNOUT_CATALOG=str(file),
        ) as server:  # fmt: skip
            ready.append(time.monotonic() - began_s)
            taken.append(server.memory_bytes())
    found = {"models": count, "bytes_a_model": int(np.median(taken)),
             "ready_s": round(float(np.median(ready)), 2)}  # fmt: skip
    print(f"one BentoML process a model ({count} of {len(models)} measured): "
          f"{found['bytes_a_model'] / MIB:.0f} MiB each, ready after {found['ready_s']} s; "
          f"{len(models)} would take {found['bytes_a_model'] * len(models) / MIB:.0f} MiB "
          "(extrapolated)", flush=True)  # fmt: skip
    return found


def _of_class(result: Result) -> dict[str, Any]:
    asked = sum(result.statuses.values())
    return {"attainment": round(attainment(result), 5), "asked": asked, **result.as_json()}
