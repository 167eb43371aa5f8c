"""What a serving process must never import: what builds, trains and optimises models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_CODE = """
import sys
import services.gateway, services.models, services.compose, services.asgi, services.profile_watch
print(*[name for name in sys.modules if name.startswith(
    ("runners.export", "runners.optimize", "runners.profiling", "routing.training",
     "routing.evaluation", "onnx.", "matplotlib", "sklearn", "torch"))])
"""


def test_a_serving_process_builds_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CODE], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
