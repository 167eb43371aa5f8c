"""What a catalog's check finds in a pipeline."""

import pytest

from turnout.catalog import load
from turnout.catalog.pipeline import Reference, Stage
from turnout.catalog.plan import plan
from turnout.catalog.reading import parse
from turnout.errors import CatalogInvalid
from turnout.settings import PROJECT

CATALOG = """
version: 1
classes: {quick: {deadline_ms: 100, priority: 0}}
models:
  embedder: {task: embed, dimensions: {width: 8}, runner: {engine: fake}}
  wide: {task: embed, dimensions: {width: 16}, runner: {engine: fake}}
  index: {task: retrieve, dimensions: {width: 8, top: 5, columns: 3}, runner: {engine: fake}}
  intent: {task: classify-text, runner: {engine: fake}}
  writer: {task: chat, runner: {engine: fake}}
  shoes: {task: rank, dimensions: {columns: 3}, runner: {engine: fake}}
  books: {task: rank, dimensions: {columns: 3}, runner: {engine: fake}}
routes:
  rank-shoes: {task: rank, candidates: [shoes], latency_class: quick}
  rank-books: {task: rank, candidates: [books], latency_class: quick}
pipelines:
  search:
    latency_class: quick
    parameters: {category: {from: intent.label, default: shoes}}
    stages:
      rank: {route: "rank-{category}", in: {features: retrieve.features.0}}
      retrieve: {route: index, in: {embedding: embed.embedding}}
      embed: {route: embedder, in: {text: query}}
      intent: {route: intent, in: {text: query}}
    out: {item: retrieve.item.0, score: rank.score}
    sort_by: score
    limit: 3
"""


def test_a_plan_knows_order_tensors_and_words() -> None:
    catalog = parse(CATALOG, "test")
    made = plan(catalog, catalog.pipelines["search"])
    assert not made.problems
    assert made.order.index("embed") < made.order.index("retrieve") < made.order.index("rank")
    assert made.order.index("intent") < made.order.index("rank")
    assert [(spec.name, spec.datatype, spec.shape) for spec in made.inputs.values()] == [
        ("query", "BYTES", (-1,))
    ]
    assert [(spec.name, spec.datatype, spec.shape) for spec in made.outputs.values()] == [
        ("item", "INT64", (-1,)),
        ("score", "FP32", (-1,)),
    ]
    assert made.values == {"category": ("shoes", "books")}
    assert made.one_row


def test_a_given_parameter_spares_the_stage_that_would_find_it() -> None:
    pipeline = parse(CATALOG, "test").pipelines["search"]
    assert "intent" in pipeline.needed()
    assert "intent" not in pipeline.needed({"category"})


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("route: index,", "route: indx,", "stages.retrieve.route: no route or model is named"),
        ("embed.embedding", "embedd.embedding", "no stage is named 'embedd'"),
        ("embed.embedding", "embed.vector", "has no output 'vector' (it has embedding)"),
        ("embed.embedding", "intent.label", "takes FP32 [n, 8], intent.label is BYTES [n]"),
        ("route: embedder", "route: wide", "takes FP32 [n, 8], embed.embedding is FP32 [n, 16]"),
        (
            "retrieve.features.0",
            "retrieve.features",
            "retrieve.features is FP32 [n, 5",
        ),
        ("retrieve.features.0", "rank.score.0", "wait for each other"),
        ("{text: query}}\n    out", "{text: rank.score}}\n    out", "wait for each other"),
        ("rank-{category}", "rank-{kind}", "'kind' is no parameter"),
        ("rank-{category}", "rank-shoes", "parameters.category: no stage's route has {category}"),
        ("default: shoes", "default: toys", "has no route for 'toys'"),
        ("from: intent.label", "from: intent.score", "it is no text: FP32 [n]"),
        ("from: intent.label", "from: query", "name a stage's output"),
        ("latency_class: quick\n    param", "latency_class: slow\n    param", "no class is named"),
        ("sort_by: score", "sort_by: title", "sort_by: name an output of one number a row"),
        ("score: rank.score", "score: ranks.score", "out.score: no stage is named 'ranks'"),
        ("{features: ", "{feature: ", "input 'features' of its route is missing"),
        ("in: {embedding: embed.embedding}", "prompt: '{query}'", "give in, not a prompt"),
        ("in: {embedding: embed.embedding}", "in: {}", "give either in, or a prompt"),
        ("{embedding: embed.embedding}", "{embedding: query}", "elsewhere, here"),
        ("{embedding: embed.embedding}", "{embedding: Embed!}", "is no reference"),
        ("  search:", "  rank-shoes:", "this name is taken"),
        ("intent: {route: intent", "more: {route: intent", "no stage is named 'intent'"),
    ],
)
def test_what_cannot_run_is_said_with_its_line(before: str, after: str, problem: str) -> None:
    assert before in CATALOG
    with pytest.raises(CatalogInvalid) as caught:
        parse(CATALOG.replace(before, after, 1), "test")
    assert any(problem in line for line in caught.value.problems), caught.value.problems
    assert all(line.startswith("test:") for line in caught.value.problems)


def test_a_stage_for_nothing_is_said() -> None:
    extra = (
        "intent: {route: intent, in: {text: query}}\n      idle: {route: intent, in: {text: query}}"
    )
    text = CATALOG.replace("intent: {route: intent, in: {text: query}}", extra)
    with pytest.raises(CatalogInvalid, match=r"stages\.idle: nothing in the answer comes from it"):
        parse(text, "test")


@pytest.mark.parametrize("text", ["", "a.b.1", "a.0", "a..b", "A.b", "a.b.0.0", "a b"])
def test_a_reference_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no reference"):
        Reference.read(text)


def test_a_stage_calls_what_its_pattern_matches() -> None:
    stage = Stage.model_validate({"route": "rank-{category}", "in": {"features": "f"}})
    assert stage.matches("rank-shoes") == {"category": "shoes"}
    assert stage.matches("rerank-shoes") is None
    assert stage.filled({"category": "toys"}) == "rank-toys"


def test_candidates_of_a_route_have_the_same_tensors() -> None:
    text = CATALOG.replace("[shoes]", "[shoes, narrow]").replace(
        "  books:",
        "  narrow: {task: rank, dimensions: {columns: 2}, runner: {engine: fake}}\n  books:",
    )
    with pytest.raises(CatalogInvalid, match="differ in dimensions"):
        parse(text, "test")


def test_a_dimension_the_task_does_not_have_is_refused() -> None:
    with pytest.raises(CatalogInvalid, match="task 'chat' has no dimension 'width'"):
        parse(CATALOG.replace("{task: chat,", "{task: chat, dimensions: {width: 8},"), "test")


def test_the_shops_catalog_has_what_it_promises() -> None:
    catalog = load(PROJECT / "catalog" / "ecommerce.yaml")
    assert len(catalog.models) >= 64
    assert set(catalog.pipelines) == {"search", "recommend", "describe"}
    assert {model.runner.engine for model in catalog.models.values()} >= {
        "onnx", "torch", "onnx-genai",
    }  # fmt: skip
    used = {name for route in catalog.routes.values() for name in route.candidates}
    assert used == set(catalog.models)
