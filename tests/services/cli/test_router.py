"""Train, predict, evaluate, calibrate and explain, as a person would."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from routing.quality import DEFAULT_ROUTER, ModelPrior, load_router
from routing.training.fit import calibrate, train_router
from services.cli.router import app
from tests.routing import tables
from turnout.errors import DataError, TooFewOutcomes


def run(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("router")
    seen, unseen, router = folder / "seen.parquet", folder / "unseen.parquet", folder / "router"
    tables.frame(700, 0).to_parquet(seen, index=False)
    tables.frame(300, 1).to_parquet(unseen, index=False)
    found = run("train", "--outcomes", seen, "--out", router)
    assert found["questions"] == 700
    return seen, unseen, router


def test_it_learns_who_fails_what(world: tuple[Path, Path, Path]):
    _, unseen, router = world
    found = run(
        "evaluate", "--router", router, "--outcomes", unseen, "--weak", "small", "--strong",
        "large", "--rounds", 50,
    )  # fmt: skip
    methods = found["methods"]
    assert methods["router"]["apgr"] > 0.65
    assert methods["router"]["apgr"] <= methods["oracle"]["apgr"]
    assert methods["router"]["apgr"] > methods["random"]["apgr"]
    assert methods["router"]["cpt50"] < 0.4
    assert found["aiq"]["router"] > found["aiq"]["mixture"]
    assert max(found["ece"].values()) < 0.12


def test_predictions_follow_the_prompts_of_the_file(world: tuple[Path, Path, Path], tmp_path: Path):
    _, unseen, router = world
    only_prompts = tmp_path / "prompts.parquet"
    pd.read_parquet(unseen)[["query_id", "prompt"]].to_parquet(only_prompts, index=False)
    out = tmp_path / "p.parquet"
    found = run("predict", "--router", router, "--outcomes", only_prompts, "--out", out)
    frame = pd.read_parquet(out)
    assert list(frame.columns) == ["query_id", "model", "p_good"]
    assert found["rows"] == len(frame) == 600
    assert frame["p_good"].between(0, 1).all()


def test_questions_it_was_trained_on_are_told_apart(world: tuple[Path, Path, Path], tmp_path: Path):
    seen, unseen, router = world
    old, new = pd.read_parquet(seen), pd.read_parquet(unseen)
    new = new[~new["prompt"].isin(old["prompt"])]
    some = old[:200].assign(query_id="s" + old["query_id"], prompt=old["prompt"].str.upper() + " !")
    other, mixed = tmp_path / "new.parquet", tmp_path / "mixed.parquet"
    new.to_parquet(other, index=False)
    pd.concat([new, some]).to_parquet(mixed, index=False)
    pair = ("--router", router, "--weak", "small", "--strong", "large")
    found = run("evaluate", *pair, "--outcomes", mixed, "--rounds", 50)
    apart = run("evaluate", *pair, "--outcomes", other, "--rounds", 50)
    n_old, n_new = some["prompt"].nunique(), new["prompt"].nunique()
    counts = {"trained_on": n_old, "asked_pool": 0, "new": n_new}
    assert {name: found["known"][name] for name in counts} == counts
    assert found["known"]["apgr_of_new"] == apart["methods"]["router"]["apgr"]
    assert found["known"]["apgr_of_new"] != found["methods"]["router"]["apgr"]
    low, high = found["known"]["apgr_of_new_95"]
    assert low < found["known"]["apgr_of_new"] < high
    told = run("calibrate", *pair, "--outcomes", mixed, "--strong-share", 0.3)
    assert told["known"] == counts
    alone = run("evaluate", *pair, "--outcomes", mixed, "--rounds", 50, "--only-new")
    assert alone == {**apart, "files": []}
    told = run("calibrate", *pair, "--outcomes", mixed, "--strong-share", 0.3, "--only-new")
    assert told == run("calibrate", *pair, "--outcomes", other, "--strong-share", 0.3)


def said(*arguments: object) -> str:
    """What a command prints, in one line."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exception is None
    return " ".join(done.stdout.split())


def test_why_new_questions_say_nothing_is_told(world: tuple[Path, Path, Path], tmp_path: Path):
    seen, _, router = world
    pair = ("--router", router, "--weak", "small", "--strong", "large", "--rounds", 5)
    text = said("evaluate", *pair, "--outcomes", seen)
    assert "this router has seen 700 of these 700 questions (trained on 700, its pool" in text
    assert "the 0 unseen ones are too few to judge by (need 30)" in text
    with pytest.raises(DataError, match="--only-new: this router has seen 700 of these 700"):
        run("evaluate", *pair, "--outcomes", seen, "--only-new")
    old, new = pd.read_parquet(seen), tables.frame(100, 7)
    new["query_id"] = "n" + new["query_id"]
    new["score"] = np.where(new["model"] == "small", 1.0, 0.0)
    path = tmp_path / "worse.parquet"
    pd.concat([old, new]).to_parquet(path, index=False)
    text = said("evaluate", *pair, "--outcomes", path)
    assert "on the 100 unseen ones the strong model scores 0.000 and the weak one 1.000" in text
    assert run("evaluate", *pair, "--outcomes", path)["known"]["apgr_of_new"] is None
    assert "does not hold for others: try --only-new" in said(
        "calibrate", *pair[:-2], "--outcomes", seen, "--strong-share", 0.3
    )


def test_a_router_that_knows_none_of_them_says_so(world: tuple[Path, Path, Path], tmp_path: Path):
    seen, unseen, router = world
    new = pd.read_parquet(unseen)
    new[~new["prompt"].isin(pd.read_parquet(seen)["prompt"])].to_parquet(tmp_path / "new.parquet")
    told = ("--outcomes", tmp_path / "new.parquet", "--weak", "small", "--strong", "large")
    text = said("evaluate", "--router", router, *told, "--rounds", 5)
    assert "this router has seen none of these" in text


def test_without_models_an_explanation_is_about_the_routers_own(world: tuple[Path, Path, Path]):
    _, _, router = world
    found = run("explain", "What is a calm guest?", "--router", router)
    assert set(found["p_good"]) == set(found["from_trained_heads"]) == {"small", "large"}


def test_a_model_is_not_its_own_rival(world: tuple[Path, Path, Path]):
    _, unseen, router = world
    with pytest.raises(DataError, match="give two models"):
        run("evaluate", "--router", router, "--outcomes", unseen, "--weak", "small", "--strong",
            "small")  # fmt: skip


def test_prompts_of_any_script_are_told_apart(tmp_path: Path):
    """Of equal length, so that only the characters say what is hard."""
    hard = ("请证明有限群{}的阶整除", "求希尔伯特算子{}的特征")
    easy = ("今天北京天气{}怎么样呢", "你好先生请问{}是什么呀")
    frame = tables.frame(700, 3)
    number = frame["query_id"].str[1:].astype(int)
    forms = [(hard if i % 2 else easy)[i // 2 % 2] for i in number]
    frame["prompt"] = [form.format(i + 1000) for form, i in zip(forms, number, strict=True)]
    seen, unseen = tmp_path / "seen.parquet", tmp_path / "unseen.parquet"
    frame[number < 400].to_parquet(seen, index=False)
    frame[number >= 400].to_parquet(unseen, index=False)
    assert run("train", "--outcomes", seen, "--out", tmp_path / "router")["questions"] == 400
    found = run("evaluate", "--router", tmp_path / "router", "--outcomes", unseen, "--weak",
                "small", "--strong", "large", "--rounds", 5)["methods"]  # fmt: skip
    assert found["router"]["apgr"] > 0.65 > 0.6 > found["length"]["apgr"]


def test_plots_are_written(world: tuple[Path, Path, Path], tmp_path: Path):
    _, unseen, router = world
    found = run(
        "evaluate", "--router", router, "--outcomes", unseen, "--weak", "small", "--strong",
        "large", "--rounds", 5, "--plot", tmp_path / "curve",
    )  # fmt: skip
    png, page = map(Path, found["files"])
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64" in page.read_text()
    assert "http" not in page.read_text().replace("http-equiv", "")


@pytest.mark.parametrize(
    ("option", "value", "key"),
    [("--strong-share", 0.3, "strong_share"), ("--target-quality", 0.95, "quality_of_best")],
)
def test_a_threshold_in_terms_a_person_understands(
    world: tuple[Path, Path, Path], option: str, value: float, key: str
):
    _, unseen, router = world
    found = run(
        "calibrate", "--router", router, "--outcomes", unseen, "--weak", "small", "--strong",
        "large", option, value,
    )  # fmt: skip
    assert found[key] >= value - 0.02


def test_calibrate_wants_one_goal(world: tuple[Path, Path, Path]):
    _, unseen, router = world
    with pytest.raises(DataError, match="either"):
        run(
            "calibrate", "--router", router, "--outcomes", unseen, "--weak", "small", "--strong",
            "large",
        )  # fmt: skip


def test_an_explanation_names_the_cause(world: tuple[Path, Path, Path]):
    _, _, router = world
    hard = run("explain", "Prove that the finite abelian group of order 12 is solvable.",
               "--router", router)  # fmt: skip
    easy = run("explain", "What is a merry guest?", "--router", router, "--models", "small,new=0.6")
    assert hard["difficulty"] > easy["difficulty"]
    assert easy["from_trained_heads"] == ["small"]
    assert "subject_matter" in hard["contributions"]


def test_without_models_an_explanation_is_about_the_catalogs(tmp_path: Path):
    found = run("explain", "Hi")
    assert set(found["p_good"]) == {"smollm2", "smollm2-int8"}
    assert found["models_of"].endswith("catalog/default.yaml")
    assert len(run("explain", "Hi", "--models", "all")["p_good"]) > 20
    none = tmp_path / "none.yaml"
    none.write_text(
        "version: 1\nclasses: {a: {deadline_ms: 9, priority: 0}}\n"
        "models: {m: {task: embed, runner: {engine: fake}}}\n"
        "routes: {r: {task: embed, candidates: [m], latency_class: a}}\n"
    )
    with pytest.raises(DataError, match="--models NAME=PRIOR"):
        run("explain", "Hi", "--catalog", none)


@pytest.mark.parametrize("models", ["a=2", "a=x"])
def test_a_prior_out_of_range_is_refused(models: str):
    with pytest.raises(DataError, match="prior"):
        run("explain", "Hi", "--models", models)


def test_a_model_without_head_cannot_be_evaluated(world: tuple[Path, Path, Path]):
    _, unseen, _ = world
    with pytest.raises(DataError, match="no head for 'small'"):
        run(
            "evaluate", "--router", DEFAULT_ROUTER,
            "--outcomes", unseen, "--weak", "small", "--strong", "large",
        )  # fmt: skip


def others(n: int, seed: int) -> pd.DataFrame:
    """What two other models made of like prompts."""
    names = {"small": "other-small", "large": "other-large"}
    return tables.frame(n, seed).replace({"model": names})


def test_a_pool_of_ones_own_is_leant_on(tmp_path: Path):
    few, pool, router = tmp_path / "few.parquet", tmp_path / "pool.parquet", tmp_path / "router"
    tables.frame(40, 2).to_parquet(few, index=False)
    pd.concat([others(400, 2), tables.frame(400, 2)]).to_parquet(pool, index=False)
    run("train", "--outcomes", few, "--pool", pool, "--out", router)
    factors = load_router(router).encoder.factors
    assert factors is not None
    assert factors.models == (("other-large", "other-small"),)
    assert json.loads((router / "router.json").read_text())["pool"] == ["pool.parquet"]
    asked = str(others(400, 2)["prompt"].iloc[0])
    found = run("explain", asked, "--router", router, "--models", "small,large")
    assert "asked_the_pool_itself" in found["contributions"]
    judged = run("evaluate", "--router", router, "--outcomes", pool, "--weak", "small", "--strong",
                 "large", "--rounds", 5)  # fmt: skip
    assert judged["known"] == {
        "trained_on": 40, "asked_pool": 400, "new": 0, "apgr_of_new": None, "apgr_of_new_95": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pool", "error", "says"),
    [
        (tables.frame(400, 2), DataError, "other models than large, small"),
        (others(100, 2), TooFewOutcomes, "leave --pool out"),
        (pd.DataFrame({"query_id": ["q"], "features": [[1.0]], "model": "m", "score": 1.0}),
         DataError, "the table has features"),
    ],
)  # fmt: skip
def test_a_pool_that_cannot_help_is_refused(
    pool: pd.DataFrame, error: type[Exception], says: str, tmp_path: Path
):
    few, path = tmp_path / "few.parquet", tmp_path / "pool.parquet"
    tables.frame(40, 1).to_parquet(few, index=False)
    pool.to_parquet(path, index=False)
    with pytest.raises(error, match=says):
        run("train", "--outcomes", few, "--pool", path, "--out", tmp_path / "router")


def test_training_says_what_pool_it_leans_on(tmp_path: Path):
    few, pool = tmp_path / "few.parquet", tmp_path / "pool.parquet"
    tables.frame(40, 2).to_parquet(few, index=False)
    others(400, 2).to_parquet(pool, index=False)
    found = run("train", "--outcomes", few, "--pool", pool, "--out", tmp_path / "router")
    assert "400 questions of other-large, other-small" in found["note"]
    assert "asked 40 of these 40" in found["note"]


def test_a_table_that_tells_nothing_says_so(tmp_path: Path):
    flat = tables.frame(60, 1).assign(score=1.0)
    flat.to_parquet(tmp_path / "flat.parquet", index=False)
    told = ("train", "--outcomes", tmp_path / "flat.parquet", "--out", tmp_path / "router")
    found = run(*told)
    assert "tell little of who answers well" in found["note"]
    assert found["base_rate"] == {"large": 1.0, "small": 1.0}


def test_a_table_that_tells_much_says_nothing_of_it(tmp_path: Path):
    tables.frame(60, 1).to_parquet(tmp_path / "told.parquet", index=False)
    told = ("train", "--outcomes", tmp_path / "told.parquet", "--out", tmp_path / "router")
    assert "note" not in run(*told)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (("train", "--models", "small,small"), "'small' is listed twice"),
        (("predict", "--router", "ROUTER", "--out", "p.csv"), "are a .parquet file"),
        (("explain", "why?", "--models", "small=0.6,small=0.9"), "'small' is listed twice"),
    ],
)
def test_slips_are_named(
    told: tuple[str, ...], says: str, world: tuple[Path, Path, Path], tmp_path: Path
):
    seen, _, router = world
    given = [str(router) if word == "ROUTER" else word for word in told]
    if told[0] != "explain":
        given += ["--outcomes", str(seen)]
    if told[0] == "train":
        given += ["--out", str(tmp_path / "router")]
    with pytest.raises(DataError, match=says):
        run(*given)


def test_an_empty_table_has_nothing_to_predict(world: tuple[Path, Path, Path], tmp_path: Path):
    empty, out = tmp_path / "empty.parquet", tmp_path / "p.parquet"
    pd.DataFrame({"query_id": [], "prompt": []}).to_parquet(empty, index=False)
    with pytest.raises(TooFewOutcomes, match="no rows"):
        run("predict", "--router", world[2], "--outcomes", empty, "--out", out)


def test_one_model_alone_makes_no_router(tmp_path: Path):
    frame = tables.frame(60)
    path = tmp_path / "one.parquet"
    frame[frame["model"] == "small"].to_parquet(path, index=False)
    with pytest.raises(DataError, match="at least two models"):
        run("train", "--outcomes", path, "--out", tmp_path / "router")


def test_the_same_seed_gives_the_same_router(tmp_path: Path):
    table = tables.outcomes(tmp_path, 120)
    encoder = load_router(DEFAULT_ROUTER).encoder
    models = [ModelPrior("small", 0.5), ModelPrior("large", 0.5)]
    one, two = (train_router(table, encoder, seed=3) for _ in range(2))
    np.testing.assert_array_equal(
        one.predict("Prove it.", models, fast=False), two.predict("Prove it.", models, fast=False)
    )


def test_too_few_outcomes_say_so(tmp_path: Path):
    encoder = load_router(DEFAULT_ROUTER).encoder
    with pytest.raises(TooFewOutcomes, match="prior"):
        train_router(tables.outcomes(tmp_path, 8), encoder)


def test_calibration_undoes_a_distortion():
    random = np.random.default_rng(0)
    truth = random.uniform(0.2, 0.95, size=(4000, 1))
    score = (random.random((4000, 1)) < truth).astype(float)
    odds = np.log(truth / (1 - truth)) * 0.5 - 0.7
    distorted = 1 / (1 + np.exp(-odds))
    found = calibrate(distorted, score)
    corrected = 1 / (1 + np.exp(-found.scores(distorted.astype(np.float32))))
    assert np.abs(corrected - truth).mean() < 0.02


def test_training_the_default_router_names_the_table_it_lacks(tmp_path: Path):
    with pytest.raises(DataError, match=r"mmlu_mixtral_gpt4\.parquet: no such file"):
        run("train-default", tmp_path)
