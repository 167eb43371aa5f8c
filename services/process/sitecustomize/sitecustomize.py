"""Python runs this in a service's process before any import; see ``services.process.startup``.

Its folder stands first in that process's PYTHONPATH. It removes itself from there again, for the
sake of that process's own children, and of a ``sitecustomize`` that belongs to the system.
"""

import importlib
import os
import sys
from pathlib import Path

_HERE = str(Path(__file__).parent)


def _step_aside() -> None:
    sys.path[:] = [path for path in sys.path if path != _HERE]
    left = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path != _HERE]
    os.environ["PYTHONPATH"] = os.pathsep.join(left)
    this = sys.modules.pop("sitecustomize")
    try:
        importlib.import_module("sitecustomize")
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
        # The import that runs this file expects the module when it ends.
        sys.modules["sitecustomize"] = this


def _begin() -> None:
    sys.path.insert(0, str(Path(_HERE).parents[2]))
    from services.process.startup import begin  # needs the path above

    begin(sys.orig_argv, os.environ)
    sys.path.pop(0)


_begin()
_step_aside()
