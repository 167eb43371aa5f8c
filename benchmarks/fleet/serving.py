"""Serve a modified catalog for a measurement, and read the state of its models."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.servers import Server, free_port, running

READY_LIMIT_S = 120.0


class Sampler:
    """Samples the largest resident memory of a server's processes while it is open."""

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
    """Return the resident memory of a server's largest process, which holds the models."""
    processes = (server.process, *server.process.children(recursive=True))
    return max((one.memory_info().rss for one in processes if one.is_running()), default=0)


def pool_numbers(address: str, names: list[str]) -> dict[str, Any]:
    """Return loads, evictions and hit rate over all models, and each model's bytes."""
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
        "trouble": {n: one["trouble"] for n, one in zip(names, said, strict=True)
                    if "trouble" in one},
        "hits_of": {n: (one["hits"], one["misses"]) for n, one in zip(names, said, strict=True)},
    }  # fmt: skip


def serve(folder: Path, name: str, document: dict[str, Any]) -> Any:
    """Run a gateway over a catalog that is written to ``folder``."""
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    port = free_port()
    return running([str(Path(sys.executable).parent / "bentoml"), "serve"], port, "/readyz",
                   limit_s=READY_LIMIT_S, PORT=str(port), TURNOUT_CATALOG=str(file),
                   TURNOUT_DATABASE_URL=f"sqlite:///{folder / name}.db")  # fmt: skip


def inline_only(document: dict[str, Any], models: dict[str, str]) -> dict[str, Any]:
    """Return the catalog without models in separate processes, so that one process is measured."""
    kept = {name: entry for name, entry in document["models"].items() if name in models}
    routes = {}
    for name, route in document["routes"].items():
        candidates = [one for one in route["candidates"] if one in kept]
        if candidates:
            routes[name] = route | {"candidates": candidates}
    return document | {"models": kept, "routes": routes, "pipelines": {}}


def all_loaded(address: str, names: list[str]) -> None:
    """Wait until every model is loaded or has failed."""
    until_s = time.monotonic() + READY_LIMIT_S
    while pool_numbers(address, names)["loaded"] < len(names) and time.monotonic() < until_s:
        time.sleep(0.5)
