"""Measure the effect of one faulty model on the other models.

The same catalog and traffic with the same models added, first in health, then each in its trouble,
then all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.fleet.serving import pool_numbers, serve
from benchmarks.fleet.traffic import attainment, body_of, inputs_of, offer, traffic
from benchmarks.open_loop import Result, http_request, run
from turnout.catalog import Catalog, load

FAULTS = {"crash": "run", "hang": "hang", "nan": "nan", "leak": "leak", "slow": "slow"}
_RATE = 10.0  # requests a second to each of the models that were added
_SETTLE_S = 3.0


def faults(
    folder: Path,
    document: dict[str, Any],
    catalog: Catalog,
    models: dict[str, str],
    given: argparse.Namespace,
) -> dict[str, Any]:
    """Return the healthy models' attainment by fault, and the loss in points."""
    found: dict[str, Any] = {}
    for trouble in ("none", *FAULTS, "all"):
        ill = {"none": (), "all": tuple(FAULTS)}.get(trouble, (trouble,))
        shares, troubled = _beside(folder, trouble, with_models(document, catalog, ill), catalog,
                                   models, given)  # fmt: skip
        sound = found["none"]["attainment"] if found else shares
        lost = {key: round(100.0 * (sound[key] - share), 3) for key, share in shares.items()}
        found[trouble] = {"attainment": shares, "lost": lost, "troubled": troubled}
        print(f"beside {trouble:<6} " + "  ".join(
            f"{key} {share:.3%} ({-lost[key]:+.2f})" for key, share in shares.items()
        ), flush=True)  # fmt: skip
        for name, why in troubled.items():
            print(f"  {name}: {why}", flush=True)
    return found


def with_models(document: dict[str, Any], catalog: Catalog, ill: Collection[str]) -> dict[str, Any]:
    """Return the catalog with one fake model for each fault, in the most urgent class.

    Args:
        document: the catalog's.
        catalog: the same, read.
        ill: which of the troubles are real; the other models are sound.
    """
    urgent = min(catalog.classes, key=lambda name: catalog.classes[name].priority)
    models, routes = dict(document["models"]), dict(document["routes"])
    for name, fault in FAULTS.items():
        models[f"added-{name}"] = {
            "task": "tabular",
            "runner": {
                "engine": "fake",
                "latency_ms": 5,
                "fail": fault if name in ill else "never",
                "after_runs": 50,
                "leak_bytes": 128 * 1024,
            },
            "profile": {"base_ms": 5},
            "limits": {"max_run_s": 2},
            "memory": "1MiB",
        }
        routes[f"to-added-{name}"] = {
            "task": "tabular", "candidates": [f"added-{name}"], "latency_class": urgent,
        }  # fmt: skip
    return document | {"models": models, "routes": routes}


def _beside(
    folder: Path,
    trouble: str,
    document: dict[str, Any],
    catalog: Catalog,
    models: dict[str, str],
    given: argparse.Namespace,
) -> tuple[dict[str, float], dict[str, str]]:
    names = [f"added-{name}" for name in FAULTS]
    with serve(folder, f"beside-{trouble}", document) as server:
        time.sleep(_SETTLE_S)
        changed = load(folder / f"beside-{trouble}.yaml")
        requests = traffic(catalog, models, server.address, int(given.rate * given.fault_seconds))
        rng = np.random.default_rng(3)
        added = [
            http_request(
                f"{server.address}/v2/models/{name}/infer",
                body_of(inputs_of(changed, name), rng, ""),
            )
            for name in rng.choice(names, int(_RATE * len(names) * given.fault_seconds))
        ]
        results = uvloop.run(_both(catalog, requests, added, server.address, given.fault_seconds))
        said = pool_numbers(server.address, [*models, *names])
    shares = {key: round(attainment(result), 5) for key, result in results.items()}
    return shares, said["troubled"] | said["trouble"]


async def _both(
    catalog: Catalog,
    requests: dict[str, list[bytes]],
    added: list[bytes],
    address: str,
    seconds: float,
) -> dict[str, Result]:
    """Offer the usual traffic and requests to the added models together."""
    results, _ = await asyncio.gather(
        offer(catalog, requests, address, seconds),
        run(address, added, len(added) / seconds, seconds, 64),
    )
    return results
