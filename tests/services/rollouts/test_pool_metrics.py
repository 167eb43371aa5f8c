"""What the pool loaded, let go and holds, as a scrape sees it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.dataplane.catalog_reload import reload_catalog
from tests.services.rollouts.conftest import CATALOG, Serve

BUDGET = CATALOG.replace("classes:", "gateway: {memory_budget: 64GiB}\nclasses:", 1)


async def test_loads_hits_and_bytes_are_counted(serve: Serve, tmp_path: Path) -> None:
    gateway = await serve(BUDGET)
    labels = {"model": "other"}
    resident = {"model": "other", "device": "cpu"}
    assert gateway.count("turnout_model_loads_total", **labels) == 1
    assert gateway.count("turnout_model_load_seconds_count", **labels) == 1
    assert gateway.count("turnout_model_resident_bytes", **resident) > 0
    assert gateway.count("turnout_pool_budget_bytes", device="cpu") == 64 * 1024**3
    assert 0 < gateway.count("turnout_pool_used_bytes", device="cpu") < 64 * 1024**3
    await gateway.answered(3, "other")
    assert gateway.count("turnout_model_residency_total", **labels, found="hit") == 3
    await gateway.client.post("/v2/repository/models/other/unload")
    assert gateway.count("turnout_model_resident_bytes", **resident) == 0
    await gateway.client.post("/v2/repository/models/other/load")
    assert gateway.count("turnout_model_loads_total", **labels) == 2
    file = tmp_path / "catalog.yaml"
    file.write_text(BUDGET.replace("prior: 0.2", "prior: 0.3"))
    reload_catalog(gateway.plane, file)  # a fresh slot counts from 0, and the sum goes on
    await gateway.answered(1, "other")
    assert gateway.count("turnout_model_loads_total", **labels) == 3
    without = [line for line in BUDGET.splitlines() if "other:" not in line]
    file.write_text("\n".join(without).replace(", other", ""))
    reload_catalog(gateway.plane, file)
    while "other" in gateway.plane.fleet.pool.slots:
        await asyncio.sleep(0)
    assert gateway.count("turnout_model_resident_bytes", **resident) == 0
    assert gateway.count("turnout_model_loads_total", **labels) == 3


async def test_without_a_budget_there_is_none_to_show(serve: Serve) -> None:
    gateway = await serve()
    gateway.plane.measure()
    assert gateway.registry.get_sample_value("turnout_pool_budget_bytes", {"device": "cpu"}) is None
