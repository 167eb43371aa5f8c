"""The cold start as a user runs it: a process, its output, its port."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.servers import PROJECT, free_port, running
from runners.engines.onnx.graph_cache import graph_folder, saved_graph
from runners.engines.onnx.optimized_graph import save_graph
from runners.open_inference import decode_response, encode_request, header_length_of
from services.coldstart.artifact import artifact_folder
from tests.cold_model import NAME, picture, write_model
from turnout.errors import ArtifactInvalid

HEAVY = ("bentoml", "pydantic", "torch", "transformers", "starlette", "uvicorn")
COMMAND = (sys.executable, "-m", "services.cold_start")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A BentoML home that holds the model."""
    home = tmp_path_factory.mktemp("home")
    write_model(home / "models" / NAME / "v1")
    (home / "models" / NAME / "latest").write_text("v1\n")
    return home


@pytest.fixture
def environment(store, tmp_path) -> dict[str, str]:
    return {"BENTOML_HOME": str(store), "TURNOUT_CACHE": str(tmp_path / "cache")}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key != "TURNOUT_ARTIFACT"}
    return subprocess.run(
        [*COMMAND, "--model", NAME, *arguments],
        cwd=PROJECT,
        env=env | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextmanager
def serving(environment: dict[str, str], path: str = "/readyz") -> Iterator[tuple[str, int]]:
    port = free_port()
    command = [*COMMAND, "--model", NAME, "--host", "127.0.0.1", "--serve", str(port)]
    with running(command, port, path, limit_s=30, **environment) as server:
        yield server.address, server.process.pid


@pytest.mark.parametrize(("colour", "class_id"), [("red", 0), ("lime", 1), ("blue", 2)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_one_picture_one_line_of_json(environment, tmp_path, colour, class_id, kind):
    (tmp_path / "picture").write_bytes(picture(colour, kind))
    done = run(environment, "--image", str(tmp_path / "picture"), "--phases")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    phases = answer.pop("phases")
    assert answer["class_id"] == class_id
    assert answer["class_name"] == ("red", "green", "blue")[class_id]
    assert answer["score"] > 0.9
    assert 0 < phases["import_numpy_ms"] < phases["import_onnxruntime_ms"] < phases["run_ms"]


def test_nothing_heavy_is_imported(environment, tmp_path):
    image = tmp_path / "red.jpg"
    image.write_bytes(picture("red"))
    code = (
        "import sys; from services.cold_start import main; "
        f"assert main(['--model', {NAME!r}, '--image', {str(image)!r}]) == 0; "
        "import services.coldstart.server, services.coldstart.events, services.protocols.errors; "
        f"print(*[name for name in {HEAVY!r} if name in sys.modules]); "
        "import numpy; print(numpy.ndarray.__doc__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    answer, heavy, documentation = done.stdout.splitlines()
    assert json.loads(answer)["class_name"] == "red"
    assert heavy == ""
    assert documentation == "None"  # nor what only documents numpy


def test_the_first_answer_saves_the_graph_for_the_next(environment, tmp_path, monkeypatch):
    image = tmp_path / "blue.jpg"
    image.write_bytes(picture("blue"))
    monkeypatch.setenv("TURNOUT_CACHE", environment["TURNOUT_CACHE"])
    model = Path(environment["BENTOML_HOME"]) / "models" / NAME / "v1" / "model.onnx"
    assert saved_graph(model, graph_folder(NAME)) is None
    first = run(environment, "--image", str(image))
    graph = saved_graph(model, graph_folder(NAME))
    assert graph is not None
    assert graph.with_name("weights.bin").is_file()
    assert run(environment, "--image", str(image)).stdout == first.stdout


def test_a_damaged_saved_graph_costs_time_not_the_answer(environment, tmp_path, monkeypatch):
    image = tmp_path / "blue.jpg"
    image.write_bytes(picture("blue"))
    monkeypatch.setenv("TURNOUT_CACHE", environment["TURNOUT_CACHE"])
    assert run(environment, "--prepare").returncode == 0
    (graph_folder(NAME) / "graph.onnx").write_bytes(b"no graph")
    done = run(environment, "--image", str(image))
    assert json.loads(done.stdout)["class_name"] == "blue"


def test_a_graph_of_another_model_file_is_not_used(tmp_path):
    folder = write_model(tmp_path / "model")
    model = folder / "model.onnx"
    save_graph(NAME, model, tmp_path / "graph")
    assert saved_graph(model, tmp_path / "graph") is not None
    os.utime(model, (1, 1))
    assert saved_graph(model, tmp_path / "graph") is None


def test_a_cache_that_cannot_be_written_is_a_note(environment, tmp_path):
    (tmp_path / "file").write_text("in the way")
    image = tmp_path / "red.jpg"
    image.write_bytes(picture("red"))
    done = run(environment | {"TURNOUT_CACHE": str(tmp_path / "file")}, "--image", str(image))
    assert done.returncode == 0
    assert json.loads(done.stdout)["class_name"] == "red"
    assert "was not saved" in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"", "empty"), (b"text", "cannot be decoded")],
)
def test_a_picture_that_is_none_is_said_plainly(environment, tmp_path, content, message):
    image = tmp_path / "picture.jpg"
    if content is not None:
        image.write_bytes(content)
    done = run(environment, "--image", str(image))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_model_names_the_way_out(environment, tmp_path):
    done = run(environment | {"BENTOML_HOME": str(tmp_path)}, "--image", "x.jpg")
    assert done.returncode == 2
    assert "turnout models build" in done.stderr


def test_a_folder_given_by_name_wins(monkeypatch, tmp_path):
    monkeypatch.setenv("TURNOUT_ARTIFACT", str(tmp_path))
    with pytest.raises(ArtifactInvalid, match=r"model\.onnx"):
        artifact_folder(NAME)
    write_model(tmp_path)
    assert artifact_folder(NAME) == tmp_path


def test_a_corrupt_model_ends_the_server(environment, tmp_path):
    folder = write_model(tmp_path / "model")
    (folder / "model.onnx").write_bytes(b"corrupt")
    done = run(environment | {"TURNOUT_ARTIFACT": str(folder)}, "--serve", str(free_port()))
    assert done.returncode == 2
    assert str(folder / "model.onnx") in done.stderr


@pytest.mark.parametrize("binary", [True, False])
def test_open_inference(environment, binary):
    with serving(environment) as (address, _):
        rows = np.array([picture("lime"), picture("red")], dtype=object)
        if binary:
            headers, body = encode_request({"image": rows}, id="a", binary=True)
        else:
            image = {
                "name": "image",
                "shape": [2],
                "datatype": "BYTES",
                "parameters": {"content_type": "base64"},
                "data": [base64.b64encode(row).decode() for row in rows],
            }
            headers, body = {}, json.dumps({"id": "a", "inputs": [image]}).encode()
        reply = httpx.post(f"{address}/v2/models/{NAME}/infer", content=body, headers=headers)
        length = header_length_of(reply.headers.get("inference-header-content-length"))
        assert reply.status_code == 200, reply.text
        answer = decode_response(reply.content, length)
        assert answer.id == "a"
        assert answer.tensors["class_id"].tolist() == [1, 0]
        names = [name if isinstance(name, bytes) else name.encode()
                 for name in answer.tensors["class_name"]]  # fmt: skip
        assert names == [b"green", b"red"]


def test_health_metadata_and_errors(environment):
    with serving(environment) as (address, _), httpx.Client(base_url=address) as client:
        assert client.get("/v2/health/live").json() == {"live": True}
        assert client.get("/v2/health/ready").json() == {"ready": True}
        assert client.get(f"/v2/models/{NAME}/ready").json()["ready"] is True
        metadata = client.get(f"/v2/models/{NAME}").json()
        assert metadata["inputs"][0]["name"] == "image"
        assert metadata["parameters"]["provider"] == "CPUExecutionProvider"
        assert client.get("/nowhere").status_code == 404
        assert client.post("/v2/models/other/infer", content=b"{}").status_code == 404
        wrong = client.post(f"/v2/models/{NAME}/infer", content=b"[]")
        assert wrong.status_code == 400
        assert "JSON object" in wrong.json()["error"]
        large = HTTPConnection(address.removeprefix("http://"), timeout=20)
        large.putrequest("POST", f"/v2/models/{NAME}/infer")
        large.putheader("content-length", str(2**30))
        large.endheaders()
        assert large.getresponse().status == 413
        large.close()


def test_what_is_in_flight_is_answered_before_the_end(environment):
    headers, body = encode_request({"image": np.array([picture("blue")], dtype=object)})
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with serving(environment) as (address, pid):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as client:
            request = f"POST /v2/models/{NAME}/infer HTTP/1.1\r\nhost: x\r\nexpect: 100-continue"
            client.sendall(f"{request}\r\ncontent-length: {len(body)}\r\n{head}\r\n".encode())
            assert client.recv(100).startswith(b"HTTP/1.1 100")  # the request is in flight now
            os.kill(pid, signal.SIGTERM)
            while httpx.get(f"{address}/readyz").status_code == 200:
                pass
            refused = httpx.post(f"{address}/v2/models/{NAME}/infer", content=b"{}")
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            client.sendall(body)
            reply = b"".join(iter(lambda: client.recv(65536), b""))
        assert reply.startswith(b"HTTP/1.1 200")
        assert b"blue" in reply


def test_where_the_model_is(environment, store):
    done = run(environment, "--where")
    assert done.stdout.strip() == str(store / "models" / NAME / "v1")
