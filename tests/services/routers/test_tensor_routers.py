"""Routers of rows and pictures in the gateway: who is looked at, who not, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from routing.decision.request_view import RequestAnalyzer
from routing.features.picture import NAMES
from routing.quality.boosted_pairs import BoostedPairs
from routing.quality.feature_artifact import save_feature_router
from routing.quality.feature_quality import FeatureQuality
from services.cli.main import main
from services.dataplane.decision_log import DecisionLog
from services.routers.tensor_routers import TensorRouters
from tests.services.conftest import CATALOG, Rig
from turnout.catalog import Catalog
from turnout.catalog.reading import parse
from turnout.errors import ArtifactInvalid, ConfigError
from turnout.types import Request, Task

MODELS = ("fraud-small", "fraud-large")


def quality(width: int = 15, models: tuple[str, str] = MODELS) -> FeatureQuality:
    """The small model fails rows whose first value is over 0; else it is the better one."""
    return FeatureQuality(
        models=models,
        names=tuple(f"f{i}" for i in range(width)),
        base_rate=np.array([0.8, 0.9], np.float32),
        trees=BoostedPairs(
            np.zeros(3, np.int32),
            np.array([0.0, np.inf, np.inf], np.float32),
            np.array([[-0.6, 0.0], [0, 0], [0, 0], [0, 0]], np.float32),
            np.array([0.95, 0.9], np.float32),
        ),
        centre=np.zeros(width, np.float32),
        inverse_scale=np.ones(width, np.float32),
        usual=10.0,
        least=np.array([[1.0, 0.39], [0.95, 1.0]], np.float32),
        most=np.array([[1.0, 1.06], [2.6, 1.0]], np.float32),
    )


def saved(folder: Path, made: FeatureQuality) -> Path:
    save_feature_router(made, folder, {})
    return folder


def use(rig: Rig, learned: TensorRouters) -> None:
    rig.plane.feature_routers = learned
    rig.plane.adopt(rig.plane.catalog, RequestAnalyzer(rig.plane.catalog, None, learned))


async def ask(rig: Rig, *first: float, latency_class: str = "bulk") -> httpx.Response:
    rows = [[value, *[0.0] * 14] for value in first]
    tensor = {"name": "features", "datatype": "FP32", "shape": [len(first), 15]}
    body = {"inputs": [tensor | {"data": [v for row in rows for v in row]}]}
    headers = {"X-Latency-Class": latency_class}
    reply = await rig.client.post("/v2/models/fraud/infer", json=body, headers=headers)
    assert reply.status_code == 200
    return reply


async def test_each_row_goes_where_it_is_answered_well(rig: Rig, tmp_path: Path) -> None:
    use(rig, TensorRouters(rig.plane.catalog, {"fraud": saved(tmp_path, quality())}))
    for _ in range(2):  # the second time nothing of the first is remembered
        assert (await ask(rig, 1.0)).headers["x-turnout-model"] == "fraud-large"
        assert (await ask(rig, -1.0)).headers["x-turnout-model"] == "fraud-small"
    # Of several rows the mean counts: one hard row in three is too many, one in twenty is not.
    assert (await ask(rig, 1.0, -1.0, -1.0)).headers["x-turnout-model"] == "fraud-large"
    reply = await ask(rig, 1.0, *[-1.0] * 19)
    assert reply.headers["x-turnout-model"] == "fraud-small"
    record = (await rig.client.get("/v1/decisions/" + reply.headers["x-turnout-decision"])).json()
    assert record["router"]["part"] == "features"
    assert record["candidates"][0]["quality"] == pytest.approx(0.92, abs=1e-3)
    assert record["row"] is None


async def test_a_trace_names_the_models_that_the_router_was_not_trained_on(
    rig: Rig, tmp_path: Path
) -> None:
    other = replace(quality(), models=("fraud-small", "fraud-other"))
    use(rig, TensorRouters(rig.plane.catalog, {"fraud": saved(tmp_path, other)}))
    reply = await ask(rig, 1.0)
    record = (await rig.client.get("/v1/decisions/" + reply.headers["x-turnout-decision"])).json()
    assert record["router"]["by_prior"] == ["fraud-large"]


async def test_far_rows_go_where_the_mean_scores_say(rig: Rig, tmp_path: Path) -> None:
    use(rig, TensorRouters(rig.plane.catalog, {"fraud": saved(tmp_path, quality())}))
    assert (await ask(rig, -1e6)).headers["x-turnout-model"] == "fraud-large"


async def test_where_a_look_changes_nothing_none_is_taken(rig: Rig, tmp_path: Path) -> None:
    always = replace(quality(), least=np.array([[1, 0.91], [0.9, 1]], np.float32))
    learned = TensorRouters(rig.plane.catalog, {"fraud": saved(tmp_path, always)})
    use(rig, learned)
    assert learned.state()["fraud"]["settled_classes"] == ["realtime", "interactive"]
    await ask(rig, 1.0, latency_class="realtime")
    reply = await ask(rig, 1.0, latency_class="realtime")
    record = (await rig.client.get("/v1/decisions/" + reply.headers["x-turnout-decision"])).json()
    assert record["candidates"][0]["quality"] == pytest.approx(0.8)  # not this row's 0.35
    assert (await ask(rig, 1.0)).headers["x-turnout-model"] == "fraud-large"


def test_policies_that_ask_for_no_quality_need_no_look(tmp_path: Path) -> None:
    catalog = parse(CATALOG, "test")
    pictures = quality(len(NAMES), ("image-small", "image-large"))
    learned = TensorRouters(catalog, {"image": saved(tmp_path, pictures)})
    assert learned.state()["image"]["settled_classes"] == list(catalog.classes)


async def test_a_pictures_header_decides(make_rig: Callable[..., Rig], tmp_path: Path) -> None:
    rig = make_rig()
    await rig.plane.fleet.settled()
    best = CATALOG.replace("    policy: cascade\n    cascade: {threshold: 0.5}\n  embed", "  embed")
    rig.plane.catalog = parse(best, "test")
    pictures = quality(len(NAMES), ("image-small", "image-large"))
    made = replace(pictures, trees=replace(pictures.trees, feature=np.full(3, 7, np.int32)))
    use(rig, TensorRouters(rig.plane.catalog, {"image": saved(tmp_path, made)}))
    body = {"route": "image", "inputs": {"image": []}, "latency_class": "bulk"}
    answers = []
    for form in ("JPEG", "PNG"):
        out = io.BytesIO()
        Image.new("RGB", (8, 8)).save(out, form)
        body["inputs"] = {"image": [base64.b64encode(out.getvalue()).decode()]}
        answers.append((await rig.client.post("/v1/route", json=body)).json()["model"])
    assert answers == ["image-small", "image-large"]


CASCADE = CATALOG.replace(
    "    target_quality: {realtime: 0.9, interactive: 0.9, bulk: 1.0}\n",
    "    policy: cascade\n    cascade: {threshold: 0.7, gain: 0.1}\n",
)


async def test_a_learned_gain_says_which_rows_go_on(rig: Rig, tmp_path: Path) -> None:
    """The stand-in is always sure of itself, so no threshold on confidence would send any on."""
    gains = BoostedPairs(
        np.zeros(3, np.int32),
        np.array([0.0, np.inf, np.inf], np.float32),
        np.array([[0, 0.5], [0, 0], [0, 0], [0, 0]], np.float32),
        np.array([0.0, 0.05], np.float32),
    )
    made = replace(quality(), after={"fraud-small": gains})
    rig.plane.catalog = parse(CASCADE, "test")
    use(rig, TensorRouters(rig.plane.catalog, {"fraud": saved(tmp_path, made)}))
    reply = await ask(rig, 1.0, -1.0, 2.0, 1e6)
    assert reply.json()["outputs"][0]["data"] == [1.0, 0.0, 1.0, 0.0]
    record = (await rig.client.get("/v1/decisions/" + reply.headers["x-turnout-decision"])).json()
    told = record["escalation"]
    assert (told["rows"], told["of"], told["done"], told["gain"]) == (2, 4, True, 0.1)
    assert told["gains"] == pytest.approx([0.55, 0.05, 0.55, None])
    assert told["confidences"] == [1.0] * 4
    assert (await ask(rig, -1.0)).headers["x-turnout-model"] == "fraud-small"
    many = await ask(rig, *[1.0, -1.0] * 200)  # judged on a thread
    assert many.json()["outputs"][0]["data"] == [1.0, 0.0] * 200


async def test_without_a_learned_gain_confidence_decides(rig: Rig, tmp_path: Path) -> None:
    rig.plane.catalog = parse(CASCADE, "test")
    use(rig, TensorRouters(rig.plane.catalog, {"fraud": saved(tmp_path, quality())}))
    reply = await ask(rig, 1.0)
    assert reply.headers["x-turnout-model"] == "fraud-small"
    record = (await rig.client.get("/v1/decisions/" + reply.headers["x-turnout-decision"])).json()
    assert record["escalation"]["gains"] is None


async def test_versions_of_a_model_share_its_head(rig: Rig, tmp_path: Path) -> None:
    versions = """  fraud-large:
    <<: *fraud
    versions: {"1": {cost: {usd_per_request: 5.0e-6}}, "2": {cost: {usd_per_request: 6.0e-6}}}
    production: "2"
"""
    start, end = CATALOG.index("  fraud-large:\n"), CATALOG.index("  image-small:")
    catalog = parse(CATALOG[:start] + versions + CATALOG[end:], "test")
    learned = TensorRouters(catalog, {"fraud": saved(tmp_path, quality())})
    names = catalog.routes["fraud"].candidates
    assert names == ("fraud-small", "fraud-large@2")
    rows = {"features": np.array([[1.0] + [0.0] * 14], np.float32)}
    request = Request("1", "fraud", Task.TABULAR, rows, "bulk", 0.0, 600.0)
    judged = learned.judge(request, names)
    assert judged is not None
    assert judged.quality == pytest.approx({"fraud-small": 0.35, "fraud-large@2": 0.9})


@pytest.mark.parametrize(
    ("route", "made", "what"),
    [
        ("fraud", quality(7), "trained on 7 features; requests of route 'fraud' have 15"),
        ("fraud", quality(models=("a", "b")), "no head for a candidate of route 'fraud'"),
        ("image", quality(models=("image-small", "image-large")), "have 8"),
    ],
)
def test_a_router_that_does_not_fit_its_route_is_refused(
    catalog: Catalog, tmp_path: Path, route: str, made: FeatureQuality, what: str
) -> None:
    with pytest.raises(ArtifactInvalid, match=what):
        TensorRouters(catalog, {route: saved(tmp_path, made)})


@pytest.mark.parametrize("route", ["chat", "nobody"])
def test_only_routes_of_rows_and_pictures_have_one(
    catalog: Catalog, tmp_path: Path, route: str
) -> None:
    with pytest.raises(ConfigError, match=f"'{route}' is no route of rows or pictures; .*fraud"):
        TensorRouters(catalog, {route: tmp_path})


async def test_a_new_router_takes_over_and_a_broken_one_does_not(rig: Rig, tmp_path: Path) -> None:
    learned = TensorRouters(rig.plane.catalog, {"fraud": saved(tmp_path, quality())})
    use(rig, learned)
    assert not learned.changed()
    (tmp_path / "router.json").write_text("{}")
    assert learned.changed()
    reply = await rig.client.post("/v1/router/reload")
    assert reply.status_code == 409
    assert "trained on prompts" in reply.json()["feature_routers"]["fraud"]["problem"]
    assert (await ask(rig, -1.0)).headers["x-turnout-model"] == "fraud-small"
    other = replace(quality(), trees=replace(quality().trees, bias=np.array([0.5, 0.9], "f4")))
    saved(tmp_path, other)
    assert (await rig.client.post("/v1/router/reload")).status_code == 200
    assert (await ask(rig, -1.0)).headers["x-turnout-model"] == "fraud-large"
    assert (await rig.client.get("/v1/router")).json()["feature_routers"]["fraud"]["digest"]


async def test_a_catalog_reload_keeps_the_router(rig: Rig, tmp_path: Path) -> None:
    learned = TensorRouters(rig.plane.catalog, {"fraud": saved(tmp_path, quality())})
    other = parse(CATALOG.replace("bulk: 1.0", "bulk: 0.3"), "test")
    learned.adopt(other)
    assert "bulk" in learned.state()["fraud"]["settled_classes"]
    without = parse(CATALOG.replace("  fraud:\n", "  cards:\n"), "test")
    assert "'fraud' is no route" in learned.problems(without)[0]


class SlowFolder(type(Path())):
    """A folder on a disk that lets the first read of a router's card wait."""

    reached = threading.Event()
    let_go = threading.Event()

    def read_bytes(self) -> bytes:
        if self.name == "router.json" and not self.reached.is_set():
            self.reached.set()
            assert self.let_go.wait(20.0)
        return super().read_bytes()


def test_a_router_that_comes_while_a_catalog_is_reloaded_is_used(
    catalog: Catalog, tmp_path: Path
) -> None:
    SlowFolder.let_go.set()
    saved(tmp_path, quality())
    learned = TensorRouters(catalog, {"fraud": SlowFolder(tmp_path)})
    first = learned.state()["fraud"]["digest"]
    saved(tmp_path, replace(quality(), usual=11.0))
    SlowFolder.reached.clear()
    SlowFolder.let_go.clear()
    reading = threading.Thread(target=learned.reload)
    reading.start()
    assert SlowFolder.reached.wait(20.0)
    learned.adopt(parse(CATALOG.replace("bulk: 1.0", "bulk: 0.3"), "test"))
    SlowFolder.let_go.set()
    reading.join()
    assert learned.state()["fraud"]["digest"] != first
    assert not learned.changed()


def test_a_catalog_reload_does_not_forget_that_a_router_was_refused(
    catalog: Catalog, tmp_path: Path
) -> None:
    learned = TensorRouters(catalog, {"fraud": saved(tmp_path, quality())})
    first = learned.state()["fraud"]["digest"]
    saved(tmp_path, quality(models=("a", "b")))
    learned.reload()
    learned.adopt(catalog)
    told = learned.state()["fraud"]
    assert told["digest"] == first
    assert "no head for a candidate" in told["problem"]


async def test_scored_rows_become_an_outcome_table(
    make_rig: Callable[..., Rig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, out = tmp_path / "log.jsonl", tmp_path / "outcomes.jsonl"
    rig = make_rig(log=DecisionLog(log, features=True))
    await rig.plane.fleet.settled()
    for rows in ([1.0], [-1.0], [1.0, 2.0]):
        name = (await ask(rig, *rows)).headers["x-turnout-decision"]
        await rig.client.post("/v1/feedback", json={"decision_id": name, "score": 0.5})
    rig.plane.log.close()
    with pytest.raises(SystemExit) as done:
        main(["decisions", "export", str(log), "--out", str(out), "--json"])
    assert not done.value.code
    assert json.loads(capsys.readouterr().out)["written"] == 2
    lines: list[dict[str, Any]] = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["features"][0] for line in lines] == [1.0, -1.0]
    assert "prompt" not in lines[0]
