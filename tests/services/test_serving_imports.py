"""What a serving process must never import: what builds, trains and optimises models."""

from __future__ import annotations

import subprocess
import sys

from turnout.settings import PROJECT

_ROOT = PROJECT
_CODE = """
import sys
import services.gateway, services.models, services.dataplane.factory, services.server.app
import services.fleet.profile_drift
print(*[name for name in sys.modules if name.startswith(
    ("runners.recipes", "runners.optimize", "runners.profiling.curve", "routing.training",
     "routing.evaluation", "onnx.", "matplotlib", "sklearn", "torch"))])
"""


def test_a_serving_process_builds_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CODE], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
