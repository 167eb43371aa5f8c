from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from services.cli.main import main as entry


def main(arguments: list[str]) -> int:
    """Run the command line; its exit code."""
    try:
        entry(arguments)
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def table(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4.0, 1.0, n)
    cheap = rng.random(n) < confidence
    return pd.DataFrame(
        {"confidence": confidence, "cheap": cheap * 1, "large": (cheap | (rng.random(n) < 0.4)) * 1}
    )


def test_a_threshold_is_chosen_and_shown_on_other_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one.parquet", tmp_path / "two.jsonl"
    table(500, 0).to_parquet(one)
    table(500, 1).to_json(two, orient="records", lines=True)
    shared = ["cascade", "choose", str(one), "--held-back", str(two), "--json"]
    main([*shared, "--max-escalated", "0.2"])
    found = json.loads(capsys.readouterr().out)
    assert found["on"][str(one)]["escalated"] == pytest.approx(0.2, abs=0.01)
    assert found["on"][str(two)]["quality"] > found["on"][str(two)]["cheap"]
    main([*shared, "--max-loss", "0.05"])
    assert 0.0 < json.loads(capsys.readouterr().out)["threshold"] < 1.0


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", ":1: not JSON"),
        ("[1]", ":1: not an object"),
        ('{"confidence": 0.5}', "column 'cheap' is missing"),
        ('{"confidence": "x", "cheap": 0, "large": 1}', "not a number"),
        ('{"confidence": 2, "cheap": 0, "large": 1}', "confidence must be from 0 to 1"),
        ("", "no recorded answer"),
    ],
)
def test_bad_tables_are_refused(
    text: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text(text)
    assert main(["cascade", "choose", str(file), "--max-escalated", "0.2"]) == 2
    assert what in capsys.readouterr().err


def test_exactly_one_goal_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cascade", "choose", str(tmp_path / "none.jsonl")]) == 2
    assert "either" in capsys.readouterr().err
