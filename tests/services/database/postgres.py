"""A PostgreSQL server of our own for the tests, from Debian's package ``postgresql``."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def need() -> None:
    """Skip the test where there can be no server; fail it where there has to be one (CI)."""
    if (why := missing()) is None:
        return
    if os.environ.get("TURNOUT_TESTS_NEED") == "everything":
        pytest.fail(why)
    pytest.skip(why)


def missing() -> str | None:
    """Why there can be no server here; None when there can."""
    if _programs() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed (pip install turnout[postgres])"
    return None


@contextmanager
def server() -> Iterator[str]:
    """A fresh server on a free port of loopback; its URL. Runs as a user that isn't root."""
    programs = _programs()
    assert programs is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="turnout-pg-"))
    user = _user()
    if user is not None:
        shutil.chown(folder, user)
    try:
        _run(programs / "initdb", "-D", folder / "data", "-U", "turnout", "-A", "trust", user=user)
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
        control = (programs / "pg_ctl", "-D", folder / "data", "-w")
        _run(*control, "-o", options, "-l", folder / "log", "start", user=user)
        try:
            yield f"postgresql://turnout@127.0.0.1:{port}/postgres"
        finally:
            _run(*control, "-m", "immediate", "stop", user=user)
    finally:
        shutil.rmtree(folder)


def _run(*command: str | Path, user: str | None) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        user=user, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, check=False, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def _user() -> str | None:
    """Whom to run as; None is this user. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
