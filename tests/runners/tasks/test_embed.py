from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from runners.tasks import load_task
from runners.tasks.embed import EmbedTask
from runners.tasks.text import MAX_TOKENS
from turnout.errors import ArtifactInvalid, InvalidRequest
from turnout.types import Task


@pytest.fixture
def task(tmp_path: Path) -> EmbedTask:
    words = {"[UNK]": 0, "a": 1, "b": 2, "c": 3}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=512)  # as published: padding is ours to decide
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = load_task(Task.EMBED, tmp_path)
    assert isinstance(loaded, EmbedTask)
    return loaded


def _text(*rows: bytes) -> dict[str, np.ndarray]:
    tensor = np.empty(len(rows), dtype=object)
    tensor[:] = rows
    return {"text": tensor}


def test_rows_are_padded_to_the_longest_of_the_request(task: EmbedTask) -> None:
    inputs = task.prepare(_text(b"a b c", b"b"))
    assert inputs["input_ids"].tolist() == [[1, 2, 3], [2, 0, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert inputs["input_ids"].dtype == inputs["attention_mask"].dtype == np.int64


def test_requests_are_padded_to_the_longest_of_the_batch(task: EmbedTask) -> None:
    parts = [task.prepare(_text(b"c")), task.prepare(_text(b"a b", b"b"))]
    batch = task.collate(parts)
    assert batch["input_ids"].tolist() == [[3, 0], [1, 2], [2, 0]]
    assert batch["attention_mask"].tolist() == [[1, 0], [1, 1], [1, 0]]


def test_long_text_is_cut(task: EmbedTask) -> None:
    assert task.prepare(_text(b"a " * 5000))["input_ids"].shape == (1, MAX_TOKENS)


@pytest.mark.parametrize(
    ("row", "what"),
    [(b"", "row 1 is empty"), (b"ok \xff", "row 1 is not UTF-8: invalid start byte at byte 3")],
)
def test_a_bad_row_is_refused_by_its_number(task: EmbedTask, row: bytes, what: str) -> None:
    with pytest.raises(InvalidRequest, match=what):
        task.prepare(_text(b"a", row))


def test_vectors_pass_through(task: EmbedTask) -> None:
    vectors = np.eye(2, 384, dtype=np.float32)
    np.testing.assert_array_equal(task.finish({"sentence": vectors})["embedding"], vectors)


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactInvalid, match="build the model again"):
        load_task(Task.EMBED, tmp_path)
