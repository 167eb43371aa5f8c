"""Start a process and measure its first line of output, its end and its resources."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from benchmarks.servers import PROJECT


@dataclass(frozen=True, slots=True)
class Launch:
    """The measurements of one process, from before its start.

    Attributes:
        answer: its first line, read as JSON.
        first_s: seconds to that line.
        exit_s: seconds to its end.
        cpu_s: CPU seconds it used.
        phases_ms: milliseconds to the end of each of its own phases.
    """

    answer: dict[str, Any]
    first_s: float
    exit_s: float
    cpu_s: float
    phases_ms: dict[str, float]


def installed() -> dict[str, str]:
    """Return this process's environment, with Python's bytecode cache enabled.

    A program that was installed has its bytecode beside it; compiling on every start, as
    ``PYTHONDONTWRITEBYTECODE`` makes it, would be measured otherwise.
    """
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def wait_idle(share: float, limit_s: float = 30.0) -> float:
    """Wait until this share of all cores is idle, up to a limit.

    Returns:
        the share that was idle in the last third of a second.
    """
    until_s = time.monotonic() + limit_s
    while True:
        idle = 1.0 - psutil.cpu_percent(0.33) / 100.0
        if idle >= share or time.monotonic() > until_s:
            return idle


def launch(command: Sequence[str], **environment: str) -> Launch:
    """Run a command that prints one line of JSON and return its measurements.

    Raises:
        RuntimeError: it failed; the message holds what it wrote to standard error.
    """
    started_s = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env=installed() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    if process.stdout is None or process.stderr is None:
        raise RuntimeError("no pipes to the process")
    with process.stdout, process.stderr:
        line = process.stdout.readline()
        first_s = time.monotonic() - started_s
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
    exit_s = time.monotonic() - started_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {said.decode()[-2000:]}")
    answer = json.loads(line)
    phases = answer.pop("phases", {})
    interpreter_ms = (phases.pop("started_s", started_s) - started_s) * 1e3
    phases_ms = {"interpreter_ms": interpreter_ms} | {
        name: interpreter_ms + value for name, value in phases.items()
    }
    return Launch(answer, first_s, exit_s, used.ru_utime + used.ru_stime, phases_ms)
