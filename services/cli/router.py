"""``turnout router``: train, predict, evaluate, calibrate and explain."""

# pyright: basic

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from routing.evaluation.evaluate import Evaluation, evaluate_pair, seen_questions
from routing.evaluation.predict import load_trained, predict_all, predict_pair
from routing.evaluation.report import SHARES
from routing.evaluation.threshold import for_quality, for_share
from services.cli.router_explain import explain_prompt
from services.cli.router_options import (
    CascadeOption,
    JsonOption,
    OnlyNewOption,
    OutcomesOption,
    RouterOption,
    StrongOption,
    TableOption,
    WeakOption,
    names_of,
    print_json,
    progress,
)
from turnout.errors import DataError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Learn which model answers what well, from recorded outcomes.",
)


@app.command()
def train(
    outcomes: OutcomesOption,
    out: Annotated[Path, typer.Option("--out", help="Folder to write the router to.")],
    models: Annotated[str, typer.Option("--models", help="Only these, separated by commas.")] = "",
    pool: Annotated[
        list[Path] | None,
        typer.Option("--pool", help="Outcomes of other models on prompts like yours, to lean on."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="So many questions.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of sampling, folds and trees.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Train and calibrate a router."""
    # Training needs the build extra; the other commands, such as explain, do without it.
    from routing.training.outcomes import read_outcomes
    from routing.training.run import train_and_save

    with progress() as step:
        step("reading tables")
        table = read_outcomes(outcomes)
        if models:
            table = table.only(names_of(models))
        if len(table.models) < 2:
            scored = ", ".join(repr(name) for name in table.models)
            raise DataError(
                f"only {scored} was scored; a router chooses between at least two models"
            )
        table = table.sample(limit, seed)
        origin = "trained on " + ", ".join(path.name for path in outcomes)
        card = {"questions": len(table), "seed": seed, "limit": limit}
        base_rate, notes = train_and_save(table, out, card, origin, pool or [], step)
    rates = dict(zip(table.models, base_rate, strict=True))
    note = "; ".join(notes)
    if as_json:
        result = {"router": str(out), "questions": len(table), "base_rate": rates}
        print_json(result | ({"note": note} if note else {}))
        return
    lines = Table("model", "mean score", title=f"{out}: trained on {len(table)} questions")
    for name, rate in rates.items():
        lines.add_row(name, f"{rate:.4g}")
    Console().print(lines)
    if note:
        Console().print(note)


@app.command("train-default")
def train_default(
    data: Annotated[Path, typer.Argument(help="Folder of the recorded outcome tables.")],
    as_json: JsonOption = False,
) -> None:
    """Train the router that ships and write it to its folder in the repository."""
    from routing.quality import DEFAULT_ROUTER
    from routing.training.default_router import train_default_router

    with progress() as step:
        questions = train_default_router(data, step)
    if as_json:
        print_json({"router": str(DEFAULT_ROUTER), "questions": questions})
    else:
        Console().print(f"{DEFAULT_ROUTER}: trained on {questions} questions")


@app.command()
def predict(
    router: RouterOption,
    outcomes: TableOption,
    out: Annotated[Path, typer.Option("--out", help="Parquet file: query_id, model, p_good.")],
    fast: Annotated[bool, typer.Option("--fast", help="The real-time tier.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Predict P(good answer) of every trained model for every query; scores are not read."""
    import pandas as pd  # in the build extra, which explain does without

    quality = load_trained(router)
    if out.suffix != ".parquet":
        raise DataError(f"--out {out}: predictions are a .parquet file")
    with progress() as step:
        ids, p_good = predict_all(quality, outcomes, fast=fast, step=step)
    frame = pd.DataFrame(
        {
            "query_id": np.repeat(ids, len(quality.models)),
            "model": list(quality.models) * len(ids),
            "p_good": p_good.ravel(),
        }
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(out, index=False)
    if as_json:
        print_json({"predictions": str(out), "questions": len(ids), "rows": len(frame)})
    else:
        Console().print(f"{out}: {len(ids)} questions, {len(quality.models)} models")


@app.command()
def evaluate(
    router: RouterOption,
    outcomes: TableOption,
    weak: WeakOption,
    strong: StrongOption,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write PLOT.png, PLOT.html.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="The real-time tier.")] = False,
    cascade: CascadeOption = False,
    only_new: OnlyNewOption = False,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Bootstrap resamples.")] = 500,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Report PGR, APGR and CPT (as RouteLLM defines them), calibration and AIQ, with baselines."""
    quality = load_trained(router)
    with progress() as step:
        evaluation = evaluate_pair(
            quality,
            outcomes,
            weak,
            strong,
            step=step,
            fast=fast,
            cascade=cascade,
            only_new=only_new,
            rounds=rounds,
            seed=seed,
        )
    files: list[str] = []
    if plot is not None:
        from routing.evaluation.plot import write_plots  # matplotlib: only for plots

        files = [str(path) for path in write_plots(evaluation.report, plot)]
    if as_json:
        print_json(evaluation.to_json() | {"files": files})
        return
    _print_evaluation(evaluation, weak, strong)
    for path in files:
        Console().print(path)


def _print_evaluation(evaluation: Evaluation, weak: str, strong: str) -> None:
    report = evaluation.report
    title = f"{weak} → {strong}, {report.questions} questions"
    lines = Table("method", "APGR [95 %]", "CPT(50 %)", "CPT(80 %)", title=title)
    for name, interval in report.apgr.items():
        lines.add_row(name, str(interval), f"{report.cpt50[name]:.1%}", f"{report.cpt80[name]:.1%}")
    console = Console()
    console.print(lines)
    if evaluation.seen is not None:
        console.print(f"{evaluation.seen}{evaluation.note}", markup=False)
    for name, reliability in report.reliability.items():
        console.print(f"calibration error of {name}: {reliability.ece:.3f}")
    if report.aiq is not None:
        console.print(f"AIQ {report.aiq['router']:.3f} (mixing: {report.aiq['mixture']:.3f})")
    shares = Table(
        "strong calls", *(f"{share:.0%}" for share in SHARES), title="gap recovered, exact shares"
    )
    for name, at_share in report.at_share.items():
        recovered = [report.curves[name].recovered(value) for value in at_share.values()]
        shares.add_row(name, *(f"{value:.0%}" for value in recovered))
    console.print(shares)
    curve = Table("strong calls", "mean score", "gap recovered")
    for share, value, pgr in zip(
        report.curves["router"].share,
        report.curves["router"].quality,
        report.curves["router"].pgr,
        strict=True,
    ):
        curve.add_row(f"{share:.0%}", f"{value:.4f}", f"{pgr:.1%}")
    console.print(curve)


@app.command()
def calibrate(
    router: RouterOption,
    outcomes: TableOption,
    weak: WeakOption,
    strong: StrongOption,
    target_quality: Annotated[
        float | None, typer.Option("--target-quality", help="Share of the best model's quality.")
    ] = None,
    strong_share: Annotated[
        float | None, typer.Option("--strong-share", help="Share of calls for the strong model.")
    ] = None,
    cascade: CascadeOption = False,
    only_new: OnlyNewOption = False,
    as_json: JsonOption = False,
) -> None:
    """Choose the threshold on the predicted gain for a quality or a share of strong calls."""
    if (target_quality is None) == (strong_share is None):
        raise DataError("give either --target-quality or --strong-share")
    quality = load_trained(router)
    with progress() as step:
        table, p_good = predict_pair(
            quality,
            outcomes,
            weak,
            strong,
            fast=False,
            step=step,
            cascade=cascade,
            only_new=only_new,
        )
    gain = p_good[:, 1] - p_good[:, 0]
    threshold = (
        for_share(gain, table.score, strong_share)
        if strong_share is not None
        else for_quality(gain, table.score, target_quality or 0.0)
    )
    overlap = seen_questions(quality, table)
    result = {
        "gain_threshold": threshold.gain,
        "strong_share": threshold.strong_share,
        "quality": threshold.quality,
        "quality_of_best": threshold.of_best,
        "questions": len(table),
    }
    if as_json:
        print_json(result if overlap is None else result | {"known": overlap.to_json()})
        return
    if overlap is not None and overlap.count:
        caution = "; what the threshold promises does not hold for others: try --only-new"
        Console().print(f"{overlap}{caution}", markup=False)
    if cascade:
        Console().print(f"cascade: {{gain: {threshold.gain:.6f}}}")
    Console().print(
        f"send to {strong} when its predicted gain is at least {threshold.gain:.4f}: "
        f"{threshold.strong_share:.1%} of {len(table)} questions, "
        f"mean score {threshold.quality:.4f}, "
        f"{threshold.of_best:.2%} of the best model's"
    )


app.command("explain")(explain_prompt)
