"""Profiles kept between starts: which count, what a fleet makes of them, when they are renewed."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from services.artifacts.catalog_build import build_missing
from services.cli.models import app
from services.fleet.fleet import Fleet
from services.fleet.profile_drift import ProfileWatch
from services.fleet.profiles import Profile, Profiles, key_of, new_profile
from services.metrics.metrics import Metrics
from tests.e2e.test_faults import scorer
from tests.services.conftest import StandIn
from turnout.catalog import Catalog, Model, load

_NONE = Profile("k", 1.0, 0.0, 0.0, "measured", "2026-01-01")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalog of one real tabular model, built into a store of its own."""
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "mine.onnx"
    path.write_bytes(scorer())
    artifact = {
        "tag": "mine",
        "source": f"file:{path}",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    catalog = {
        "version": 1,
        "classes": {"realtime": {"deadline_ms": 100, "priority": 0}},
        "models": {
            "mine": {
                "task": "tabular",
                "runner": {"engine": "onnx"},
                "artifact": artifact,
                "profile": {"base_ms": 40},
                "batching": {"max_rows": 8},
            }
        },
        "routes": {
            "fraud": {"task": "tabular", "candidates": ["mine"], "latency_class": "realtime"}
        },
    }
    where = tmp_path / "catalog.yaml"
    where.write_text(yaml.safe_dump(catalog))
    build_missing(load(where), lambda line: None)
    return where


@pytest.fixture
def catalog_(file: Path) -> Catalog:
    return load(file)


def with_runner(model: Model, **options: Any) -> Model:
    return model.model_copy(update={"runner": model.runner.model_copy(update=options)})


def test_the_command_measures_and_the_next_fleet_begins_there(
    file: Path, catalog_: Catalog
) -> None:
    done = CliRunner().invoke(app, ["profile", "mine", "--catalog", str(file), "--json"])
    assert done.exit_code == 0, done.output
    curve = json.loads(done.stdout)["mine"]
    assert [point["units"] for point in curve["points"]] == [1, 2, 4, 8]
    assert all(point["median_ms"] > 0 for point in curve["points"])
    assert curve["provider"] == "CPUExecutionProvider"

    def backend(name: str, model: Model, latency: object) -> StandIn:
        return StandIn(name, model.task)

    fleet = Fleet(catalog_, backend, prior=Profiles.read().prior)
    assert fleet.members["mine"].prior == "host"
    assert fleet.latencies["mine"].run_s(1) == pytest.approx(curve["base_ms"] / 1e3)
    guessed = Fleet(catalog_, backend)
    assert guessed.members["mine"].prior == "catalog"
    assert guessed.latencies["mine"].run_s(1) == pytest.approx(0.04)


def test_a_profile_counts_for_its_model_options_and_artefact_only(catalog_: Catalog) -> None:
    model = catalog_.models["mine"]
    kept = new_profile(model, 3.0, 0.5, 0.0, "measured")
    assert kept is not None
    Profiles.read().keep("mine", kept)
    profiles = Profiles.read()
    assert profiles.of("mine", model) == kept
    assert profiles.of("other", model) is None
    assert profiles.of("mine", with_runner(model, threads=2)) is None
    latency = profiles.prior("mine", model)
    assert latency is not None
    assert latency.run_s(3) == pytest.approx(0.004)


def test_a_damaged_file_holds_nothing(catalog_: Catalog, tmp_path: Path) -> None:
    for content in ("{", "[]", '{"mine": {"key": 1}}', '{"mine": 3}'):
        (tmp_path / "profiles.json").write_text(content)
        assert Profiles.read(tmp_path / "profiles.json").of("mine", catalog_.models["mine"]) is None


def test_two_processes_keep_each_others_profiles(tmp_path: Path) -> None:
    first, second = (Profiles.read(tmp_path / "profiles.json") for _ in range(2))
    first.keep("a", _NONE)
    second.keep("b", replace(_NONE, base_ms=2.0))
    assert set(json.loads((tmp_path / "profiles.json").read_text())) == {"a", "b"}


def test_engines_without_files_have_no_profile(catalog: Catalog) -> None:
    assert key_of(catalog.models["fraud-small"]) is None
    assert new_profile(catalog.models["fraud-small"], 1, 0, 0, "served") is None


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
async def watched(catalog_: Catalog) -> tuple[Fleet, Callable[[], ProfileWatch], Clock, Any]:
    from prometheus_client import CollectorRegistry

    registry, clock = CollectorRegistry(), Clock()
    metrics = Metrics(registry)
    fleet = Fleet(catalog_, lambda name, model, latency: StandIn(name, model.task))
    fleet.start()
    await fleet.settled()
    return fleet, lambda: ProfileWatch(fleet, Profiles.read(), metrics, clock), clock, registry


def serve(fleet: Fleet, run_s: float, times: int = 250) -> None:
    latency = fleet.members["mine"].latency
    from routing.latency import Busy, Demand

    for _ in range(times):
        told = latency.predict(Demand(1.0), Busy())
        latency.observe_run(1.0, run_s)
        latency.observe_answer(told, run_s)


async def test_without_a_profile_what_was_served_is_kept(watched: Any, catalog_: Catalog) -> None:
    fleet, make, _, registry = watched
    watch = make()
    assert watch.due() == []
    serve(fleet, 0.002)
    due = watch.due()
    assert [member.name for member in due] == ["mine"]
    await asyncio.to_thread(watch.renew, due)
    kept = Profiles.read().of("mine", catalog_.models["mine"])
    assert kept is not None
    assert kept.source == "served"
    assert kept.base_ms == pytest.approx(2.0, rel=0.05)
    assert registry.get_sample_value("turnout_profile_renewed_total", {"model": "mine"}) == 1
    assert watch.due() == []
    assert registry.get_sample_value("turnout_profile_ratio", {"model": "mine"}) == pytest.approx(
        1.0, rel=0.05
    )


async def test_a_drift_that_lasts_renews_the_profile(watched: Any, catalog_: Catalog) -> None:
    fleet, make, clock, registry = watched
    stored = new_profile(catalog_.models["mine"], 1.0, 0.1, 0.0, "measured")
    assert stored is not None
    Profiles.read().keep("mine", stored)
    watch = make()
    serve(fleet, 0.0015)
    assert watch.due() == []  # within the bound
    clock.now_s = 100.0
    serve(fleet, 0.005)
    assert watch.due() == []  # beyond it, but not for long
    ratio = registry.get_sample_value("turnout_profile_ratio", {"model": "mine"})
    assert ratio == pytest.approx(5.0, rel=0.1)
    clock.now_s = 161.0
    due = watch.due()
    assert [member.name for member in due] == ["mine"]
    watch.renew(due)
    kept = Profiles.read().of("mine", catalog_.models["mine"])
    assert kept is not None
    assert kept.base_ms == pytest.approx(5.0, rel=0.1)


async def test_a_profile_that_cannot_be_written_harms_nobody(
    watched: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, make, _, registry = watched
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    monkeypatch.setenv("TURNOUT_CACHE", str(blocked))
    watch = make()
    serve(fleet, 0.002)
    watch.renew(watch.due())
    assert registry.get_sample_value("turnout_profile_renewed_total", {"model": "mine"}) is None
