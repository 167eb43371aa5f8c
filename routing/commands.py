"""``turnout router``: train, predict, evaluate, calibrate, explain."""

# pyright: basic

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from routing.predicting import load_trained, predict_all, predict_pair
from routing.quality import LearnedQuality, ModelPrior, explain, load_router
from routing.quality.feature_artifact import is_feature_router, load_feature_router
from routing.quality.feature_explain import explain_row
from turnout.catalog import load
from turnout.errors import DataError
from turnout.settings import from_environment
from turnout.types import Task

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Learn which model answers what well, from recorded outcomes.",
)
DEFAULT_ROUTER = Path(__file__).parent / "default_router"

OutcomesOption = Annotated[
    list[Path], typer.Option("--outcomes", help="Outcome tables, .parquet or .jsonl.")
]
TableOption = Annotated[Path, typer.Option("--outcomes", help="Outcome table.")]
RouterOption = Annotated[Path, typer.Option("--router", help="Folder of a trained router.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
WeakOption = Annotated[str, typer.Option("--weak", help="The cheaper model.")]
CascadeOption = Annotated[
    bool,
    typer.Option("--cascade", help="As a cascade: with the weak model's confidence in its answer."),
]
StrongOption = Annotated[str, typer.Option("--strong", help="The better model.")]


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
    from routing.training.outcomes import read_outcomes
    from routing.training.run import train_and_save

    with _progress() as step:
        step("reading tables")
        table = read_outcomes(outcomes)
        if models:
            table = table.only(_names(models))
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
        found = {"router": str(out), "questions": len(table), "base_rate": rates}
        _print_json(found | ({"note": note} if note else {}))
        return
    lines = Table("model", "mean score", title=f"{out}: trained on {len(table)} questions")
    for name, rate in rates.items():
        lines.add_row(name, f"{rate:.4g}")
    Console().print(lines)
    if note:
        Console().print(note)


def _names(models: str) -> list[str]:
    """The names of a list separated by commas, each once.

    Raises:
        DataError: one stands there twice.
    """
    names = [name.strip() for name in models.split(",") if name.strip()]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"--models: {twice[0]!r} stands there twice")
    return names


@app.command()
def predict(
    router: RouterOption,
    outcomes: TableOption,
    out: Annotated[Path, typer.Option("--out", help="Parquet file: query_id, model, p_good.")],
    fast: Annotated[bool, typer.Option("--fast", help="The real-time tier.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Predict P(good answer) of every trained model for every query; scores are not read."""
    import pandas as pd

    quality = load_trained(router)
    if out.suffix != ".parquet":
        raise DataError(f"--out {out}: predictions are a .parquet file")
    with _progress() as step:
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
        _print_json({"predictions": str(out), "questions": len(ids), "rows": len(frame)})
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
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Bootstrap resamples.")] = 500,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """PGR, APGR and CPT as RouteLLM defines them, calibration, AIQ, beside simple baselines."""
    from routing.evaluation.report import SHARES, pair_report

    quality = load_trained(router)
    with _progress() as step:
        table, p_good = predict_pair(
            quality, outcomes, weak, strong, fast=fast, step=step, cascade=cascade
        )
        step("resampling")
        report = pair_report(
            names=(weak, strong),
            prompts=None if table.has_features else table.prompts,
            p_good=p_good,
            score=table.score,
            cost=table.cost_usd,
            more={"confidence": -table.confidence[:, 0]} if cascade else {},
            rounds=rounds,
            seed=seed,
        )
    files: list[str] = []
    if plot is not None:
        from routing.evaluation.plot import write_plots

        files = [str(path) for path in write_plots(report, plot)]
    if as_json:
        _print_json({**report.to_json(), "files": files})
        return
    title = f"{weak} → {strong}, {report.questions} questions"
    lines = Table("method", "APGR [95 %]", "CPT(50 %)", "CPT(80 %)", title=title)
    for name, interval in report.apgr.items():
        lines.add_row(name, str(interval), f"{report.cpt50[name]:.1%}", f"{report.cpt80[name]:.1%}")
    console = Console()
    console.print(lines)
    for name, found in report.reliability.items():
        console.print(f"calibration error of {name}: {found.ece:.3f}")
    if report.aiq is not None:
        console.print(f"AIQ {report.aiq['router']:.3f} (mixing: {report.aiq['mixture']:.3f})")
    shares = Table(
        "strong calls", *(f"{share:.0%}" for share in SHARES), title="gap recovered, exact shares"
    )
    for name, found in report.at_share.items():
        recovered = [report.curves[name].recovered(value) for value in found.values()]
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
    for path in files:
        console.print(path)


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
    as_json: JsonOption = False,
) -> None:
    """The threshold on the predicted gain that holds a quality or a share of strong calls."""
    from routing.evaluation.threshold import for_quality, for_share

    if (target_quality is None) == (strong_share is None):
        raise DataError("give either --target-quality or --strong-share")
    quality = load_trained(router)
    with _progress() as step:
        table, p_good = predict_pair(
            quality, outcomes, weak, strong, fast=False, step=step, cascade=cascade
        )
    gain = p_good[:, 1] - p_good[:, 0]
    found = (
        for_share(gain, table.score, strong_share)
        if strong_share is not None
        else for_quality(gain, table.score, target_quality or 0.0)
    )
    result = {
        "gain_threshold": found.gain,
        "strong_share": found.strong_share,
        "quality": found.quality,
        "quality_of_best": found.of_best,
        "questions": len(table),
    }
    if as_json:
        _print_json(result)
        return
    if cascade:
        Console().print(f"cascade: {{gain: {found.gain:.6f}}}")
    Console().print(
        f"send to {strong} when its predicted gain is at least {found.gain:.4f}: "
        f"{found.strong_share:.1%} of {len(table)} questions, mean score {found.quality:.4f}, "
        f"{found.of_best:.2%} of the best model's"
    )


@app.command("explain")
def explain_prompt(
    prompt: Annotated[
        str, typer.Argument(help="What would be asked; a JSON list of features for such a router.")
    ],
    router: RouterOption = DEFAULT_ROUTER,
    models: Annotated[
        str,
        typer.Option(
            "--models",
            help="NAME or NAME=PRIOR, separated by commas; `all` are those the router was trained "
            "on. Without it: the catalog's chat candidates.",
        ),
    ] = "",
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="Whose chat candidates.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Why a prompt is hard, and how likely each model is to answer it well."""
    if is_feature_router(router):
        _explain_row(router, prompt, as_json=as_json)
        return
    quality = load_router(router)
    file = None if models else catalog or from_environment().catalog
    found = explain(quality, prompt, _priors(models, quality, file))
    of = "--models" if file is None else f"chat candidates of {file}"
    if as_json:
        _print_json(
            {
                "models_of": of,
                "difficulty": found.difficulty,
                "trust": found.trust,
                "p_good": found.p_good,
                "from_trained_heads": list(found.known),
                "contributions": {c.feature: c.difficulty for c in found.contributions},
            }
        )
        return
    console = Console()
    console.print(
        f"difficulty {found.difficulty:+.2f} (0 is typical, in log-odds); "
        f"trust in the trained heads {found.trust:.0%}"
    )
    why = Table("because of", "difficulty")
    for part in found.contributions[:10]:
        why.add_row(part.feature.replace("_", " "), f"{part.difficulty:+.2f}")
    console.print(why)
    lines = Table("model", "P(good)", "from", title=of, title_justify="left")
    for name, p in sorted(found.p_good.items(), key=lambda item: -item[1]):
        lines.add_row(name, f"{p:.3f}", "outcomes" if name in found.known else "its prior")
    console.print(lines)


def _explain_row(folder: Path, text: str, *, as_json: bool) -> None:
    quality = load_feature_router(folder)
    try:
        row = np.array(json.loads(text), np.float32)
    except (ValueError, TypeError):
        row = np.zeros(0, np.float32)
    if row.shape != (len(quality.names),):
        names = ", ".join(quality.names)
        raise DataError(f"give a JSON list of {len(quality.names)} numbers: {names}")
    found = explain_row(quality, row)
    if as_json:
        _print_json(asdict(found))
        return
    console = Console()
    better, worse = found.gain_of
    console.print(
        f"{better} is expected to answer well {found.gain:+.2%} more often than {worse}; trust in "
        f"this row's own prediction {found.trust:.0%}"
    )
    why = Table("because of", "gain")
    for name, part in list(found.contributions.items())[:10]:
        why.add_row(name, f"{part:+.3%}")
    console.print(why)
    lines = Table("model", "P(good)")
    for name, p in sorted(found.p_good.items(), key=lambda item: -item[1]):
        lines.add_row(name, f"{p:.4f}")
    console.print(lines)


def _priors(text: str, quality: LearnedQuality, catalog: Path | None) -> list[ModelPrior]:
    if catalog is not None:
        return _chat_candidates(catalog)
    if text == "all":
        rates = quality.heads.base_rate.tolist()
        known = zip(quality.models, rates, strict=True)
        return [ModelPrior(name, rate) for name, rate in known]
    priors: list[ModelPrior] = []
    for item in text.split(","):
        name, _, number = item.partition("=")
        try:
            prior = float(number) if number else 0.7
        except ValueError:
            prior = -1.0
        if not 0.0 < prior < 1.0:
            raise DataError(f"--models: {item!r}: a prior is a number between 0 and 1")
        priors.append(ModelPrior(name.strip(), prior))
    _names(",".join(prior.name for prior in priors))
    return priors


def _chat_candidates(file: Path) -> list[ModelPrior]:
    """The models that a catalog's chat routes choose among.

    Raises:
        DataError: it has none.
    """
    fleet = load(file)
    routes = [route for route in fleet.routes.values() if route.task is Task.CHAT]
    names = dict.fromkeys(name for route in routes for name in route.candidates)
    if not names:
        raise DataError(f"{file} has no chat route; name models with --models NAME=PRIOR,...")
    told = {name: fleet.models[name].quality for name in names}
    return [ModelPrior(name, known.prior, known.proxy) for name, known in told.items()]


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value))


@contextmanager
def _progress() -> Generator[Callable[[str], None]]:
    """A spinner on stderr that says what is being done; plain when stderr is no terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=None)
        yield lambda text: progress.update(task, description=text)
