from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.catalog import app
from turnout.catalog import load
from turnout.catalog.reading import json_schema, parse
from turnout.errors import CatalogInvalid
from turnout.settings import PROJECT

GOOD = """version: 1
classes:
  realtime: {deadline_ms: 100, priority: 0}
models:
  a:
    task: tabular
    runner: {engine: onnx, threads: 1}
    artifact: {tag: a, recipe: fraud}
    memory: 2GiB
routes:
  fraud: {task: tabular, candidates: [a], latency_class: realtime}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(CatalogInvalid) as caught:
        parse(text, "c.yaml")
    return caught.value.problems


def test_a_good_catalog_is_read() -> None:
    catalog = parse(GOOD, "c.yaml")
    assert catalog.models["a"].memory == 2 * 1024**3
    assert catalog.models["a"].runner.engine == "onnx"
    assert catalog.routes["fraud"].target_for("realtime") == 0.95


@pytest.mark.parametrize("name", ["default.yaml", "hybrid.yaml", "hub.yaml", "optimized.yaml"])
def test_the_catalogs_that_ship_are_good(name: str) -> None:
    catalog = load(PROJECT / "catalog" / name)
    assert set(catalog.classes) == {"realtime", "interactive", "bulk"}


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("threads: 1", "threads: 0", "c.yaml:7: models.a.runner.threads: "),
        ("threads: 1", "threds: 1", "c.yaml:7: models.a.runner.threds: unknown key"),
        ("engine: onnx", "engine: onyx", "c.yaml:7: models.a.runner: "),
        ("deadline_ms: 100", "deadline_ms: -1", "c.yaml:3: classes.realtime.deadline_ms: "),
        ("deadline_ms: 100, ", "", "c.yaml:3: classes.realtime.deadline_ms: is missing"),
        ("memory: 2GiB", "memory: plenty", "c.yaml:9: models.a.memory: give a size"),
        ("candidates: [a]", "candidates: [b]", "c.yaml:11: routes.fraud.candidates: no model"),
        ("candidates: [a]", "candidates: [a, a]", "c.yaml:11: routes.fraud.candidates: "),
        ("latency_class: realtime", "latency_class: rt", "c.yaml:11: routes.fraud.latency_class"),
        ("task: tabular\n", "task: chat\n", "cannot do task 'chat'"),
        ("    artifact: {tag: a, recipe: fraud}\n", "", "needs an artifact"),
        ("version: 1", "version: 2", "c.yaml:1: version: "),
        ("  a:\n", "  A!:\n", "c.yaml:5: models.A!"),
        (
            "  realtime: {deadline_ms: 100, priority: 0}\n",
            "  {}\n",
            "c.yaml:2: classes: must hold at least 1, and holds 0",
        ),
        ("100, p", "soon, p", "c.yaml:3: classes.realtime.deadline_ms: must be a number (got 's"),
        ("[a]", "3", "c.yaml:11: routes.fraud.candidates: must be a list (got 3)"),
        ("  fraud:", "  auto:", "routes.auto: this name is reserved"),
        ("  fraud:", "  a:", "models.a: a route has the same name"),
    ],
)
def test_a_bad_value_is_named_with_its_line(was: str, becomes: str, said: str) -> None:
    assert was in GOOD
    assert any(said in line for line in problems(GOOD.replace(was, becomes)))


def test_a_key_given_twice_is_refused() -> None:
    assert problems(GOOD + "version: 1\n") == ["c.yaml:12: version: is given twice"]


@pytest.mark.parametrize("text", ["", "[]", "version: 1: 2", "just text"])
def test_what_is_no_catalog_is_refused(text: str) -> None:
    assert problems(text)[0].startswith("c.yaml:1:")


def test_every_problem_is_told_at_once() -> None:
    text = GOOD.replace("threads: 1", "threads: 0").replace("deadline_ms: 100", "deadline_ms: 0")
    assert len(problems(text)) == 2


def test_the_schema_for_editors_is_current() -> None:
    assert (PROJECT / "catalog/schema.json").read_text() == json_schema(), "run `make fix`"


def test_the_schema_names_every_engine() -> None:
    schema = json.loads(json_schema())
    assert {"Onnx", "TensorRT", "DeepSpeed", "OnnxGenAI"} <= set(schema["$defs"])


def test_check_prints_problems_and_fails(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(GOOD.replace("threads: 1", "threads: 0"))
    told = CliRunner().invoke(app, ["check", str(file), "--json"])
    assert told.exit_code == 1
    assert json.loads(told.stdout)["ok"] is False
    missing = CliRunner().invoke(app, ["check", str(tmp_path / "none.yaml")])
    assert missing.exit_code == 1
    assert "cannot be read" in missing.stderr


SOURCE = "source: 'file:a.onnx', sha256: " + "ab" * 32


@pytest.mark.parametrize(
    ("artifact", "said"),
    [
        ("{tag: a}", "give either recipe, or source"),
        ("{tag: a, recipe: fraud, " + SOURCE + "}", "give either recipe, or source"),
        ("{tag: a, source: 'file:a.onnx'}", "source and sha256 go together"),
        ("{tag: a, source: 'file:a.onnx', sha256: beef}", "sha256"),
        ("{tag: a, source: 'ftp://a', sha256: " + "ab" * 32 + "}", "source"),
        ("{tag: a, " + SOURCE + ", options: {a: 1}}", "options go to a recipe"),
        ("{tag: a, recipe: fraud, optimize: {passes: []}}", "passes"),
        ("{tag: a, recipe: fraud, optimize: {passes: [{a: {}, b: {}}]}}", "NAME or"),
        ("{tag: a, recipe: fraud, optimize: {passes: [int8], gate: {max_los: 1}}}", "unknown key"),
    ],
)
def test_an_artifact_that_cannot_be_is_refused(artifact: str, said: str) -> None:
    text = GOOD.replace("{tag: a, recipe: fraud}", artifact)
    assert text != GOOD
    with pytest.raises(CatalogInvalid, match=said):
        parse(text, "c.yaml")


def test_an_artifact_may_have_an_address_and_passes() -> None:
    passes = "optimize: {passes: [graph, {int8: {method: entropy}}]}"
    text = GOOD.replace("recipe: fraud", f"{SOURCE}, {passes}")
    artifact = parse(text, "c.yaml").models["a"].artifact
    assert artifact is not None
    assert artifact.optimize is not None
    assert artifact.optimize.chain() == (("graph", {}), ("int8", {"method": "entropy"}))
    assert artifact.base.optimize is None


def test_what_can_never_fit_the_budget_is_refused_by_name() -> None:
    text = """version: 1
gateway: {memory_budget: 100MiB}
classes: {realtime: {deadline_ms: 100, priority: 0}}
models:
  pinned: {task: tabular, runner: {engine: fake}, memory: 80MiB, pinned: true}
  large: {task: tabular, runner: {engine: fake}, memory: 30MiB}
  guessed: {task: tabular, runner: {engine: fake}}
routes: {r: {task: tabular, candidates: [pinned, large], latency_class: realtime}}
"""
    with pytest.raises(CatalogInvalid) as caught:
        parse(text, "fleet.yaml")
    assert caught.value.problems == [
        "fleet.yaml:6: models.large.memory: 30 MiB can never fit into the memory budget of cpu, "
        "100 MiB with 80 MiB pinned"
    ]
    with pytest.raises(CatalogInvalid, match="cannot hold the pinned models pinned"):
        parse(text.replace("100MiB", "70MiB"), "fleet.yaml")
    assert parse(text.replace("100MiB", "{cuda:0: 1MiB, cpu: 110MiB}"), "x").gateway.budgets == {
        "cuda:0": 1024**2,
        "cpu": 110 * 1024**2,
    }


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("explore: {share: 0.9}", "explore.share"),
        ("explore: {share: 0.1, classes: [slow]}", "no class is named 'slow'"),
        ("budget_usd_per_hour: 0", "budget_usd_per_hour"),
        ("max_strong_share: 0.3", "needs at least two candidates"),
        ("target_holds: sometimes", "target_holds"),
    ],
)
def test_impossible_knobs_are_refused(line: str, what: str) -> None:
    text = f"""version: 1
classes: {{interactive: {{deadline_ms: 100, priority: 1}}}}
models: {{one: {{task: tabular, runner: {{engine: fake}}}}}}
routes:
  score:
    task: tabular
    candidates: [one]
    latency_class: interactive
    {line}
"""
    with pytest.raises(CatalogInvalid, match=what):
        parse(text, "test")


@pytest.mark.parametrize(
    ("runner", "said"),
    [
        ("fastgen: true, dtype: float16", "fastgen needs device: cuda"),
        ("fastgen: true, device: cuda", "fastgen needs dtype: bfloat16 or float16"),
        ("kernel_inject: true, device: cuda", "kernel_inject needs max_sequences: 1"),
        ("kernel_inject: true, offload: cpu", "kernel_inject and offload exclude each other"),
        ("offload: cpu, tensor_parallel: 2", "offload needs tensor_parallel: 1"),
        ("offload: disk", "offload: "),
        (
            "fastgen: true, device: cuda, dtype: float16, draft_tokens: 2",
            "fastgen needs draft_tokens: 0",
        ),
        ("max_sequences: 16, step_tokens: 20", "step_tokens 20 leaves nothing to read prompts"),
    ],
)
def test_ways_of_deepspeed_that_cannot_be_are_refused(runner: str, said: str) -> None:
    text = GOOD.replace("task: tabular", "task: chat").replace(
        "{engine: onnx, threads: 1}", f"{{engine: deepspeed, {runner}}}"
    )
    (problem,) = problems(text)
    assert problem.startswith("c.yaml:7: models.a.runner")
    assert said in problem
