"""``turnout router explain``: a prompt's difficulty, and each model's chance of a good answer."""

# pyright: basic

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from routing.quality import DEFAULT_ROUTER, LearnedQuality, ModelPrior, explain, load_router
from routing.quality.feature_artifact import is_feature_router, load_feature_router
from routing.quality.feature_explain import explain_row
from services.cli.router_options import JsonOption, RouterOption, names_of, print_json
from turnout.catalog import load
from turnout.errors import DataError
from turnout.settings import from_environment
from turnout.types import Task


def explain_prompt(
    prompt: Annotated[
        str, typer.Argument(help="The prompt; for a router of features, a JSON list of numbers.")
    ],
    router: RouterOption = DEFAULT_ROUTER,
    models: Annotated[
        str,
        typer.Option(
            "--models",
            help="NAME or NAME=PRIOR (else .7), separated by commas; `all` are those the router "
            "was trained on. Without it: those of --router, else the catalog's chat candidates.",
        ),
    ] = "",
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="The catalog of the chat candidates.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a prompt's difficulty, and each model's probability of a good answer."""
    if is_feature_router(router):
        _explain_row(router, prompt, as_json=as_json)
        return
    quality = load_router(router)
    if router != DEFAULT_ROUTER and catalog is None:
        models = models or "all"
    file = None if models else catalog or from_environment().catalog
    explanation = explain(quality, prompt, _priors(models, quality, file))
    of = "models" if file is None else f"chat candidates of {file}"
    if as_json:
        print_json(
            {
                "models_of": of,
                "difficulty": explanation.difficulty,
                "trust": explanation.trust,
                "p_good": explanation.p_good,
                "from_trained_heads": list(explanation.by_head),
                "contributions": {c.feature: c.difficulty for c in explanation.contributions},
            }
        )
        return
    console = Console()
    console.print(
        f"difficulty {explanation.difficulty:+.2f} (0 is typical, in log-odds); "
        f"trust in the trained heads {explanation.trust:.0%}"
    )
    why = Table("because of", "difficulty")
    for part in explanation.contributions[:10]:
        why.add_row(part.feature.replace("_", " "), f"{part.difficulty:+.2f}")
    console.print(why)
    lines = Table("model", "P(good)", "from", title=of, title_justify="left")
    for name, p in sorted(explanation.p_good.items(), key=lambda item: -item[1]):
        lines.add_row(name, f"{p:.3f}", "outcomes" if name in explanation.by_head else "its prior")
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
    explanation = explain_row(quality, row)
    if as_json:
        print_json(asdict(explanation))
        return
    console = Console()
    better, worse = explanation.gain_of
    console.print(
        f"{better} is expected to answer well {explanation.gain:+.2%} more often than {worse}; "
        f"trust in this row's own prediction {explanation.trust:.0%}"
    )
    why = Table("because of", "gain")
    for name, part in list(explanation.contributions.items())[:10]:
        why.add_row(name, f"{part:+.3%}")
    console.print(why)
    lines = Table("model", "P(good)")
    for name, p in sorted(explanation.p_good.items(), key=lambda item: -item[1]):
        lines.add_row(name, f"{p:.4f}")
    console.print(lines)


def _priors(text: str, quality: LearnedQuality, catalog: Path | None) -> list[ModelPrior]:
    if catalog is not None:
        return _chat_candidates(catalog)
    if text == "all":
        rates = quality.heads.base_rate.tolist()
        base_rates = zip(quality.models, rates, strict=True)
        return [ModelPrior(name, rate) for name, rate in base_rates]
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
    names_of(",".join(prior.name for prior in priors))
    return priors


def _chat_candidates(file: Path) -> list[ModelPrior]:
    """Return the candidates of a catalog's chat routes.

    Raises:
        DataError: the catalog has no chat route.
    """
    fleet = load(file)
    routes = [route for route in fleet.routes.values() if route.task is Task.CHAT]
    names = dict.fromkeys(name for route in routes for name in route.candidates)
    if not names:
        raise DataError(f"{file} has no chat route; name models with --models NAME=PRIOR,...")
    qualities = {name: fleet.models[name].quality for name in names}
    return [ModelPrior(name, quality.prior, quality.proxy) for name, quality in qualities.items()]
