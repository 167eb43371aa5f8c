"""``turnout replay``: what another policy would have done with logged requests."""

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
        typer.Option(min=0.0, max=1.0, help="Confidence under which a cascade goes on."),
    ] = None,
    gain: Annotated[
        float | None, typer.Option(min=-1.0, max=1.0, help="What a second answer must add.")
    ] = None,
    catalog: Annotated[
        Path | None, typer.Option(help="Routes, classes and costs from this catalog.")
    ] = None,
    route: Annotated[str | None, typer.Option(help="Only decisions of this route.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Bootstrap resamples.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the resampling.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Decide logged requests again and estimate quality, cost and latency.

    Without an option the log's own policy is replayed: how many decisions come out the same says
    how complete the log is.
    """
    if policy is not None and policy not in POLICIES:
        raise DataError(f"--policy {policy!r}: there are {', '.join(POLICIES)}")
    rows = read_log(log)
    if route is not None:
        rows = [row for row in rows if row.route == route]
        if not rows:
            raise DataError(f"{log}: no decision of route {route!r}")
    change = Change(
        policy,
        target_quality,
        max_strong_share,
        budget_usd_per_hour,
        None if catalog is None else load(catalog),
        threshold,
        gain,
    )
    found = report(replay(rows, change), rounds=rounds, seed=seed)
    if as_json:
        typer.echo(json.dumps(_plain(found.as_json())))
    else:
        _show(log, found)


def read_log(log: Path) -> list[Row]:
    """Read a decision log.

    Raises:
        DataError: it cannot be read, or a line of it is no decision.
    """

    def lines() -> Iterator[str]:
        with log.open(encoding="utf-8") as file:
            yield from file

    try:
        return read_rows(lines(), str(log))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{log}: cannot be read ({error})") from None


def _show(log: Path, found: Report) -> None:
    console = Console()
    console.print(
        f"{log}: {found.requests} decisions; {found.same} would go to the same model"
        + (f", {found.refused} would be refused" if found.refused else "")
    )
    who = Table("model", "logged", "again")
    for name in dict.fromkeys([*found.logged, *found.replayed]):
        who.add_row(name, str(found.logged.get(name, 0)), str(found.replayed.get(name, 0)))
    console.print(who)
    if found.escalated:
        logged, replayed = found.escalated["logged"], found.escalated["replayed"]
        console.print(f"cascade: {logged:.1%} of rows were answered twice, {replayed:.1%} would be")
        if found.escalated["unknown"]:
            console.print(
                f"[bold]warning[/bold]: of {found.escalated['unknown']:.0f} requests the log does "
                "not say how sure the first answer is; they are left out of the estimates"
            )
    lines = Table("", *found.rewards)
    rewards = list(found.rewards.values())
    if rewards:
        lines.add_row("logged", *(_shown(one.logged) for one in rewards))
        for kind in rewards[0].by:
            lines.add_row(kind, *(_shown(one.by[kind]) for one in rewards))
        lines.add_row("requests", *(str(one.requests) for one in rewards))
        lines.add_row("count like", *(f"{one.effective:.0f}" for one in rewards))
        console.print(lines)
    if "quality" not in found.rewards:
        console.print("no feedback in the log: quality is not estimated (POST /v1/feedback)")
    for warning in dict.fromkeys(one.warning for one in rewards if one.warning):
        about = [name for name, one in found.rewards.items() if one.warning == warning]
        console.print(f"[bold]warning[/bold] ({', '.join(about)}): {warning}")


def _shown(one: Estimate) -> str:
    return f"{one.value:.3g} [{one.low:.3g}, {one.high:.3g}]"


def _plain(value: object) -> object:
    """NaN as null: JSON knows no NaN."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, float) and value != value:
        return None
    return value
