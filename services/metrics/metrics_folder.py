"""A metrics folder for each server.

BentoML keeps the metrics of all servers of one home in one folder and empties it whenever a server
starts, so a second server would delete the first one's metrics.

Only the standard library is imported here: this runs before prometheus_client is imported, which
reads the folder's name from the environment.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import MutableMapping
from pathlib import Path

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_BENTOML_NAME = "prometheus_multiproc_dir"


def count_apart(environment: MutableMapping[str, str] = os.environ) -> None:
    """Move this worker's metrics to a folder that it shares with its own server's workers only.

    Call it before anything is counted. The folder is named for the supervisor's process; those of
    supervisors that are gone are removed. A folder that the operator chose stays as it is, and
    without multiprocess metrics nothing changes.
    """
    configured = Path(environment.get(_VARIABLE, ""))
    if configured.name != _BENTOML_NAME:
        return
    servers = configured.parent / "turnout" / "metrics"
    mine = servers / str(os.getppid())
    mine.mkdir(parents=True, exist_ok=True)
    for folder in servers.iterdir():
        if folder.name.isdigit() and folder != mine and not lives(int(folder.name)):
            shutil.rmtree(folder, ignore_errors=True)
    environment[_VARIABLE] = str(mine)


def lives(process: int) -> bool:
    """Return whether a process of this number runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's, so it lives
    return True
