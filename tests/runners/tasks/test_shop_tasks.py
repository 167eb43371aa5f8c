"""The tasks of a shop: what they read, what they refuse, what they hand on."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.tasks import TensorTask, load_task
from runners.tasks.hashed_ngrams import MAX_GRAMS, HashedNgrams
from turnout.errors import ArtifactInvalid, InvalidRequest
from turnout.types import SIGNATURES, Task, signature

SETTINGS = {
    Task.TABULAR: {"columns": ["price", "age"]},
    Task.RANK: {"columns": ["price", "age", "rating"]},
    Task.EMBED: {"buckets": 64, "width": 4},
    Task.CLASSIFY_TEXT: {"buckets": 64, "labels": ["bad", "good"]},
    Task.RECOMMEND: {"top": 2, "columns": ["a", "b", "c"]},
    Task.RETRIEVE: {"width": 4, "top": 2, "columns": ["a", "b", "c"]},
    Task.LOOKUP: {"items": 10},
}


def _load(folder: Path, task: Task, dimensions: dict[str, int] | None = None) -> TensorTask:
    (folder / "task.json").write_text(json.dumps(SETTINGS[task]))
    return load_task(task, folder, dimensions)


def _bytes(*rows: bytes) -> np.ndarray:
    tensor = np.empty(len(rows), dtype=object)
    tensor[:] = rows
    return tensor


@given(st.lists(st.text(max_size=80), min_size=1, max_size=8))
def test_any_text_becomes_hashes_in_range(texts: list[str]) -> None:
    grams = HashedNgrams(32).read(texts)["grams"]
    assert grams.shape[0] == len(texts)
    assert 1 <= grams.shape[1] <= MAX_GRAMS
    assert ((grams >= 0) & (grams <= 32)).all()


def test_words_count_whatever_their_case_and_what_stands_between() -> None:
    one, other = (
        set(HashedNgrams(1 << 20).read([t])["grams"][0]) for t in ("Red SHOES!", "red, shoes")
    )
    assert one == other


@given(st.lists(st.text(min_size=1, max_size=40), min_size=2, max_size=5))
def test_collated_texts_equal_texts_read_together(texts: list[str]) -> None:
    from runners.tasks.text import joined

    grams = HashedNgrams(97)
    apart = [grams.read([text]) for text in texts]
    together = grams.read(texts)["grams"]
    np.testing.assert_array_equal(joined(apart, grams.inputs)["grams"], together)


def test_a_label_and_its_probability_come_out(tmp_path: Path) -> None:
    task = _load(tmp_path, Task.CLASSIFY_TEXT)
    shares = np.array([[0.1, 0.9], [0.8, 0.2]], np.float32)
    answer = task.finish({"probabilities": shares})
    assert answer["label"].tolist() == [b"good", b"bad"]
    assert answer["score"].tolist() == pytest.approx([0.9, 0.8])
    assert list(answer) == [spec.name for spec in SIGNATURES[Task.CLASSIFY_TEXT].outputs]


def test_a_wide_table_is_named_by_its_own_columns(tmp_path: Path) -> None:
    task = _load(tmp_path, Task.TABULAR)
    with pytest.raises(InvalidRequest, match=r"\[n, 2\].*price, age"):
        task.prepare({"features": np.zeros((1, 15), np.float32)})
    bad = np.array([[1, np.nan]], np.float32)
    with pytest.raises(InvalidRequest, match="row 0: age is nan"):
        task.prepare({"features": bad})


@pytest.mark.parametrize("item", [-1, 10, 1 << 40])
def test_an_item_nobody_sells_is_the_callers_mistake(tmp_path: Path, item: int) -> None:
    task = _load(tmp_path, Task.LOOKUP)
    with pytest.raises(InvalidRequest, match=f"row 1: no item has the number {item}; .* 0 to 9"):
        task.prepare({"item": np.array([3, item])})


@pytest.mark.parametrize(
    ("task", "name", "tensor", "what"),
    [
        (Task.RECOMMEND, "user", np.zeros(1, np.int32), "must be INT64"),
        (Task.RECOMMEND, "user", np.zeros((1, 1), np.int64), r"shape \[n\]"),
        (Task.RECOMMEND, "user", np.zeros(0, np.int64), "send 1 to 1024"),
        (Task.RETRIEVE, "embedding", np.zeros((1, 3), np.float32), r"\[n, 4\]"),
        (Task.RETRIEVE, "embedding", np.full((1, 4), np.inf, np.float32), "value 0 is inf"),
        (Task.RETRIEVE, "embedding", np.zeros((1, 4)), "must be FP32"),
        (Task.CLASSIFY_TEXT, "text", _bytes(b"ok", b"\xff"), "row 1 is not UTF-8"),
        (Task.EMBED, "text", _bytes(b""), "row 0 is empty"),
        (Task.RANK, "features", np.zeros((0, 3), np.float32), "n at least 1"),
        (Task.RANK, "feature", np.zeros((1, 3), np.float32), "one input named 'features'"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    tmp_path: Path, task: Task, name: str, tensor: np.ndarray, what: str
) -> None:
    with pytest.raises(InvalidRequest, match=what):
        _load(tmp_path, task).prepare({name: tensor})


@pytest.mark.parametrize("task", list(SETTINGS))
def test_an_example_passes_for_a_batch(tmp_path: Path, task: Task) -> None:
    loaded = _load(tmp_path, task)
    example = loaded.example(3)
    assert example is not None
    assert {len(tensor) for tensor in example.values()} == {3}
    joined = loaded.collate([example, example])
    assert {len(tensor) for tensor in joined.values()} == {6}


@pytest.mark.parametrize(
    ("task", "dimensions"),
    [
        (Task.TABULAR, {"columns": 3}),
        (Task.RANK, {"columns": 2}),
        (Task.EMBED, {"width": 8}),
        (Task.RETRIEVE, {"top": 5}),
        (Task.RECOMMEND, {"columns": 4}),
    ],
)
def test_a_catalog_that_says_other_dimensions_is_refused(
    tmp_path: Path, task: Task, dimensions: dict[str, int]
) -> None:
    with pytest.raises(ArtifactInvalid, match="the catalog says"):
        _load(tmp_path, task, dimensions)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"items": 0}', '{"items": true}', "{"])
def test_damaged_settings_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "task.json").write_text(text)
    with pytest.raises(ArtifactInvalid, match="build the model again"):
        load_task(Task.LOOKUP, tmp_path)


def test_public_tensors_take_the_models_dimensions() -> None:
    found = signature(Task.RETRIEVE, {"width": 64, "top": 100, "columns": 12})
    assert found.inputs[0].shape == (-1, 64)
    assert [spec.shape for spec in found.outputs] == [(-1, 100), (-1, 100), (-1, 100, 12)]
    assert SIGNATURES[Task.TABULAR].inputs[0].shape == (-1, 15)
