"""Which builds a Bento carries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.bento.artifact_refs import bento_models
from turnout.catalog.reading import parse

CATALOG = """version: 1
classes: {quick: {deadline_ms: 100, priority: 0}}
models:
  ranker:
    task: tabular
    runner: {engine: onnx}
    versions:
      1: {artifact: {tag: shoes, recipe: r, options: {size: small}}}
      2: {artifact: {tag: shoes, recipe: r, options: {size: large}}}
    production: 1
routes: {rank: {task: tabular, candidates: [ranker], latency_class: quick}}
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    return tmp_path / "models" / "shoes"


def build(store: Path, version: str, size: str) -> None:
    folder = store / version
    folder.mkdir(parents=True)
    manifest = {"recipe": "r", "options": {"size": size}, "files": {}, "origin": []}
    (folder / "artifact.json").write_text(json.dumps(manifest))
    (store / "latest").write_text(version)


def carried(*names: str) -> list[str]:
    models = parse(CATALOG, "test").models
    found = bento_models(models[name] for name in names)
    return sorted(str(one.tag) for one in found.values())


def test_versions_that_share_a_tag_are_each_carried(store: Path) -> None:
    build(store, "aaa", "small")
    build(store, "bbb", "large")
    assert carried("ranker@1", "ranker@2") == ["shoes:aaa", "shoes:bbb"]
    assert carried("ranker@1") == ["shoes:aaa"]


def test_what_was_not_built_is_left_out(store: Path) -> None:
    assert carried("ranker@1", "ranker@2") == []
    build(store, "bbb", "large")
    build(store, "ccc", "other")
    assert carried("ranker@1", "ranker@2") == ["shoes:bbb"]


def test_a_single_build_is_taken_unread(store: Path) -> None:
    build(store, "aaa", "small")
    (store / "aaa" / "artifact.json").write_text("not read")
    assert carried("ranker@1") == ["shoes:latest"]
