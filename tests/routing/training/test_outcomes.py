from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from routing.training.outcomes import read_outcomes, read_prompts
from tests.routing import tables
from turnout.errors import DataError, TooFewOutcomes


def written(folder: Path, frame: pd.DataFrame, name: str = "t.parquet") -> Path:
    path = folder / name
    if name.endswith("jsonl"):
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path, index=False)
    return path


def test_parquet_and_jsonl_read_the_same(tmp_path: Path):
    frame = tables.frame(20)
    one = read_outcomes([written(tmp_path, frame)])
    two = read_outcomes([written(tmp_path, frame, "t.jsonl")])
    assert one.models == two.models == ("large", "small")
    assert one.prompts == two.prompts
    np.testing.assert_array_equal(one.score, two.score)
    assert len(one) == 20


def test_copies_of_a_question_are_one_question(tmp_path: Path):
    frame = tables.frame(10)
    copy = frame.assign(query_id="z" + frame["query_id"], prompt=frame["prompt"].str.upper())
    assert len(read_outcomes([written(tmp_path, pd.concat([frame, copy]))])) == 10


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("法国的首都是哪里?", "一公里有多少米?"),
        ("Столица Франции?", "Сколько метров в километре?"),
        ("What is 12 + 7?", "What is 12 - 7?"),
        ("Explain C", "Explain C++"),
    ],
)
def test_other_questions_stay_apart_in_any_script(tmp_path: Path, one: str, other: str):
    frame = tables.frame(2).assign(prompt=[one, one, other, other])
    assert read_outcomes([written(tmp_path, frame)]).prompts == (one, other)


def test_what_was_not_answered_is_not_a_zero(tmp_path: Path):
    frame = tables.frame(10)
    frame = frame[(frame["model"] == "small") | (frame["query_id"] < "q5")]
    table = read_outcomes([written(tmp_path, frame)])
    assert np.isnan(table.score[:, table.models.index("large")]).sum() == 5
    assert len(table.only(["large"])) == 5


def test_a_sample_is_seeded_and_has_the_size_asked_for(tmp_path: Path):
    table = read_outcomes([written(tmp_path, tables.frame(50))])
    assert table.sample(7, 1).query_ids == table.sample(7, 1).query_ids
    assert len(table.sample(7, 1)) == 7
    assert len(table.sample(700, 1)) == 50


def test_measures_may_be_left_out(tmp_path: Path):
    frame = tables.frame(10).drop(columns=["cost_usd", "output_tokens", "latency_s", "group"])
    assert np.isnan(read_outcomes([written(tmp_path, frame)]).cost_usd).all()


@pytest.mark.parametrize("column", ["query_id", "prompt", "model", "score"])
def test_a_missing_column_is_named(tmp_path: Path, column: str):
    path = written(tmp_path, tables.frame(4).drop(columns=[column]))
    with pytest.raises(DataError, match=f"t.parquet.*{column}"):
        read_outcomes([path])


@pytest.mark.parametrize("score", [1.5, -0.1, float("nan")])
def test_a_score_out_of_range_is_named_with_its_row(tmp_path: Path, score: float):
    frame = tables.frame(4)
    frame.loc[3, "score"] = score
    with pytest.raises(DataError, match=r"row 4.*score"):
        read_outcomes([written(tmp_path, frame)])


@pytest.mark.parametrize(("prompt", "says"), [(None, "not text"), (" \n", "blank")])
def test_a_prompt_must_be_text(tmp_path: Path, prompt: str | None, says: str):
    frame = tables.frame(4)
    frame.loc[2, "prompt"] = prompt
    with pytest.raises(DataError, match=f"row 3: column 'prompt' is {says}"):
        read_outcomes([written(tmp_path, frame)])


def test_a_blank_prompt_can_be_predicted(tmp_path: Path):
    frame = pd.DataFrame({"query_id": ["a", "b"], "prompt": ["", "Why?"]})
    assert read_prompts(written(tmp_path, frame)) == (["a", "b"], ["", "Why?"])


def test_a_folder_is_no_table(tmp_path: Path):
    with pytest.raises(DataError, match="is a folder"):
        read_outcomes([tmp_path])


@pytest.mark.parametrize("column", ["query_id", "model"])
def test_an_empty_name_is_refused(tmp_path: Path, column: str):
    frame = tables.frame(4)
    frame.loc[3, column] = None
    with pytest.raises(DataError, match=f"row 4.*{column}"):
        read_outcomes([written(tmp_path, frame)])


@pytest.mark.parametrize("text", ["{not json", "[1, 2]\n3", '"x"'])
def test_lines_that_are_no_rows(tmp_path: Path, text: str):
    path = tmp_path / "t.jsonl"
    path.write_text(text + "\n")
    with pytest.raises(DataError, match=r"t\.jsonl"):
        read_outcomes([path])


def test_an_empty_file_has_no_rows(tmp_path: Path):
    path = tmp_path / "t.jsonl"
    path.write_text("")
    with pytest.raises(TooFewOutcomes, match="no rows"):
        read_outcomes([path])


def test_an_id_stands_for_one_prompt(tmp_path: Path):
    frame = tables.frame(4)
    frame.loc[2:, "query_id"] = "q0"
    path = written(tmp_path, frame)
    for reader in (lambda: read_outcomes([path]), lambda: read_prompts(path)):
        with pytest.raises(DataError, match=r"t.parquet.*'q0'.*different prompts"):
            reader()


def test_files_that_are_no_tables(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        read_outcomes([tmp_path / "absent.parquet"])
    (tmp_path / "t.csv").write_text("a,b")
    with pytest.raises(DataError, match="csv"):
        read_outcomes([tmp_path / "t.csv"])
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="broken"):
        read_outcomes([tmp_path / "broken.parquet"])
    with pytest.raises(TooFewOutcomes):
        read_outcomes([written(tmp_path, tables.frame(4).iloc[:0])])


def test_an_unknown_model_is_named(tmp_path: Path):
    table = read_outcomes([written(tmp_path, tables.frame(4))])
    with pytest.raises(DataError, match=r"gpt-9.*large, small"):
        table.only(["gpt-9"])


def test_prompts_are_read_without_scores(tmp_path: Path):
    frame = tables.frame(6)[["query_id", "prompt"]]
    ids, prompts = read_prompts(written(tmp_path, frame))
    assert len(ids) == len(prompts) == 6
    with pytest.raises(DataError, match="prompt"):
        read_prompts(written(tmp_path, frame[["query_id"]], "u.parquet"))
