"""A model's process waits for the gateway beside it, and never for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from services.process.startup import (
    beside_a_gateway,
    prepare_workers,
    starts_workers,
    wait_for_gateway,
)
from turnout.settings import PROJECT

MODEL = ["worker.py", ".", "--service-name", "turnout-llm", "--worker-id", "1"]
GATEWAY = ["worker.py", ".", "--service-name", "turnout", "--worker-id", "1"]


class Gateway(BaseHTTPRequestHandler):
    """Not ready the first few times."""

    asked: ClassVar[list[str]] = []
    unready = 0

    def do_GET(self) -> None:
        self.asked.append(self.path)
        warming = self.path == "/readyz" and self.asked.count("/readyz") <= Gateway.unready
        self.send_response(503 if warming else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[dict[str, str]]:
    """What BentoML tells a worker that runs beside a gateway."""
    Gateway.asked.clear()
    Gateway.unready = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield {
            "BENTOML_RUNNER_MAP": json.dumps({"turnout": f"http://localhost:{server.server_port}"})
        }
        server.shutdown()


class Clock:
    """A clock that only sleeping moves."""

    now_s = 0.0

    def read(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s


def test_it_waits_until_the_gateway_is_warm(gateway: dict[str, str]) -> None:
    Gateway.unready = 3
    clock = Clock()
    assert wait_for_gateway(MODEL, gateway, clock=clock.read, sleep=clock.sleep)
    assert Gateway.asked == ["/livez", *["/readyz"] * 4]


def test_a_gateway_that_waits_for_this_model_is_not_waited_for_long(
    gateway: dict[str, str],
) -> None:
    Gateway.unready = 10**9
    clock = Clock()
    assert wait_for_gateway(MODEL, gateway, clock=clock.read, sleep=clock.sleep)
    assert 2 < clock.now_s < 4


@pytest.mark.parametrize(
    ("arguments", "runners"),
    [
        (GATEWAY, {"turnout": "http://localhost:1"}),
        (MODEL, {}),
        (MODEL, {"turnout-llm": "unix:///tmp/x"}),
        (MODEL, {"turnout": "https://localhost:1"}),
        (["pytest"], {"turnout": "http://localhost:1"}),
        (["bentoml", "serve", "--service-name", "turnout-llm"], {"turnout": "http://localhost:1"}),
    ],
)
def test_where_no_gateway_starts_beside_it_nothing_is_waited_for(
    arguments: list[str], runners: dict[str, str]
) -> None:
    assert not wait_for_gateway(arguments, {"BENTOML_RUNNER_MAP": json.dumps(runners)})


@pytest.mark.parametrize(
    ("arguments", "starts"),
    [
        (["/usr/bin/bentoml", "serve", "."], True),
        (["/usr/bin/bentoml", "build"], False),
        (["/usr/bin/pytest", "serve"], False),
        (GATEWAY, False),
    ],
)
def test_only_bentoml_serve_starts_workers(arguments: list[str], starts: bool) -> None:
    assert starts_workers(arguments) == starts


def led(environment: dict[str, str]) -> dict[str, str]:
    prepare_workers(environment)
    return environment


def test_workers_run_the_hook_before_what_the_environment_says() -> None:
    folder, mine = led({"PYTHONPATH": "/mine"})["PYTHONPATH"].split(os.pathsep)
    assert (Path(folder) / "sitecustomize.py").is_file()
    assert mine == "/mine"


def test_the_hook_leaves_no_trace_and_lets_the_systems_own_run(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.theirs = True\n")
    told = led({"PYTHONPATH": str(tmp_path)})
    look = (
        "import os, sys; print(sys.theirs, os.environ['PYTHONPATH'], sys.path.count(sys.argv[1]))"
    )
    folder = told["PYTHONPATH"].split(os.pathsep)[0]
    said = subprocess.run(
        [sys.executable, "-c", look, folder],
        env=os.environ | told,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["True", str(tmp_path), "0"]


@pytest.mark.parametrize(("arguments", "looks"), [(GATEWAY, "False"), (["other"], "True")])
def test_a_worker_looks_for_no_garbage_until_it_has_started(
    arguments: list[str], looks: str
) -> None:
    look = (
        "import gc; print(gc.isenabled()); from services.process.startup import resume_collection;"
        "resume_collection(); print(gc.isenabled())"
    )
    root = str(PROJECT)
    said = subprocess.run(
        [sys.executable, "-c", look, *arguments],
        env=os.environ | led({"PYTHONPATH": root}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == [looks, "True"]


def test_a_gateway_that_is_gone_does_not_hold_it_up() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as closed:
        port = closed.server_port
    runners = {"turnout": f"http://127.0.0.1:{port}"}
    assert wait_for_gateway(MODEL, {"BENTOML_RUNNER_MAP": json.dumps(runners)})


def test_a_process_knows_whether_it_serves_a_gateways_model(gateway: dict[str, str]) -> None:
    assert beside_a_gateway(MODEL, gateway)
    assert not beside_a_gateway(GATEWAY, gateway)
    alone = {"BENTOML_RUNNER_MAP": json.dumps({"turnout-llm": "http://localhost:1"})}
    assert not beside_a_gateway(MODEL, alone)
    assert not beside_a_gateway(["pytest"], {})
