"""The shop's recipes on a tiny shop: what they write serves, and beats what costs nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runners.engines import make
from runners.recipes.origin import Origin
from runners.recipes.registry import load_recipe
from runners.recipes.shop import cards, classifier, embedder, index, ranker, recommender, reranker
from runners.recipes.shop.data.simulator import World
from runners.tasks import load_task
from turnout.catalog import Artifact, Model
from turnout.errors import ArtifactInvalid
from turnout.types import Task, Tensors, signature

SMALL = World(products=360, users=300, purchases=24)


def _quiet(line: str) -> None:
    del line


def _serve(
    folder: Path, task: Task, dimensions: dict[str, int], tensors: Tensors, engine: str = "onnx"
) -> Tensors:
    """What a loaded model answers, held against its task's signature."""
    entry = Model.model_validate(
        {
            "task": task,
            "dimensions": dimensions,
            "runner": {"engine": engine},
            "artifact": Artifact(tag="made", recipe="shop-cards"),
        }
    )
    loaded = load_task(task, folder, dimensions)
    runner = make("made", entry, folder)
    runner.load()
    answer = loaded.finish(runner.run(loaded.prepare(tensors)))
    runner.close()
    rows = len(next(iter(tensors.values())))
    for spec in signature(task, dimensions).outputs:
        assert answer[spec.name].shape == (rows, *spec.shape[1:])
    return answer


def _texts(*rows: str) -> Tensors:
    tensor = np.empty(len(rows), dtype=object)
    tensor[:] = [row.encode() for row in rows]
    return {"text": tensor}


@pytest.mark.parametrize(
    ("options", "engine"),
    [({}, "onnx"), ({"precision": "int8"}, "onnx"), ({"engine": "torch"}, "torch")],
)
def test_a_query_becomes_a_vector_near_its_products(
    tmp_path: Path, options: dict[str, str], engine: str
) -> None:
    origin = embedder.build(options, tmp_path, _quiet, SMALL)
    assert origin.measured["quality"] > 0.6  # 100 of 360 found at random are 0.28
    width = {"width": 64}
    vectors = _serve(tmp_path, Task.EMBED, width, _texts("red boots", "...", "tent"), engine)
    # How far a batch is padded changes nothing.
    alone = _serve(tmp_path, Task.EMBED, width, _texts("tent"), engine)["embedding"][0]
    np.testing.assert_allclose(vectors["embedding"][2], alone, atol=1e-5)
    lengths = np.linalg.norm(vectors["embedding"], axis=1)
    assert lengths.tolist() == pytest.approx([1.0, 0.0, 1.0], abs=0.02)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_index_finds_the_nearest_first(tmp_path: Path, precision: str) -> None:
    index.build({"precision": precision}, tmp_path, _quiet, SMALL)
    sizes = {"width": 64, "top": 100, "columns": 12}
    vector = np.ones((2, 64), np.float32) / 8
    found = _serve(tmp_path, Task.RETRIEVE, sizes, {"embedding": vector})
    assert (np.diff(found["score"], axis=1) <= 0).all()
    np.testing.assert_allclose(found["features"][..., 0], found["score"])
    assert all(len(set(row)) == 100 for row in found["item"].tolist())


def test_a_ranker_beats_the_order_it_is_given(tmp_path: Path) -> None:
    origin = ranker.build({"category": "audio", "size": "small"}, tmp_path, _quiet, SMALL)
    assert origin.measured["quality"] > origin.measured["by_likeness_alone"]
    rows = np.zeros((3, 12), np.float32)
    _serve(tmp_path, Task.RANK, {"columns": 12}, {"features": rows})


def test_a_recommender_beats_popularity_and_greets_the_unknown(tmp_path: Path) -> None:
    origin = recommender.build({"market": "de", "size": "large"}, tmp_path, _quiet, SMALL)
    assert origin.measured["quality"] > origin.measured["by_popularity"]
    users = {"user": np.array([0, 299, 300, -1, 1 << 50])}
    found = _serve(tmp_path, Task.RECOMMEND, {"top": 100, "columns": 14}, users)
    assert found["item"][2].tolist() == found["item"][3].tolist() == found["item"][4].tolist()
    assert found["item"][0].tolist() != found["item"][1].tolist()


def test_a_reranker_is_judged_on_purchases_it_has_not_seen(tmp_path: Path) -> None:
    origin = reranker.build({"market": "de"}, tmp_path, _quiet, SMALL)
    assert 0.0 < origin.measured["quality"] < 1.0
    _serve(tmp_path, Task.RANK, {"columns": 14}, {"features": np.zeros((2, 14), np.float32)})


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_reviews_are_told_apart(tmp_path: Path, precision: str) -> None:
    options = {"of": "mood", "size": "small", "precision": precision}
    origin = classifier.build(options, tmp_path, _quiet, SMALL)
    assert origin.measured["quality"] > 0.5  # a guess is right one time in three
    answer = _serve(tmp_path, Task.CLASSIFY_TEXT, {}, _texts("lovely", "terrible fit"))
    assert set(answer["label"]) <= {b"negative", b"neutral", b"positive"}


def test_risk_is_learnt(tmp_path: Path) -> None:
    origin = load_recipe("shop-risk")({"of": "churn", "size": "small"}, tmp_path, _quiet)
    assert float(origin.measured["quality"]) > 0.7
    rows = {"features": np.zeros((2, 9), np.float32)}
    answer = _serve(tmp_path, Task.TABULAR, {"columns": 9}, rows)
    assert ((answer["probability"] >= 0) & (answer["probability"] <= 1)).all()


def test_a_card_says_what_a_product_is(tmp_path: Path) -> None:
    cards.build({}, tmp_path, _quiet, SMALL)
    found = _serve(tmp_path, Task.LOOKUP, {}, {"item": np.array([0, 359])})
    assert [text.decode() for text in found["text"]] == [
        cards.cards(SMALL)[0], cards.cards(SMALL)[359],
    ]  # fmt: skip
    assert json.loads((tmp_path / "task.json").read_text()) == {"items": 360}


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (ranker.build, {"category": "cars"}),
        (recommender.build, {"market": "us"}),
        (embedder.build, {"bits": 8}),
        (cards.build, {"size": "small"}),
    ],
)
def test_an_option_that_is_none_is_refused(
    tmp_path: Path, build: Callable[..., Origin], options: dict[str, str | int]
) -> None:
    with pytest.raises(ArtifactInvalid, match="takes"):
        build(options, tmp_path, _quiet, SMALL)
