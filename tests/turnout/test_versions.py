from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.catalog import Catalog, json_schema, realiased
from turnout.catalog.reading import parse
from turnout.errors import CatalogInvalid
from turnout.settings import PROJECT

TEXT = """version: 1
classes: {quick: {deadline_ms: 100, priority: 1}}
models:
  ranker:
    task: tabular
    runner: {engine: fake}
    cost: {usd_per_request: 0.5}
    versions:
      1: {}
      "2": {quality: {prior: 0.7}, runner: {engine: fake, latency_ms: 3}}
      2024-05.b: {pinned: true}
    production: 1
    canary: {version: 2, share: 0.1, rollback: {late: 0.2}}
  plain: {task: tabular, runner: {engine: fake}}
routes:
  moves: {task: tabular, candidates: [ranker, plain], latency_class: quick}
  steady: {task: tabular, candidates: [ranker@production], latency_class: quick}
  fixed: {task: tabular, candidates: [ranker@2], latency_class: quick}
"""


@pytest.fixture
def catalog() -> Catalog:
    return parse(TEXT, "test")


def problems_of(text: str) -> list[str]:
    with pytest.raises(CatalogInvalid) as refused:
        parse(text, "test")
    return refused.value.problems


def test_each_version_is_a_model_with_the_keys_in_which_it_differs(catalog: Catalog) -> None:
    assert list(catalog.models) == ["ranker@1", "ranker@2", "ranker@2024-05.b", "plain"]
    first, second = catalog.models["ranker@1"], catalog.models["ranker@2"]
    assert first.cost == second.cost
    assert (first.quality.prior, second.quality.prior) == (0.5, 0.7)
    assert second.runner.model_dump()["latency_ms"] == 3
    assert catalog.models["ranker@2024-05.b"].pinned


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("ranker", "ranker@1"),
        ("ranker@production", "ranker@1"),
        ("ranker@canary", "ranker@2"),
        ("ranker@2024-05.b", "ranker@2024-05.b"),
        ("plain", "plain"),
        ("ranker@3", None),
        ("plain@1", None),
        ("plain@production", None),
        ("moves", None),
        ("", None),
    ],
)
def test_a_name_an_alias_and_a_version_mean_a_model(
    catalog: Catalog, name: str, model: str | None
) -> None:
    assert catalog.model_called(name) == model


def test_routes_name_production_by_name_or_alias_or_one_version(catalog: Catalog) -> None:
    candidates = {name: route.candidates for name, route in catalog.routes.items()}
    assert candidates == {
        "moves": ("ranker@1", "plain"), "steady": ("ranker@1",), "fixed": ("ranker@2",),
    }  # fmt: skip
    known = catalog.versioned["ranker"]
    assert (known.routes, known.steady) == (("moves",), ("steady",))
    assert len(catalog.routes_of("ranker@1")) == len(catalog.routes_of("ranker@2024-05.b")) == 2
    assert len(catalog.routes_of("ranker@2")) == 3


def test_an_alias_that_moves_takes_its_routes_along(catalog: Catalog) -> None:
    moved = realiased(catalog, "ranker", "2024-05.b", None)
    candidates = [route.candidates for route in moved.routes.values()]
    assert candidates == [("ranker@2024-05.b", "plain"), ("ranker@2024-05.b",), ("ranker@2",)]
    assert moved.model_called("ranker@canary") is None
    assert moved.models == catalog.models
    with pytest.raises(ValueError, match="no version '9'"):
        realiased(catalog, "ranker", "9", None)
    assert realiased(moved, "ranker", "1", catalog.versioned["ranker"].canary) == catalog


@given(st.lists(st.sampled_from(["1", "2024-05.b"]), max_size=6))
def test_wherever_production_goes_it_can_come_back(steps: list[str]) -> None:
    catalog = now = parse(TEXT, "test")
    for version in [*steps, "1"]:
        now = realiased(now, "ranker", version, catalog.versioned["ranker"].canary)
        assert now.routes["moves"].candidates == (f"ranker@{version}", "plain")
    assert now == catalog


def test_a_model_without_versions_stays_as_it_is(catalog: Catalog) -> None:
    alone = TEXT[: TEXT.index("    versions:")] + TEXT[TEXT.index("  plain:") :]
    without = parse(alone.replace("ranker@production", "ranker").replace("ranker@2", "ranker"), "t")
    assert without.versioned == {}
    assert list(without.models) == ["ranker", "plain"]
    assert without.models["plain"] == catalog.models["plain"]


def test_one_version_alone_is_production() -> None:
    text = TEXT[: TEXT.index('      "2":')] + TEXT[TEXT.index("  plain:") :]
    catalog = parse(text.replace("ranker@2]", "plain]"), "test")
    assert catalog.versioned["ranker"].production == "1"


def changed(old: str, new: str) -> Callable[[], str]:
    assert old in TEXT
    return lambda: TEXT.replace(old, new)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (changed("production: 1", "production: 7"),
         "test:4: models.ranker: production: there is no version '7'; there are 1, 2, 2024-05.b"),
        (changed("    production: 1\n", ""),
         "test:4: models.ranker.production: is missing, say which version answers"),
        (changed("version: 2, share", "version: 9, share"),
         "test:4: models.ranker: canary.version: there is no version '9'"),
        (changed("version: 2, share", "version: 1, share"),
         "test:4: models.ranker: canary.version: version '1' is production already"),
        (changed("share: 0.1", "share: 0.9"),
         "test:13: models.ranker.canary.share: must be at most 0.5 (got 0.9)"),
        (changed("share: 0.1", "share: 0"), "test:13: models.ranker.canary.share: must be over"),
        (changed("late: 0.2", "lates: 0.2"), "test:13: models.ranker.canary.rollback.lates: unk"),
        (changed("prior: 0.7", "prior: 7"), "test:10: models.ranker.versions.2.quality.prior"),
        (changed("usd_per_request: 0.5", "usd: 1"), "test:7: models.ranker.cost.usd: unknown key"),
        (changed("1: {}", "1.5: {}"), "test:9: models.ranker.versions.1.5: put the version in q"),
        (changed("1: {}", "1: 3"), "test:9: models.ranker.versions.1: give the keys in which"),
        (changed("1: {}", "canary: {}"),
         "test:8: models.ranker.versions: 'canary' is an alias and cannot be a version"),
        (changed("1: {}", "1: {task: rank}"), "test:9: models.ranker.versions.1.task: every"),
        (changed("1: {}", "1: {canary: {}}"), "test:9: models.ranker.versions.1.canary: belongs"),
        (changed("    runner: {engine: fake}\n", ""), "models.ranker.runner: is missing"),
        (changed("[ranker, plain]", "[ranker, ranker@2]"),
         "test:16: routes.moves.candidates: model 'ranker' is named more than once"),
        (changed("[ranker, plain]", "[ranker@canary]"),
         "test:16: routes.moves.candidates: 'ranker@canary' may end at any time"),
        (changed("[ranker, plain]", "[ranker@5]"),
         "test:16: routes.moves.candidates: no model is named 'ranker@5'"),
        (changed("[ranker, plain]", "[plain@1]"),
         "test:16: routes.moves.candidates: no model is named 'plain@1'"),
        (changed("  fixed:", "  ranker:"), "test:4: models.ranker: a route has the same name"),
        (changed("  plain:", "  ranker@7:"), "test:14: models.ranker@7: '@' comes before a ver"),
        (changed("routes:", "versioned: {}\nroutes:"), "test:15: versioned: unknown key"),
        (changed("  plain: {", "  plain: {production: 1, "), "models.plain.versions: list at le"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_with_its_line(text: Callable[[], str], problem: str) -> None:
    found = problems_of(text())
    assert any(one.startswith(problem) or problem in one for one in found), found


def test_a_version_that_cannot_fit_is_named_where_it_stands() -> None:
    text = TEXT.replace("pinned: true", "memory: 9GiB").replace(
        "classes:", "gateway: {memory_budget: 1GiB}\nclasses:"
    )
    assert problems_of(text)[0].startswith(
        "test:12: models.ranker.versions.2024-05.b.memory: 9216 MiB can never fit"
    )


def test_the_example_in_the_docs_is_a_catalog() -> None:
    page = (PROJECT / "docs" / "versions.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    classes = "version: 1\nclasses: {realtime: {deadline_ms: 100, priority: 0}}\n"
    catalog = parse(classes + example, "docs")
    assert list(catalog.models) == ["ranker-shoes@1", "ranker-shoes@2"]


def test_an_editor_knows_the_keys() -> None:
    model = json.loads(json_schema())["$defs"]["Model"]["properties"]
    assert {"versions", "production", "canary"} <= model.keys()
    assert "versioned" not in json.loads(json_schema())["properties"]
