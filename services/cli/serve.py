"""``turnout serve``: build missing models, start ``bentoml serve``, send it a request."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from services.artifacts.catalog_build import build_missing
from services.artifacts.mapped_weights import map_graphs
from services.cli.gateway_client import is_ready, states
from services.process.preflight import check_routers
from turnout.catalog import Catalog, load
from turnout.errors import ArtifactInvalid, ConfigError
from turnout.settings import PROJECT, from_environment
from turnout.types import Task

app = typer.Typer(add_completion=False)

_START_LIMIT_S = 180.0
_POLL_S = 0.5
_FRAUD_ROW = [125.5, 0, 0, 3, 81.2, 15, 76.9, 61, 79.4, 4, 0.0, 21, 0.05, 88, 0.02]


@app.command()
def serve(
    port: Annotated[
        int, typer.Option(help="The port to listen on.", envvar="PORT", min=1, max=65535)
    ] = 3000,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    catalog: Annotated[
        Path | None, typer.Option(help="The catalog.", envvar="TURNOUT_CATALOG")
    ] = None,
    build: Annotated[bool, typer.Option(help="Build missing artefacts first.")] = True,
) -> None:
    """Serve a catalog until interrupted."""
    console = Console(stderr=True, highlight=False, markup=False)
    _check_address_free(host, port)
    settings = from_environment()
    file = catalog or settings.catalog
    fleet = load(file)
    check_routers(
        fleet, settings
    )  # before anything is built: without its routers the gateway does not start
    if build:
        _build(console, fleet)
    environment = os.environ | {
        "PORT": str(port),
        "TURNOUT_HOST": host,
        "TURNOUT_CATALOG": str(file.resolve()),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    address = f"http://{host}:{port}"
    console.print(f"==> starting the gateway on {address}")
    started_s = time.monotonic()
    server = subprocess.Popen(
        [str(Path(sys.executable).parent / "bentoml"), "serve"], cwd=PROJECT, env=environment
    )
    previous = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    try:
        _report_start(console, server, fleet, address, started_s)
        raise SystemExit(server.wait())
    except KeyboardInterrupt:
        server.send_signal(signal.SIGINT)
        raise SystemExit(server.wait()) from None
    finally:
        signal.signal(signal.SIGTERM, previous)
        if server.poll() is None:
            server.terminate()
            server.wait()


def _build(console: Console, catalog: Catalog) -> None:
    """Build missing models; those that cannot be built are reported and left out."""

    def report(line: str) -> None:
        console.print(f"    {line}")

    try:
        build_missing(catalog, report)
    except ArtifactInvalid:  # each was reported; the other models serve
        console.print("==> serving without the models above that failed")
    map_graphs(catalog, report)


def _report_start(
    console: Console,
    server: subprocess.Popen[bytes],
    catalog: Catalog,
    address: str,
    started_s: float,
) -> None:
    """Wait until the gateway is ready, send it one request, then report the models that follow."""
    if not _wait(server, address):
        return
    took_s = time.monotonic() - started_s
    loading = [name for name, (state, _) in states(address).items() if state == "LOADING"]
    still = f"; still loading: {', '.join(loading)}" if loading else ""
    console.print(f"==> ready after {took_s:.1f} s{still}")
    _first_answer(console, catalog, address)
    if loading:
        _report_loaded(console, server, address, loading, started_s)


def _check_address_free(host: str, port: int) -> None:
    """Refuse an address that another server has, before anything is built.

    Raises:
        ConfigError: the address cannot be used; with the remedy.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"{host}:{port} cannot be listened on ({error.strerror}); stop the server there, "
                "or choose another port: make serve PORT=3100"
            ) from error


def _wait(server: subprocess.Popen[bytes], address: str) -> bool:
    """Wait until the gateway is ready; False when it ended or took too long."""
    until_s = time.monotonic() + _START_LIMIT_S
    while server.poll() is None and time.monotonic() < until_s:
        if is_ready(address):
            return True
        time.sleep(0.1)
    return False


def _report_loaded(
    console: Console,
    server: subprocess.Popen[bytes],
    address: str,
    loading: list[str],
    started_s: float,
) -> None:
    """Report each model that was still loading once it is ready, or why it is not served."""
    until_s = started_s + _START_LIMIT_S
    while loading and server.poll() is None and time.monotonic() < until_s:
        time.sleep(_POLL_S)
        current = states(address)
        took_s = time.monotonic() - started_s
        for name in [name for name in loading if current.get(name, ("LOADING",))[0] != "LOADING"]:
            state, reason = current[name]
            outcome = f"ready after {took_s:.1f} s" if state == "READY" else f"not served: {reason}"
            console.print(f"==> {name} {outcome}")
            loading.remove(name)


def _first_answer(console: Console, catalog: Catalog, address: str) -> None:
    """Send one request and print it with its answer, ready to paste."""
    route = catalog.route_for(Task.TABULAR)
    signature = None if route is None else catalog.signature_of(route)
    if signature is None:
        console.print(f"==> try: curl {address}/v1/models")
        return
    url = f"{address}/v2/models/{route}/infer"
    columns = signature.inputs[0].shape[-1]
    row = (_FRAUD_ROW * (1 + columns // len(_FRAUD_ROW)))[:columns]
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, columns], "data": row}
    reply = httpx.post(url, json={"inputs": [tensor]}, timeout=10.0)
    console.print("==> a first request, ready to paste, and its answer:")
    data = ", ".join(f"{value:g}" for value in row)
    # Not through the console, which would wrap the command to paste.
    typer.echo(
        f"""
curl -si {url} -H 'content-type: application/json' \\
  -d '{{"inputs": [{{"name": "features", "datatype": "FP32", "shape": [1, {columns}],
       "data": [{data}]}}]}}'

HTTP {reply.status_code}
x-turnout-model: {reply.headers.get("x-turnout-model")}
x-turnout-reason: {reply.headers.get("x-turnout-reason")}
{reply.text}

Chat, images and sentences: see README.md. Stop with Ctrl-C.
""",
        err=True,
    )
