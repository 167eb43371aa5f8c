"""``turnout decisions``: export outcome tables from a decision log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from routing.replay.log import Row
from services.cli.replay import read_log
from turnout.errors import DataError

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def decisions() -> None:
    """Export outcome tables from a decision log."""


@app.command()
def export(
    log: Annotated[Path, typer.Argument(help="A decision log (TURNOUT_DECISION_LOG).")],
    out: Annotated[Path, typer.Option("--out", help="A .parquet or .jsonl file.")],
    route: Annotated[str | None, typer.Option(help="Only decisions of this route.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write scored answers as an outcome table, ready for ``turnout router train``.

    A row is an answer with feedback. The log has prompts only if the gateway ran with
    TURNOUT_LOG_PROMPTS=1, and rows of numbers and features of pictures' headers only with
    TURNOUT_LOG_FEATURES=1; answers without either are left out.
    """
    if out.suffix not in (".parquet", ".jsonl"):
        raise DataError(f"--out {out}: give a .parquet or a .jsonl file")
    rows = [row for row in read_log(log) if route in (None, row.route)]
    answered = [row for row in rows if row.answered is not None]
    scored = [row for row in answered if row.score is not None]
    usable = [row for row in scored if row.prompt is not None or row.features is not None]
    if not usable:
        raise DataError(_why_nothing_usable(log, answered, scored))
    if len({row.features is None or row.route for row in usable}) > 1:
        routes = ", ".join(sorted({row.route for row in usable}))
        raise DataError(
            f"{log}: holds prompts and features, or features of several routes ({routes}), which "
            "cannot train one router; choose one with --route"
        )
    _write([_outcome(row) for row in usable], out)
    counts = {
        "decisions": len(rows),
        "answered": len(answered),
        "scored": len(scored),
        "written": len(usable),
    }
    if as_json:
        typer.echo(json.dumps({"outcomes": str(out)} | counts))
    else:
        typer.echo(f"{out}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))


def _outcome(row: Row) -> dict[str, Any]:
    query = {"prompt": row.prompt} if row.features is None else {"features": list(row.features)}
    return {
        "query_id": row.id,
        **query,
        "group": row.route,
        "model": row.answered,
        "score": row.score,
        "cost_usd": row.cost_usd,
        "output_tokens": float(row.output_tokens),
        "latency_s": row.total_s,
    }


def _why_nothing_usable(log: Path, answered: list[Row], scored: list[Row]) -> str:
    if not answered:
        return f"{log}: no request was answered"
    if not scored:
        return f"{log}: {len(answered)} answers, none with feedback; send some to /v1/feedback"
    return (
        f"{log}: {len(scored)} answers have feedback, none a prompt or features; run the gateway "
        "with TURNOUT_LOG_PROMPTS=1 to log prompts, TURNOUT_LOG_FEATURES=1 to log rows of numbers"
    )


def _write(rows: list[dict[str, Any]], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".jsonl":
        out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise DataError("writing parquet needs pandas and pyarrow; give a .jsonl file") from None
    pd.DataFrame(rows).to_parquet(out, index=False)
