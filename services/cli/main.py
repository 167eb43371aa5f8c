"""``turnout``: the command line over all packages.

A command's module is imported only when it runs, so that ``turnout catalog check`` pays for
neither BentoML nor training code, and works where only the client is installed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version

import typer

from turnout.errors import TurnoutError

COMMANDS: dict[str, tuple[str, str]] = {
    "catalog": ("services.cli.catalog", "Check catalogs and export their schema."),
    "models": ("services.cli.models", "Build, list and verify model artefacts."),
    "optimize": ("services.cli.optimize", "Optimise a model and compare it with the original."),
    "router": ("services.cli.router", "Train, evaluate, calibrate and explain the router."),
    "cascade": ("services.cli.cascade", "Choose when a cascade escalates."),
    "replay": ("services.cli.replay", "Decide logged requests again, under another policy."),
    "decisions": ("services.cli.decisions", "Make outcome tables of a decision log."),
    "shop": ("services.cli.shop", "Evaluate search and recommendations."),
    "fraud": ("services.cli.fraud", "Simulate transactions, retrain the models."),
    "bulk": ("services.cli.bulk", "Submit, watch and fetch batches; run one here."),
    "serve": ("services.cli.serve", "Build missing models, start the gateway, send it a request."),
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a TurnoutError ends it with one line on stderr and exit code 2."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        _help()
        return
    if words[0] == "--version":
        typer.echo(version("turnout"))
        return
    try:
        _load(words[0])(args=words[1:], prog_name=f"turnout {words[0]}")
    except TurnoutError as error:
        typer.echo(f"turnout: {error}", err=True)
        raise SystemExit(2) from None
    except OSError as error:
        if error.filename is None:
            raise
        typer.echo(f"turnout: {error.filename}: {error.strerror}; give another path", err=True)
        raise SystemExit(2) from None


def _load(name: str) -> typer.Typer:
    if name not in COMMANDS:
        typer.echo(
            f"turnout: no command {name!r}; the commands are {', '.join(COMMANDS)}", err=True
        )
        raise SystemExit(2)
    try:
        app: typer.Typer = import_module(COMMANDS[name][0]).app
    except ModuleNotFoundError as error:
        typer.echo(
            f"turnout: '{name}' needs {error.name!r}, which is not installed here; run it from a "
            "checkout of the repository after `make setup`",
            err=True,
        )
        raise SystemExit(2) from None
    return app


def _help() -> None:
    typer.echo("usage: turnout COMMAND [ARGS]...\n\ncommands:")
    for name, (_, summary) in COMMANDS.items():
        typer.echo(f"  {name:<10} {summary}")
    typer.echo(
        "\n`turnout COMMAND --help` shows its options; `turnout --version` prints the version."
    )
