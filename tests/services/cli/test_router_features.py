"""``turnout router`` on rows of numbers, as a person would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from routing.quality import DEFAULT_ROUTER, load_router
from services.cli.router import app
from tests.routing import rows, tables
from tests.routing.quality.test_feature_quality import with_confidence
from turnout.errors import ArtifactInvalid, DataError

PAIR = ("--weak", "small", "--strong", "large")


def run(*arguments: object, as_json: bool = True) -> Any:
    done = CliRunner().invoke(app, [*map(str, arguments), *(["--json"] if as_json else [])])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout.splitlines()[-1]) if as_json else done.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("rows")
    seen, unseen, router = folder / "seen.parquet", folder / "unseen.jsonl", folder / "router"
    rows.frame(2000, 0).to_parquet(seen, index=False)
    rows.frame(1500, 1).to_json(unseen, orient="records", lines=True)
    found = run("train", "--outcomes", seen, "--out", router)
    assert found["questions"] == 2000
    assert set(found["base_rate"]) == {"small", "large"}
    return unseen, router


def test_evaluation_has_the_same_numbers_as_for_prompts(
    world: tuple[Path, Path], tmp_path: Path
) -> None:
    unseen, router = world
    found = run(
        "evaluate", "--router", router, "--outcomes", unseen, *PAIR, "--rounds", 20,
        "--plot", tmp_path / "curve",
    )  # fmt: skip
    methods = found["methods"]
    assert set(methods) == {"router", "random", "oracle"}
    assert methods["router"]["apgr"] > 0.75 > methods["random"]["apgr"]
    assert methods["router"]["cpt80"] < 0.4
    at = methods["router"]["at_share"]
    assert at["0.2"] > methods["random"]["at_share"]["0.2"] + 0.03
    assert at["0.01"] < at["0.1"]
    assert max(found["ece"].values()) < 0.04
    assert found["aiq"]["router"] > found["aiq"]["mixture"]
    assert Path(found["files"][0]).is_file()


def test_a_threshold_and_predictions(world: tuple[Path, Path], tmp_path: Path) -> None:
    unseen, router = world
    share = run("calibrate", "--router", router, "--outcomes", unseen, *PAIR, "--strong-share", 0.2)
    assert share["quality_of_best"] > 0.95
    out = tmp_path / "p.parquet"
    found = run("predict", "--router", router, "--outcomes", unseen, "--out", out)
    frame = pd.read_parquet(out)
    assert found["rows"] == len(frame) == 3000
    assert frame["p_good"].between(0, 1).all()


def test_an_explanation_of_a_row(world: tuple[Path, Path]) -> None:
    _, router = world
    found = run("explain", "[2.0, 1.0, 0.0]", "--router", router)
    assert next(iter(found["contributions"])) == "amount"
    assert "because of" in run("explain", "[2.0, 1.0, 0.0]", "--router", router, as_json=False)
    for wrong in ("Hello", "[1]", '["a", 1, 2]'):
        with pytest.raises(DataError, match="3 numbers: amount, hour, noise"):
            run("explain", wrong, "--router", router)


def test_what_does_not_belong_together_is_told(world: tuple[Path, Path], tmp_path: Path) -> None:
    unseen, router = world
    prompts, others = tmp_path / "prompts.parquet", tmp_path / "others.jsonl"
    tables.frame(40).to_parquet(prompts, index=False)
    rows.frame(40, named=False).to_json(others, orient="records", lines=True)
    with pytest.raises(DataError, match="trained on features"):
        run("evaluate", "--router", router, "--outcomes", prompts, *PAIR)
    with pytest.raises(DataError, match="the router was trained on amount, hour, noise"):
        run("evaluate", "--router", router, "--outcomes", others, *PAIR)
    with pytest.raises(DataError, match="no head"):
        run("evaluate", "--router", DEFAULT_ROUTER, "--outcomes", unseen, *PAIR)


def test_features_that_tell_nothing_are_said_to(tmp_path: Path) -> None:
    path = tmp_path / "silent.parquet"
    table = rows.frame(300)
    table["features"] = [[1.0, 2.0, 3.0]] * len(table)
    table.to_parquet(path, index=False)
    found = run("train", "--outcomes", path, "--out", tmp_path / "router")
    assert "tell nothing" in found["note"]


def test_a_cascade_is_evaluated_and_its_gain_chosen(tmp_path: Path) -> None:
    seen, unseen, router = (tmp_path / name for name in ("a.parquet", "b.parquet", "router"))
    with_confidence(2500).to_parquet(seen, index=False)
    with_confidence(1500, seed=1).to_parquet(unseen, index=False)
    run("train", "--outcomes", seen, "--out", router)
    told = ("--router", router, "--outcomes", unseen, *PAIR, "--cascade")
    methods = run("evaluate", *told, "--rounds", 20)["methods"]
    at_door = run("evaluate", *told[:-1], "--rounds", 20)["methods"]
    assert methods["router"]["apgr"] > methods["confidence"]["apgr"]
    assert methods["router"]["apgr"] > at_door["router"]["apgr"]
    assert "cascade: {gain: " in run("calibrate", *told, "--strong-share", 0.1, as_json=False)
    plain = tmp_path / "plain.parquet"
    rows.frame(200).to_parquet(plain, index=False)
    with pytest.raises(DataError, match="'confidence' is empty"):
        run("evaluate", "--router", router, "--outcomes", plain, *PAIR, "--cascade")
    run("train", "--outcomes", plain, "--out", router)
    with pytest.raises(DataError, match="without the confidence of 'small'"):
        run("evaluate", *told)


def test_a_router_of_rows_is_no_router_of_prompts(world: tuple[Path, Path]):
    router = world[-1]
    with pytest.raises(ArtifactInvalid, match=f"TURNOUT_FEATURE_ROUTERS=ROUTE={router}"):
        load_router(router)
