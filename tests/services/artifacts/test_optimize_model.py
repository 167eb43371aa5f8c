"""``turnout optimize`` end to end on a small model: command, store, gate, report, refusal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from services.artifacts import build, store
from services.artifacts.optimize_model import optimize as run_optimize
from services.cli.models import app as models_app
from services.cli.optimize import app
from tests.runners.optimize.conftest import picture
from tests.services.small_catalog import EASY
from turnout.catalog import load
from turnout.errors import ArtifactInvalid, ConfigError, DataError, TurnoutError, UnknownModel


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "bentoml"


def optimize(catalog: Path, *arguments: object, model: str = "small") -> Result:
    given = [model, "--catalog", str(catalog), *map(str, arguments)]
    return CliRunner().invoke(app, given)


def test_what_passes_is_stored_with_its_report_and_serves(write: Any, pictures: Path) -> None:
    catalog = write(optimize={"passes": ["graph", "int8"], "gate": EASY})
    done = optimize(catalog, "--inputs", pictures, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["judged_on"] == {
        "inputs": 20, "independent": 20, "labelled": False, "from": "40 pictures given by the user",
    }  # fmt: skip
    assert [stage["name"] for stage in said["candidates"][0]["stages"]] == ["graph", "int8"]
    assert set(said["candidates"][0]["measured"]["latency"]) == {"1", "8"}

    artifact = load(catalog).models["small"].artifact
    assert artifact is not None
    folder = store.resolve(artifact)
    assert str(folder) == said["path"]
    manifest = store.verify(folder)
    assert manifest["gate"] == {"passed": True, "why": []}
    assert {"model.onnx", "report.json", "report.html", "labels.json"} <= set(manifest["files"])
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "may serve" in page
    assert not re.search(r"""(src|href)=["']https?:|<script|<link|@import""", page)

    again = CliRunner().invoke(models_app, ["build", "--catalog", str(catalog)])
    assert again.exit_code == 0, again.output
    assert "optimised before" in again.stderr


def test_what_fails_is_stored_and_refused_with_its_reason(write: Any, pictures: Path) -> None:
    gate = EASY | {"max_loss": 0.0, "max_loss_at_worst": 0.0, "min_inputs": 500}
    catalog = write(optimize={"passes": ["graph", "int8"], "gate": gate})
    done = optimize(catalog, "--inputs", pictures)
    assert done.exit_code == 1
    assert "inputs judged is 20, the gate requires at least 500" in done.stdout
    artifact = load(catalog).models["small"].artifact
    assert artifact is not None
    with pytest.raises(ArtifactInvalid, match=r"may not serve.*inputs judged is 20.*report\.html"):
        store.resolve(artifact)
    assert store.resolve(artifact.base).is_dir()  # the model itself still serves
    again = CliRunner().invoke(models_app, ["build", "--catalog", str(catalog)])
    assert again.exit_code == 0, again.output
    assert "built, but small:" in again.stderr
    assert "inputs judged is 20" in again.stderr


def test_an_entry_without_passes_tries_candidates(write: Any, pictures: Path) -> None:
    catalog = write()
    done = optimize(catalog, "--inputs", pictures, "--passes", "graph")
    found = json.loads(
        optimize(catalog, "--inputs", pictures, "--passes", "graph", "--json").stdout
    )
    assert found["candidates"][0]["why_not"]  # 20 inputs are too few by default
    assert "no candidate may serve, so nothing was stored" in done.stdout
    assert (Path(found["path"]) / "report.html").is_file()


def test_another_tolerance_is_another_artefact(write: Any, pictures: Path) -> None:
    strict = write(optimize={"passes": ["graph"], "gate": EASY | {"min_inputs": 500}})
    optimize(strict, "--inputs", pictures)
    loose = write(optimize={"passes": ["graph"], "gate": EASY})
    artifact = load(loose).models["small"].artifact
    assert artifact is not None
    with pytest.raises(ArtifactInvalid, match=r"run `turnout optimize MODEL`"):
        store.resolve(artifact)


def test_a_verdict_cannot_be_left_out(write: Any, pictures: Path) -> None:
    catalog = write(optimize={"passes": ["graph"], "gate": EASY})
    path = Path(json.loads(optimize(catalog, "--inputs", pictures, "--json").stdout)["path"])
    manifest = json.loads((path / "artifact.json").read_text())
    del manifest["gate"]
    (path / "artifact.json").write_text(json.dumps(manifest))
    artifact = load(catalog).models["small"].artifact
    assert artifact is not None
    with pytest.raises(ArtifactInvalid, match="never judged"):
        store.resolve(artifact)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["--passes", "grahp"], ConfigError, "no pass is named 'grahp'; the passes are graph"),
        (["--inputs", "nowhere"], DataError, "nowhere does not exist"),
    ],
)
def test_what_is_asked_wrongly_says_so(
    write: Any, arguments: list[str], error: type[TurnoutError], said: str
) -> None:
    done = optimize(write(), *arguments)
    assert isinstance(done.exception, error)
    assert said in str(done.exception)


def test_models_that_have_no_passes_say_so(write: Any) -> None:
    done = optimize(write(), model="nope")
    assert isinstance(done.exception, UnknownModel)
    done = optimize(write(), model="text")
    assert isinstance(done.exception, ConfigError)
    assert "passes work on ONNX files" in str(done.exception)


def test_pictures_that_are_none_are_named(write: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no .jpg or .png" in str(optimize(write(), "--inputs", empty).exception)
    (empty / "a.png").write_bytes(b"no picture")
    assert "a.png cannot be read as a picture" in str(
        optimize(write(), "--inputs", empty).exception
    )


def test_chains_with_options_are_tried_side_by_side(write: Any, pictures: Path) -> None:
    chains = ["graph,int8:activations=s8:operators=Conv+Gemm", "graph,int8:keep_ends=true"]
    given = [argument for chain in chains for argument in ("--passes", chain)]
    found = json.loads(optimize(write(), "--inputs", pictures, "--json", *given).stdout)
    assert [one["name"] for one in found["candidates"]] == [
        "graph + int8 (activations s8, operators Conv+Gemm)",
        "graph + int8 (keep_ends True)",
    ]
    options = found["candidates"][0]["stages"][1]["options"]
    assert (options["activations"], options["operators"]) == ("s8", ["Conv", "Gemm"])


@pytest.mark.parametrize("text", ["", "graph,", "int8:method", "int8:=3"])
def test_a_chain_that_cannot_be_read_is_refused(write: Any, text: str) -> None:
    done = optimize(write(), "--passes", text)
    assert isinstance(done.exception, ConfigError)
    assert "NAME:OPTION=VALUE" in str(done.exception)


def test_one_picture_is_too_few_and_three_hundred_are_not_too_many(
    write: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "0.png").write_bytes(picture(0))
    done = optimize(write(), "--inputs", folder, "--passes", "graph")
    assert isinstance(done.exception, DataError)
    assert "too few inputs" in str(done.exception)
    for index in range(1, 600):
        (folder / f"{index}.png").write_bytes(picture(index % 50))
    passes = {"passes": ["graph", "int8"], "calibration": {"rows": 300}, "gate": EASY}
    done = optimize(write(optimize=passes), "--inputs", folder, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["calibrated_on"]["inputs"] == 300


def test_the_passes_are_listed() -> None:
    done = CliRunner().invoke(app, ["--list-passes", "--json"])
    listed = json.loads(done.stdout)
    assert {"graph", "int8", "int8-mixed", "int8-dynamic", "tensorrt"} <= set(listed)
    assert listed["int8"]["options"]["method"] == "minmax"


def test_the_same_files_under_another_tag_are_not_built_twice(write: Any) -> None:
    artifact = load(write()).models["small"].artifact
    assert artifact is not None
    built = build.ensure_built(artifact, lambda line: None)
    assert build.find_built(artifact.model_copy(update={"tag": "other"})) == built


def test_progress_is_told_step_by_step(write: Any, pictures: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = run_optimize(
        load(write()),
        "small",
        lambda line: None,
        pictures,
        [[("graph", {})], [("graph", {}), ("int8", {})]],
        lambda done, total: steps.append((done, total)),
    )
    assert [one.name for one in found.study.candidates] == ["graph", "graph + int8"]
    assert steps[0] == (0, 7)
    assert steps[-1] == (7, 7)
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
