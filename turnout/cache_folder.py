"""The folder that keeps what can be fetched, built or measured again.

A module of its own, because a cold start imports it: ``turnout.settings`` costs more.
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return ``$TURNOUT_CACHE``, else ``$XDG_CACHE_HOME/turnout``, else ``~/.cache/turnout``."""
    if folder := os.environ.get("TURNOUT_CACHE"):
        return Path(folder)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "turnout"
