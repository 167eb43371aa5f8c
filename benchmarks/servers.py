"""Start and stop the servers that benchmarks measure, each in a separate process."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        address: its base URL.
        process: its first process.
    """

    address: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """Return the CPU seconds of the server and its children, finished ones included."""
        return cpu_s(self.process)

    def memory_bytes(self) -> int:
        """Return the resident memory of the server and its children."""
        found = (self.process, *self.process.children(recursive=True))
        return sum(one.memory_info().rss for one in found if one.is_running())


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and its children, finished ones included."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(
    command: Sequence[str],
    port: int,
    ready: str,
    *,
    limit_s: float = 120.0,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    **variables: str,
) -> Iterator[Server]:
    """Run a server until the block ends.

    Args:
        command: what to run.
        port: where it will listen.
        ready: path that answers 200 once it serves.
        limit_s: how long it may take to get there.
        cwd: where it runs; the project's root by default.
        environment: variables added to this process's own.
        variables: more of them.

    Raises:
        RuntimeError: it ended, or did not become ready in time.
    """
    address = f"http://127.0.0.1:{port}"
    env = os.environ | {"BENTOML_DO_NOT_TRACK": "True"} | dict(environment or {}) | variables
    process = subprocess.Popen(
        command, cwd=cwd or PROJECT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until_s = time.monotonic() + limit_s
        while not _answers(address + ready):
            if process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"{' '.join(command)} did not become ready")
            time.sleep(0.1)
        yield Server(address, psutil.Process(process.pid))
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a server and every process that it started."""
    try:
        started = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(started, timeout=5)
    for one in left:  # some servers leave theirs behind
        with suppress(psutil.NoSuchProcess):
            one.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0).status_code == 200
    except httpx.HTTPError:
        return False
