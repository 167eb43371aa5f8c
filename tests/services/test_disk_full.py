"""A full disk, for real: a small file system of its own, where the kernel lets us mount one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.services.small_catalog import EASY
from turnout.settings import PROJECT

_ROOT = PROJECT
_MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'


def on_a_small_disk(size: str, disk: Path, command: list[str], environment: dict[str, str]) -> str:
    """Run a command with ``disk`` being a file system of ``size``; its standard error.

    Skips where no file system may be mounted.
    """
    disk.mkdir()
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNT, "sh"]
    try:
        allowed = subprocess.run(
            [*inside, "64k", str(disk), "true"], capture_output=True, check=False
        ).returncode
    except FileNotFoundError:
        allowed = 1
    if allowed != 0:
        pytest.skip("this system lets nobody mount a file system of their own")
    done = subprocess.run(
        [*inside, size, str(disk), *command],
        cwd=_ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("variable", ["BENTOML_HOME", "TURNOUT_CACHE"])
@pytest.mark.parametrize("command", ["models", "optimize"])
def test_a_full_disk_is_called_so_with_the_way_out(
    write: object,
    pictures: Path,
    tmp_path: Path,
    variable: str,
    command: str,
) -> None:
    catalog: Path = write(optimize={"passes": ["graph", "int8"], "gate": EASY})  # type: ignore[operator]
    if command == "models":  # the artefact itself is what does not fit
        plain = yaml.safe_load(catalog.read_text())
        del plain["models"]["small"]["artifact"]["optimize"]
        catalog.write_text(yaml.safe_dump(plain))
    turnout = str(Path(sys.executable).parent / "turnout")
    given = ["build"] if command == "models" else ["small", "--inputs", str(pictures)]
    disk = tmp_path / "disk"
    said = on_a_small_disk(
        "12k", disk, [turnout, command, *given, "--catalog", str(catalog)], {variable: str(disk)}
    )
    assert "the disk is full" in said
    assert str(disk) in said
    assert "set BENTOML_HOME and TURNOUT_CACHE to a larger disk" in said
