"""Measuring in a process of its own, where nothing that was loaded before counts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from turnout.errors import TurnoutError

_ROOT = Path(__file__).parents[2]


def measure_apart(
    module: str,
    order: Mapping[str, Any],
    failed: Callable[[str], TurnoutError],
    timeout_s: float,
) -> Any:
    """What ``python -m module`` answers to an order; both are JSON, the answer its last line.

    Args:
        module: reads the order from standard input.
        order: what to measure.
        failed: the error to raise where it did not, given why.
        timeout_s: how long it may take.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            cwd=_ROOT,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise failed(f"took longer than {timeout_s:g} s") from None
    if done.returncode:
        raise failed((done.stderr.strip().splitlines() or ["no output"])[-1])
    return json.loads(done.stdout.splitlines()[-1])
