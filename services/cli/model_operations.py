"""``turnout models``: operate the models of a running gateway."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from services.cli.gateway_client import operate

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="Write JSON on standard output.")]
Url = Annotated[str, typer.Option(help="The running gateway.", envvar="TURNOUT_URL")]
_HERE = "http://127.0.0.1:3000"


@app.command("load")
def load_model(model: str, url: Url = _HERE) -> None:
    """Load a model of a running gateway now."""
    operate(url, f"/v2/repository/models/{model}/load")
    typer.echo(f"{model}: loaded")


@app.command()
def unload(model: str, url: Url = _HERE) -> None:
    """Unload a model once its accepted requests are finished; it stays unloaded until loaded."""
    operate(url, f"/v2/repository/models/{model}/unload")
    typer.echo(f"{model}: unloaded")


@app.command()
def pin(
    model: str,
    url: Url = _HERE,
    off: Annotated[bool, typer.Option("--off", help="Allow its eviction again.")] = False,
) -> None:
    """Load a model of a running gateway and never evict it."""
    operate(url, f"/v2/repository/models/{model}/pin", {"pinned": not off})
    typer.echo(f"{model}: {'may be evicted' if off else 'pinned'}")


@app.command()
def canary(
    model: str,
    version: Annotated[str, typer.Option(help="The version to try.")],
    share: Annotated[
        float | None, typer.Option(help="Its share of requests; default: the catalog's, else 0.05.")
    ] = None,
    url: Url = _HERE,
    as_json: Json = False,
) -> None:
    """Make a version the canary: it serves a share of requests and is rolled back if it is worse.

    For the present canary, change the share.
    """
    body: dict[str, Any] = {"version": version}
    _move_alias(model, "canary", body if share is None else body | {"share": share}, url, as_json)


@app.command()
def promote(
    model: str,
    version: Annotated[
        str | None, typer.Option(help="The version to promote, by default the canary.")
    ] = None,
    url: Url = _HERE,
    as_json: Json = False,
) -> None:
    """Make a version the production version of a model; requests in flight finish."""
    _move_alias(model, "promote", {} if version is None else {"version": version}, url, as_json)


@app.command()
def rollback(
    model: str,
    production: Annotated[
        bool,
        typer.Option(
            "--production", help="Undo the promotion even if a canary was rolled back since."
        ),
    ] = False,
    url: Url = _HERE,
    as_json: Json = False,
) -> None:
    """Roll the canary back; without a canary, undo the last promotion."""
    _move_alias(model, "rollback", {"production": True} if production else {}, url, as_json)


def _move_alias(model: str, verb: str, body: dict[str, Any], url: str, as_json: bool) -> None:
    aliases = operate(url, f"/v2/repository/models/{model}/{verb}", body)
    if as_json:
        typer.echo(json.dumps(aliases, indent=1))
        return
    trial = aliases["canary"]
    canary = "" if trial is None else f", canary {trial['version']} ({trial['share']:.3g})"
    typer.echo(f"{model}: production {aliases['production']}{canary}; {aliases['why']}")
