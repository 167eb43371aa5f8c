"""``turnout replay``: decide logged requests again under another policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from routing.decision.policy import POLICIES
from routing.replay.log import Row, read_rows
from routing.replay.off_policy import Estimate
from routing.replay.replay import Change, replay
from routing.replay.report import Report, report
from turnout.catalog import load
from turnout.errors import DataError

app = typer.Typer(add_completion=False)
ShareOption = Annotated[float | None, typer.Option(min=0.0, max=1.0)]


@app.command()
def run(
    log: Annotated[Path, typer.Argument(help="A decision log (TURNOUT_DECISION_LOG).")],
    policy: Annotated[str | None, typer.Option(help=f"One of {', '.join(POLICIES)}.")] = None,
    target_quality: ShareOption = None,
    max_strong_share: ShareOption = None,
    budget_usd_per_hour: Annotated[float | None, typer.Option(min=1e-12)] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="The confidence under which a cascade escalates."),
    ] = None,
    gain: Annotated[
        float | None,
        typer.Option(min=-1.0, max=1.0, help="The least expected gain of a second answer."),
    ] = None,
    catalog: Annotated[
        Path | None, typer.Option(help="Routes, classes and costs from this catalog.")
    ] = None,
    route: Annotated[str | None, typer.Option(help="Only decisions of this route.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Bootstrap resamples.")] = 500,
    seed: Annotated[int, typer.Option(help="The seed of the resampling.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Decide logged requests again and estimate quality, cost and latency.

    Without an option the log's own policy is replayed; the share of equal decisions then tells how
    complete the log is.
    """
    if policy is not None and policy not in POLICIES:
        raise DataError(f"--policy {policy!r} is unknown; the policies are {', '.join(POLICIES)}")
    rows = read_log(log)
    if route is not None:
        rows = [row for row in rows if row.route == route]
        if not rows:
            raise DataError(
                f"{log}: no decision of route {route!r}; give a route of the log with --route"
            )
    change = Change(
        policy,
        target_quality,
        max_strong_share,
        budget_usd_per_hour,
        None if catalog is None else load(catalog),
        threshold,
        gain,
    )
    comparison = report(replay(rows, change), rounds=rounds, seed=seed)
    if as_json:
        typer.echo(json.dumps(_nan_as_null(comparison.as_json())))
    else:
        _show(log, comparison)


def read_log(log: Path) -> list[Row]:
    """Read a decision log.

    Raises:
        DataError: it cannot be read, or a line is not a decision.
    """

    def lines() -> Iterator[str]:
        with log.open(encoding="utf-8") as file:
            yield from file

    try:
        return read_rows(lines(), str(log))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{log}: cannot be read ({error})") from None


def _show(log: Path, comparison: Report) -> None:
    console = Console()
    console.print(
        f"{log}: {comparison.requests} decisions; {comparison.same} would go to the same model"
        + (f", {comparison.refused} would be refused" if comparison.refused else "")
    )
    who = Table("model", "logged", "again")
    for name in dict.fromkeys([*comparison.logged, *comparison.replayed]):
        who.add_row(
            name, str(comparison.logged.get(name, 0)), str(comparison.replayed.get(name, 0))
        )
    console.print(who)
    if comparison.escalated:
        logged, replayed = comparison.escalated["logged"], comparison.escalated["replayed"]
        console.print(f"cascade: {logged:.1%} of rows were answered twice, {replayed:.1%} would be")
        if comparison.escalated["unknown"]:
            console.print(
                f"[bold]warning[/bold]: of {comparison.escalated['unknown']:.0f} requests the log "
                "lacks the first answer's confidence; they are left out of the estimates"
            )
    lines = Table("", *comparison.rewards)
    rewards = list(comparison.rewards.values())
    if rewards:
        lines.add_row("logged", *(_with_interval(reward.logged) for reward in rewards))
        for kind in rewards[0].by:
            lines.add_row(kind, *(_with_interval(reward.by[kind]) for reward in rewards))
        lines.add_row("requests", *(str(reward.requests) for reward in rewards))
        lines.add_row("count like", *(f"{reward.effective:.0f}" for reward in rewards))
        console.print(lines)
    if "quality" not in comparison.rewards:
        console.print("no feedback in the log: quality is not estimated (POST /v1/feedback)")
    for warning in dict.fromkeys(reward.warning for reward in rewards if reward.warning):
        about = [name for name, reward in comparison.rewards.items() if reward.warning == warning]
        console.print(f"[bold]warning[/bold] ({', '.join(about)}): {warning}")


def _with_interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"


def _nan_as_null(value: object) -> object:
    """Replace NaN by null, because JSON has no NaN."""
    if isinstance(value, dict):
        return {str(key): _nan_as_null(each) for key, each in value.items()}
    if isinstance(value, float) and value != value:
        return None
    return value
