"""Run a measurement in a fresh process, unaffected by what this one has loaded."""

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
        order: the description of the measurement.
        failed: builds the error to raise from a reason.
        timeout_s: the longest time it may take.
    """
    try:
        process = subprocess.run(
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
    if process.returncode:
        raise failed((process.stderr.strip().splitlines() or ["no output"])[-1])
    return json.loads(process.stdout.splitlines()[-1])
