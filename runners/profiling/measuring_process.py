"""Measure in a fresh process, so that nothing loaded before counts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from turnout.errors import TurnoutError

_ROOT = Path(__file__).parents[2]


def run_measurement(
    module: str,
    order: Mapping[str, Any],
    failed: Callable[[str], TurnoutError],
    timeout_s: float,
) -> Any:
    """Run ``python -m module`` on a JSON order and return the JSON of its last line.

    Args:
        module: reads the order from standard input.
        order: what to measure.
        failed: makes the error to raise, from the reason.
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
