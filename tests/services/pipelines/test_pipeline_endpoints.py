"""Pipelines over a real plane of fake engines, through the front door."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from routing.decision.request_view import RequestAnalyzer
from routing.latency import ModelLatency
from runners.backends.local_tensors import LocalTensors
from runners.backends.local_text import LocalText
from runners.engines import make
from runners.protocol import TensorResult, Ticket
from runners.tasks.pass_through import PassThrough
from services.dataplane.data_plane import DataPlane
from services.dataplane.decision_log import DecisionLog
from services.fleet.fleet import Fleet
from services.http.messages import Receive, Scope, Send
from services.metrics.metrics import Metrics
from services.pipelines.registry import PipelineRegistry
from services.pipelines.types import PipelineRequest
from services.server.app import GatewayApp
from turnout.catalog import Model
from turnout.catalog.reading import parse
from turnout.types import Task, Tensors

CATALOG = """
version: 1
classes:
  quick: {deadline_ms: 10000, priority: 0, infeasible: fastest}
  patient: {deadline_ms: 1, priority: 2, infeasible: queue}
models:
  embedder: {task: embed, dimensions: {width: 8}, runner: {engine: fake}}
  index: {task: retrieve, dimensions: {width: 8, top: 5, columns: 3}, runner: {engine: fake}}
  intent: {task: classify-text, runner: {engine: fake}}
  cards-de: {task: lookup, runner: {engine: fake}}
  writer: {task: chat, runner: {engine: fake}}
  ranker: {task: rank, dimensions: {columns: 3}, runner: {engine: fake},
           cost: {usd_per_request: 0.01}}
routes:
  rank-shoes: {task: rank, candidates: [ranker], latency_class: quick}
  rank-books: {task: rank, candidates: [ranker], latency_class: quick}
pipelines:
  search:
    latency_class: quick
    parameters: {category: {from: intent.label, default: shoes}}
    stages:
      intent: {route: intent, in: {text: query}}
      embed: {route: embedder, in: {text: query}}
      retrieve: {route: index, in: {embedding: embed.embedding}}
      rank: {route: "rank-{category}", in: {features: retrieve.features.0}}
      cards: {route: cards-de, in: {item: retrieve.item.0}}
    out: {item: retrieve.item.0, title: cards.text, score: rank.score}
    sort_by: score
    limit: 4
  describe:
    latency_class: quick
    parameters: {market: {}}
    stages:
      card: {route: "cards-{market}", in: {item: item}}
      write: {route: writer, prompt: "Praise {card.text}!", max_tokens: 100}
    out: {text: write.text}
"""


async def _nobody(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError(f"{scope['path']} was passed on")


def _backend(name: str, model: Model, latency: ModelLatency) -> Any:
    runner = make(name, model, None)
    if model.task is Task.CHAT:
        return LocalText(name, lambda: runner)
    return LocalTensors(name, lambda: (runner, PassThrough()), latency)


def _plane(text: str, make_backend: Callable[..., Any] = _backend) -> DataPlane:
    catalog = parse(text, "test")
    fleet = Fleet(catalog, make_backend)
    return DataPlane(
        catalog, fleet, RequestAnalyzer(catalog), Metrics(CollectorRegistry()), DecisionLog()
    )


@pytest.fixture
async def make_client() -> AsyncIterator[Callable[[str], httpx.AsyncClient]]:
    opened: list[tuple[httpx.AsyncClient, Fleet]] = []

    def build(text: str = CATALOG) -> httpx.AsyncClient:
        plane = _plane(text)
        fleet = plane.fleet
        door = GatewayApp(lambda: plane, _nobody)
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=door), base_url="http://turnout"
        )
        opened.append((client, fleet))
        fleet.start()
        return client

    yield build
    for client, fleet in opened:
        await client.aclose()
        await fleet.stop()


@pytest.fixture
async def client(make_client: Callable[..., httpx.AsyncClient]) -> httpx.AsyncClient:
    return make_client()


async def test_a_search_is_sorted_cut_and_explained(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/pipelines/search", json={"inputs": {"query": "red shoes"}, "limit": 3}
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    scores = [row["score"] for row in body["results"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert {stage["stage"] for stage in body["stages"]} == {
        "intent", "embed", "retrieve", "rank", "cards",
    }  # fmt: skip
    rank = next(stage for stage in body["stages"] if stage["stage"] == "rank")
    assert rank["route"] == "rank-shoes"  # the fake label has no route: the default stands for it
    assert answer.headers["x-turnout-decision"] == body["id"]


async def test_every_stages_decision_is_kept_under_one_trace(client: httpx.AsyncClient) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    posted = await client.post(
        "/v1/pipelines/search", json={"inputs": {"query": "red"}}, headers=headers
    )
    body = posted.json()
    assert body["trace_id"] == trace
    whole = (await client.get(f"/v1/decisions/{body['id']}")).json()["stages"]
    assert set(whole) == {stage["stage"] for stage in body["stages"]}
    assert {record["trace_id"] for record in whole.values()} == {trace}
    one = await client.get(f"/v1/decisions/{body['stages'][0]['decision_id']}")
    assert one.json()["outcome"]["status"] == "ok"


async def test_later_stages_time_is_kept_back(client: httpx.AsyncClient) -> None:
    body = {"inputs": {"query": "red"}, "deadline_ms": 5000}
    posted = (await client.post("/v1/pipelines/search", json=body)).json()
    whole = (await client.get(f"/v1/decisions/{posted['id']}")).json()["stages"]
    assert 0 < whole["embed"]["deadline_ms"] < whole["retrieve"]["deadline_ms"] + 5000
    assert whole["embed"]["deadline_ms"] < 5000 * 0.5
    assert whole["rank"]["deadline_ms"] <= 5000


async def test_a_given_category_chooses_the_route_and_spares_a_stage(
    client: httpx.AsyncClient,
) -> None:
    body = {"inputs": {"query": "red"}, "parameters": {"category": "books"}}
    stages = (await client.post("/v1/pipelines/search", json=body)).json()["stages"]
    assert {stage["stage"]: stage["route"] for stage in stages}["rank"] == "rank-books"
    assert "intent" not in {stage["stage"] for stage in stages}


async def test_a_product_becomes_text(client: httpx.AsyncClient) -> None:
    body = {"inputs": {"item": 7}, "parameters": {"market": "de"}}
    answer = await client.post("/v1/pipelines/describe", json=body)
    (row,) = answer.json()["results"]
    assert row["text"].startswith("Praise fake-")
    assert row["text"].endswith("!")


@pytest.mark.parametrize(
    ("body", "status", "what"),
    [
        ([], 400, "must be a JSON object"),
        ({}, 400, "inputs.query is missing"),
        ({"inputs": []}, 400, "inputs must be an object"),
        ({"inputs": {}}, 400, "inputs.query is missing"),
        ({"inputs": {"query": 3}}, 400, "cannot be read"),
        ({"inputs": {"query": [3]}}, 400, "must be text"),
        ({"inputs": {"query": []}}, 400, "no rows"),
        ({"inputs": {"query": ["a", "b"]}}, 400, "one row a request, got 2"),
        ({"inputs": {"query": "a", "more": 1}}, 400, "inputs.more is unknown"),
        ({"inputs": {"query": "a"}, "limit": True}, 400, "limit must be"),
        ({"inputs": {"query": "a"}, "limit": 10**9}, 400, "limit must be"),
        ({"inputs": {"query": "a"}, "size": 3}, 400, "unknown key size"),
        ({"inputs": {"query": "a"}, "parameters": []}, 400, "parameters must be an object"),
        (
            {"inputs": {"query": "a"}, "parameters": {"category": 3}},
            400,
            "parameter category must be text",
        ),
        ({"inputs": {"query": "a"}, "parameters": {"category": "x"}}, 400, "known here: shoes, b"),
        ({"inputs": {"query": "a"}, "parameters": {"market": "x"}}, 400, "no parameter 'market'"),
        ({"inputs": {"query": "a"}, "latency_class": "x"}, 400, "no latency class"),
        ({"inputs": {"query": "a"}, "deadline_ms": -1}, 400, "deadline_ms must be"),
        ({"inputs": {"query": "a"}, "max_cost_usd": 0.001}, 422, "stage 'rank'"),
    ],
)
async def test_what_cannot_be_answered_is_said(
    client: httpx.AsyncClient, body: object, status: int, what: str
) -> None:
    answer = await client.post("/v1/pipelines/search", json=body)
    assert answer.status_code == status
    assert what in answer.json()["error"]["message"]


async def test_a_parameter_without_a_default_must_be_given(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/pipelines/describe", json={"inputs": {"item": 1}})
    assert answer.status_code == 400
    assert "parameter 'market' is missing; known here: de" in answer.json()["error"]["message"]


async def test_another_name_is_not_found(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/pipelines/nope", json={})
    assert answer.status_code == 404
    assert "search, describe" in answer.json()["error"]["message"]


async def test_a_failure_names_its_stage(make_client: Callable[..., httpx.AsyncClient]) -> None:
    text = CATALOG.replace(
        "lookup, runner: {engine: fake}", "lookup, runner: {engine: fake, fail: run}"
    )
    answer = await make_client(text).post("/v1/pipelines/search", json={"inputs": {"query": "a"}})
    assert answer.status_code == 500
    assert answer.json()["error"]["message"].startswith("stage 'cards': model 'cards-de'")
    assert answer.json()["error"]["code"] == "run_failed"


async def test_the_whole_keeps_its_deadline(make_client: Callable[..., httpx.AsyncClient]) -> None:
    """A stage that would take a minute does not make the caller wait one."""
    text = CATALOG.replace(
        "lookup, runner: {engine: fake}", "lookup, runner: {engine: fake, latency_ms: 1500}"
    )
    body = {"inputs": {"query": "a"}, "deadline_ms": 300}
    answer = await make_client(text).post("/v1/pipelines/search", json=body)
    assert answer.status_code == 503
    assert "stage 'cards': pipeline 'search': the deadline passed" in answer.text
    assert "retry-after" in answer.headers


async def test_a_class_that_waits_has_no_deadline(client: httpx.AsyncClient) -> None:
    body = {"inputs": {"query": "a"}, "latency_class": "patient"}
    assert (await client.post("/v1/pipelines/search", json=body)).status_code == 200


async def test_open_inference_sees_a_model_like_any_other(client: httpx.AsyncClient) -> None:
    listed = {one["id"] for one in (await client.get("/v1/models")).json()["data"]}
    assert {"search", "describe"} <= listed
    about = (await client.get("/v2/models/search")).json()
    assert about["inputs"] == [{"name": "query", "datatype": "BYTES", "shape": [-1]}]
    assert about["parameters"]["values"] == {"category": ["shoes", "books"]}
    body = {
        "id": "7",
        "inputs": [{"name": "query", "datatype": "BYTES", "shape": [1], "data": ["red"]}],
        "parameters": {"category": "books", "limit": 2, "latency_class": "quick"},
        "outputs": [{"name": "item"}],
    }
    answer = await client.post("/v2/models/search/versions/1/infer", json=body)
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()["outputs"]
    assert item["shape"] == [2]
    assert set(answer.json()["parameters"]["decisions"]) == {"embed", "retrieve", "rank", "cards"}
    assert (await client.get("/v2/models/search/ready")).json() == {"name": "search", "ready": True}
    wrong = body | {"inputs": [{"name": "query", "datatype": "FP32", "shape": [1], "data": [1]}]}
    refused = await client.post("/v2/models/search/infer", json=wrong)
    assert refused.status_code == 400
    assert "must be BYTES" in refused.json()["error"]


async def test_a_pipeline_is_not_ready_while_a_stage_has_no_model_that_serves(
    make_client: Callable[..., httpx.AsyncClient],
) -> None:
    text = CATALOG.replace(
        "lookup, runner: {engine: fake}", "lookup, runner: {engine: fake, fail: load}"
    )
    client = make_client(text)
    await client.post("/v1/pipelines/search", json={"inputs": {"query": "a"}})
    reply = await client.get("/v2/models/search/ready")
    assert (reply.status_code, reply.json()["ready"]) == (503, False)


async def test_an_unexpected_failure_is_not_counted_as_an_answer() -> None:
    class Odd(LocalTensors):
        async def infer(self, tensors: Tensors, ticket: Ticket) -> TensorResult:
            raise RuntimeError("unforeseen")

    def backend(name: str, model: Model, latency: ModelLatency) -> Any:
        runner = make(name, model, None)
        return Odd(name, lambda: (runner, PassThrough()), latency)

    registry = CollectorRegistry()
    catalog = parse(CATALOG, "test")
    fleet = Fleet(catalog, backend)
    plane = DataPlane(catalog, fleet, RequestAnalyzer(catalog), Metrics(registry), DecisionLog())
    query = {"query": np.array([b"red"], object)}
    with pytest.raises(RuntimeError, match="unforeseen"):
        await PipelineRegistry(plane).run("search", PipelineRequest(query, plane.clock(), {}))
    await fleet.stop()
    labels = {"pipeline": "search", "latency_class": "quick", "status": "internal"}
    assert registry.get_sample_value("turnout_pipeline_seconds_count", labels) == 1


class _Held(LocalTensors):
    """Answers once it is let go."""

    def __init__(self, name: str, model: Model, latency: ModelLatency) -> None:
        runner: Any = make(name, model, None)
        super().__init__(name, lambda: (runner, PassThrough()), latency)
        self.reached, self.let_go = asyncio.Event(), asyncio.Event()

    async def infer(self, tensors: Tensors, ticket: Ticket) -> TensorResult:
        self.reached.set()
        await self.let_go.wait()
        return await super().infer(tensors, ticket)


async def test_a_reload_changes_the_routes_and_what_is_under_way_ends_as_it_began() -> None:
    held: list[_Held] = []

    def make_backend(name: str, model: Model, latency: ModelLatency) -> Any:
        if name != "index":
            return _backend(name, model, latency)
        held.append(_Held(name, model, latency))
        return held[-1]

    plane = _plane(CATALOG, make_backend)
    changed = parse(CATALOG.replace("shoes", "hats").replace("ranker", "sorter"), "test")
    plane.fleet.start()
    transport = httpx.ASGITransport(app=GatewayApp(lambda: plane, _nobody))
    async with httpx.AsyncClient(transport=transport, base_url="http://turnout") as client:
        body = {"inputs": {"query": "red"}, "parameters": {"category": "shoes"}}
        under_way = asyncio.ensure_future(client.post("/v1/pipelines/search", json=body))
        await plane.fleet.settled()
        await held[0].reached.wait()
        plane.fleet.adopt(changed)
        plane.adopt(changed, RequestAnalyzer(changed))
        gone = await client.post("/v2/models/ranker/infer", json={})
        assert gone.status_code == 404
        plane.draining = True
        hats = {"inputs": {"query": "red"}, "parameters": {"category": "hats"}}
        refused = await client.post("/v1/pipelines/search", json=hats)
        assert refused.status_code == 503
        held[0].let_go.set()
        answer = await under_way
        plane.draining = False
        assert answer.status_code == 200
        models = {stage["stage"]: stage["model"] for stage in answer.json()["stages"]}
        assert models["rank"] == "ranker"
        assert plane.fleet.members["ranker"].promised == 0
        about = (await client.get("/v2/models/search")).json()
        assert about["parameters"]["values"] == {"category": ["hats", "books"]}
        searched = (await client.post("/v1/pipelines/search", json=hats)).json()
        assert {stage["model"] for stage in searched["stages"]} >= {"sorter", "index"}
    await plane.fleet.stop()
