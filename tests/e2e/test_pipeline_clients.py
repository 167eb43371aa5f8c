"""A pipeline through the real server: HTTP, tritonclient and BentoML's own client."""

from collections.abc import Iterator
from pathlib import Path

import bentoml
import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from tests.e2e.conftest import serving

pytestmark = pytest.mark.e2e

CATALOG = """
version: 1
classes: {quick: {deadline_ms: 10000, priority: 0}}
models:
  finder-de: {task: recommend, dimensions: {top: 5, columns: 3}, runner: {engine: fake}}
  finder-fr: {task: recommend, dimensions: {top: 5, columns: 3}, runner: {engine: fake}}
  ranker: {task: rank, dimensions: {columns: 3}, runner: {engine: fake}}
routes:
  rank: {task: rank, candidates: [ranker], latency_class: quick}
pipelines:
  recommend:
    latency_class: quick
    parameters: {market: {}}
    stages:
      find: {route: "finder-{market}", in: {user: user}}
      rank: {route: rank, in: {features: find.features.0}}
    out: {item: find.item.0, score: rank.score}
    sort_by: score
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    catalog: Path = tmp_path_factory.mktemp("shop") / "catalog.yaml"
    catalog.write_text(CATALOG)
    with serving(models=("recommend",), TURNOUT_CATALOG=str(catalog)) as address:
        yield address


def test_the_native_endpoint_and_the_decisions_behind_it(shop: str) -> None:
    body = {"inputs": {"user": 7}, "parameters": {"market": "fr"}, "limit": 2}
    answer = httpx.post(f"{shop}/v1/pipelines/recommend", json=body).json()
    assert len(answer["results"]) == 2
    assert [stage["model"] for stage in answer["stages"]] == ["finder-fr", "ranker"]
    whole = httpx.get(f"{shop}/v1/decisions/{answer['id']}").json()
    assert set(whole["stages"]) == {"find", "rank"}
    seconds = httpx.get(f"{shop}/metrics").text
    assert 'turnout_pipeline_seconds_count{latency_class="quick",pipeline="recommend"' in seconds


def test_triton_clients_and_bentoml_clients_get_the_same(shop: str) -> None:
    client = triton.InferenceServerClient(shop.removeprefix("http://"))
    assert client.get_model_metadata("recommend")["outputs"][0]["name"] == "item"
    user = triton.InferInput("user", [1], "INT64")
    user.set_data_from_numpy(np.array([7], np.int64))
    found = client.infer("recommend", [user], parameters={"market": "de", "limit": 3})
    assert found.as_numpy("item").shape == (3,)
    client.close()
    with bentoml.SyncHTTPClient(shop) as own:
        answer = own.pipeline(
            name="recommend", inputs={"user": 7}, parameters={"market": "de"}, limit=3
        )
    scores = [row["score"] for row in answer["results"]]
    assert scores == pytest.approx(found.as_numpy("score").tolist())


def test_a_market_that_is_none_is_refused(shop: str) -> None:
    body = {"inputs": {"user": 7}, "parameters": {"market": "us"}}
    answer = httpx.post(f"{shop}/v1/pipelines/recommend", json=body)
    assert answer.status_code == 400
    assert "known here: de, fr" in answer.json()["error"]["message"]
