"""The whole way by command: simulate, retrain, judge."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from runners.recipes.fraud.evaluation import card_precision
from runners.recipes.fraud.table import Table, read
from runners.recipes.onnx_session import run_onnx
from runners.tasks.tabular import FEATURES
from services.cli.fraud import app
from turnout.errors import DataError


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fraud") / "transactions.parquet"
    arguments = ["simulate", "--out", str(path), "--days", "80", "--customers", "500"]
    done = CliRunner().invoke(app, [*arguments, "--terminals", "4000"], catch_exceptions=False)
    assert done.exit_code == 0
    return path


def test_a_retrained_model_finds_frauds_of_later_days(parquet: Path, tmp_path: Path) -> None:
    command = ["train", "--from", str(parquet), "--out", str(tmp_path), "--size", "small"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    measured = json.loads(done.stdout)["fraud-small"]
    quality = json.loads((tmp_path / "fraud-small" / "quality.json").read_text())
    assert quality["value"] == measured["average_precision"]

    command = ["evaluate", "--from", str(parquet), "--model", str(tmp_path / "fraud-small")]
    judged = json.loads(CliRunner().invoke(app, command, catch_exceptions=False).stdout)
    table = read(parquet)
    assert judged["average_precision"] > 5 * table.fraud.mean()
    assert judged["roc_auc"] > 0.75
    model = tmp_path / "fraud-small" / "model.onnx"
    scores = run_onnx(model, {"features": table.features[:7]})
    assert scores.shape == (7,)
    assert scores.dtype == np.float32


def test_days_are_split_in_time_with_a_gap(parquet: Path) -> None:
    table = read(parquet)
    learn, judge = table.split()
    assert judge.day.min() - learn.day.max() == 8
    assert judge.day.max() == table.day.max()


def test_where_the_models_go_must_be_said(parquet: Path) -> None:
    with pytest.raises(DataError, match="--out DIR or --store"):
        CliRunner().invoke(app, ["train", "--from", str(parquet)], catch_exceptions=False)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_text("no")
    with pytest.raises(DataError, match=r"x\.parquet cannot be read"):
        read(path)


def test_missing_columns_are_named(parquet: Path, tmp_path: Path) -> None:
    path = tmp_path / "less.parquet"
    pq.write_table(pq.read_table(parquet).drop_columns([FEATURES[3]]), path)
    with pytest.raises(DataError, match=FEATURES[3]):
        read(path)


def test_a_feature_that_is_no_number_is_named_with_its_row(parquet: Path, tmp_path: Path) -> None:
    table = pq.read_table(parquet)
    values = table.column("TX_AMOUNT").to_numpy().copy()
    values[5] = np.nan
    path = tmp_path / "nan.parquet"
    index = table.column_names.index("TX_AMOUNT")
    pq.write_table(table.set_column(index, "TX_AMOUNT", pa.array(values)), path)
    with pytest.raises(DataError, match="TX_AMOUNT is not a finite number in row 5"):
        read(path)


def test_card_precision_counts_cards_not_transactions() -> None:
    # 200 cards with two payments each; cards 0..49 are defrauded, and scored highest
    customer = np.repeat(np.arange(200), 2)
    fraud = (customer < 50) & (np.arange(400) % 2 == 0)
    table = Table(np.zeros((400, 15), np.float32), fraud, np.zeros(400, np.int64), customer)
    assert card_precision(table, -customer.astype(float)) == 0.5
    assert card_precision(table, customer.astype(float)) == 0.0
