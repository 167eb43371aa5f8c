"""The catalog of one model's own service."""

from services.models import narrowed
from turnout.catalog.reading import parse

CATALOG = """
version: 1
gateway: {memory_budget: 64MiB}
classes: {quick: {deadline_ms: 100, priority: 0}}
models:
  near: {task: rank, dimensions: {columns: 2}, runner: {engine: fake}}
  apart: {task: rank, dimensions: {columns: 2}, runner: {engine: fake}, placement: process}
routes:
  rank: {task: rank, candidates: [near, apart], latency_class: quick}
pipelines:
  ranked:
    latency_class: quick
    stages: {rank: {route: rank, in: {features: features}}}
    out: {score: rank.score}
"""


def test_the_gateways_budget_is_not_that_of_a_process_beside_it() -> None:
    catalog = parse(CATALOG, "test")
    assert narrowed(catalog, "apart").gateway.budgets == {}
    assert narrowed(catalog, "near").gateway.budgets == {"cpu": 64 * 1024**2}


def test_a_models_own_service_has_its_routes_and_no_pipelines() -> None:
    alone = narrowed(parse(CATALOG, "test"), "apart")
    assert list(alone.models) == ["apart"]
    assert alone.models["apart"].placement == "inline"
    assert alone.routes["rank"].candidates == ("apart",)
    assert not alone.pipelines
