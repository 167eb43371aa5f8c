"""Real clients against the real server."""

from __future__ import annotations

import io
import json
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bentoml
import httpx
import numpy as np
import openai
import pytest
import tritonclient.http as triton
from PIL import Image

pytestmark = pytest.mark.e2e

EASY = [{"role": "user", "content": "What is the capital of France?"}]
HARD = [
    {
        "role": "user",
        "content": "Prove by induction that the sum of the first n odd numbers is n squared, then "
        "use the result to evaluate 1 + 3 + 5 + ... + 199 and explain every step rigorously.",
    }
]


@pytest.fixture(scope="module")
def client(gateway: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway}/v1", api_key="none", max_retries=0)


def picture(colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (320, 240), colour).save(out, "JPEG")
    return out.getvalue()


def rows(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(0, 50, (n, 15)).astype(np.float32)


class TestOpenAI:
    def test_chat(self, client: openai.OpenAI) -> None:
        raw = client.chat.completions.with_raw_response.create(
            model="chat", messages=EASY, max_tokens=24
        )
        answer = raw.parse()
        assert answer.choices[0].message.content
        assert answer.usage is not None
        assert answer.usage.completion_tokens <= 24
        assert raw.headers["x-turnout-model"] == answer.model
        assert raw.headers["x-turnout-reason"]

    def test_the_large_model_knows_this_one(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(model="smollm2", messages=EASY, max_tokens=24)
        assert "Paris" in (answer.choices[0].message.content or "")

    @pytest.mark.parametrize("model", ["smollm2", "smollm2-int8"])
    def test_chat_streams_the_same_words(self, client: openai.OpenAI, model: str) -> None:
        whole = client.chat.completions.create(model=model, messages=EASY, max_tokens=16)
        stream = client.chat.completions.create(
            model=model, messages=EASY, max_tokens=16, stream=True,
            stream_options={"include_usage": True},
        )  # fmt: skip
        events = list(stream)
        text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)
        assert text == whole.choices[0].message.content
        said, first = events[-1].usage, whole.usage
        assert said is not None
        assert first is not None
        # Not equal in all: the second time the prompt need not be read again.
        assert said.completion_tokens == first.completion_tokens
        assert said.prompt_tokens == first.prompt_tokens
        assert said.prompt_tokens_details is not None
        assert said.prompt_tokens_details.cached_tokens == first.prompt_tokens - 2
        finish = [e.choices[0].finish_reason for e in events if e.choices]
        assert finish[-1] == whole.choices[0].finish_reason

    def test_an_easy_and_a_hard_prompt_go_to_different_models(self, gateway: str) -> None:
        chosen = {}
        for name, messages in (("easy", EASY), ("hard", HARD)):
            body = {"route": "chat", "inputs": {"messages": messages}}
            decision = httpx.post(f"{gateway}/v1/route", json=body).json()
            chosen[name] = decision["model"]
        assert chosen == {"easy": "smollm2-int8", "hard": "smollm2"}

    def test_embeddings_put_like_beside_like(self, client: openai.OpenAI) -> None:
        texts = ["A cat sits on a mat.", "A kitten rests on a rug.", "Interest rates rose again."]
        reply = client.embeddings.create(model="embed", input=texts)
        vectors = np.array([entry.embedding for entry in reply.data])
        assert vectors.shape == (3, 384)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
        assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3

    def test_models_are_listed(self, client: openai.OpenAI) -> None:
        names = {model.id for model in client.models.list()}
        assert {"auto", "chat", "image", "fraud", "embed", "smollm2"} <= names
        assert client.models.retrieve("smollm2").id == "smollm2"
        with pytest.raises(openai.NotFoundError, match="nope"):
            client.models.retrieve("nope")

    def test_errors_are_the_clients_own(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="nope", messages=EASY)
        with pytest.raises(openai.BadRequestError, match="temperature"):
            client.chat.completions.create(model="chat", messages=EASY, temperature=9)
        long = [{"role": "user", "content": "word " * 4000}]
        with pytest.raises(openai.BadRequestError, match="token"):
            client.chat.completions.create(model="smollm2-int8", messages=long, max_tokens=4000)

    def test_a_client_that_goes_mid_stream_frees_its_slot(self, gateway: str) -> None:
        body = {"model": "smollm2", "messages": HARD, "max_tokens": 400, "stream": True}
        with httpx.stream("POST", f"{gateway}/v1/chat/completions", json=body) as reply:
            next(reply.iter_text())
        until_s = time.monotonic() + 20
        while time.monotonic() < until_s:
            lines = httpx.get(f"{gateway}/metrics").text.splitlines()
            running = [line for line in lines if line.startswith('turnout_running{model="smollm2"')]
            if running and all(float(line.rsplit(" ", 1)[1]) == 0 for line in running):
                return
            time.sleep(0.1)
        pytest.fail("the stream still runs")


class TestTriton:
    @pytest.fixture
    def oip(self, gateway: str) -> Any:
        made = triton.InferenceServerClient(urlsplit(gateway).netloc)
        yield made
        made.close()

    def test_health_and_metadata(self, oip: Any) -> None:
        assert oip.is_server_live()
        assert oip.is_server_ready()
        assert oip.is_model_ready("fraud")
        metadata = oip.get_model_metadata("efficientnet-lite0")
        assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
        assert metadata["parameters"]["provider"] == "CPUExecutionProvider"

    @pytest.mark.parametrize("binary", [True, False])
    def test_fraud(self, oip: Any, binary: bool) -> None:
        given = triton.InferInput("features", [7, 15], "FP32")
        given.set_data_from_numpy(rows(7), binary_data=binary)
        wanted = triton.InferRequestedOutput("probability", binary_data=binary)
        found = oip.infer("fraud", [given], outputs=[wanted]).as_numpy("probability")
        assert found.shape == (7,)
        assert found.dtype == np.float32
        assert ((found >= 0) & (found <= 1)).all()

    @pytest.mark.parametrize("model", ["efficientnet-lite0", "efficientnet-lite2", "image"])
    def test_images(self, oip: Any, model: str) -> None:
        given = triton.InferInput("image", [2], "BYTES")
        given.set_data_from_numpy(np.array([picture(), picture((9, 9, 200))], dtype=object))
        answer = oip.infer(model, [given])
        assert answer.as_numpy("class_id").dtype == np.int64
        assert answer.as_numpy("class_name").shape == (2,)
        assert ((answer.as_numpy("score") >= 0) & (answer.as_numpy("score") <= 1)).all()

    def test_sentences(self, oip: Any) -> None:
        given = triton.InferInput("text", [2], "BYTES")
        given.set_data_from_numpy(np.array([b"hello", "grüße".encode()], dtype=object))
        found = oip.infer("embed", [given]).as_numpy("embedding")
        assert found.shape == (2, 384)

    def test_wrong_input_is_the_clients_own_error(self, oip: Any) -> None:
        given = triton.InferInput("features", [1, 3], "FP32")
        given.set_data_from_numpy(np.zeros((1, 3), np.float32))
        with pytest.raises(triton.InferenceServerException, match=r"\[n, 15\]"):
            oip.infer("fraud", [given])


class TestBentoML:
    def test_sync_client(self, gateway: str, tmp_path: Path) -> None:
        file = tmp_path / "red.jpg"
        file.write_bytes(picture())
        with bentoml.SyncHTTPClient(gateway) as client:
            assert {"chat", "classify", "score", "embed", "route"} <= set(client.endpoints)
            scored = client.score(features=rows(3))
            assert len(scored["probability"]) == 3
            classified = client.classify(image=[file, file], latency_class="bulk")
            assert len(classified["class_name"]) == 2
            embedded = client.embed(text=["a", "b"])
            assert np.array(embedded["embedding"]).shape == (2, 384)
            said = client.chat(messages=EASY, max_tokens=16, model="smollm2")
            assert "Paris" in said["text"]
            decided = client.route(route="fraud", inputs={"features": rows(1).tolist()})
            assert decided["model"].startswith("fraud")

    async def test_async_client(self, gateway: str) -> None:
        async with bentoml.AsyncHTTPClient(gateway) as client:
            scored = await client.score(features=rows(2))
            assert len(scored["probability"]) == 2

    def test_errors_have_their_status(self, gateway: str) -> None:
        with bentoml.SyncHTTPClient(gateway) as client:
            with pytest.raises(bentoml.exceptions.BentoMLException, match="15"):
                client.score(features=np.zeros((1, 3), np.float32))
            with pytest.raises(bentoml.exceptions.BentoMLException, match="warp"):
                client.score(features=rows(1), latency_class="warp")


class TestWire:
    """What clients do that they should not."""

    def test_a_realtime_and_a_bulk_request_differ(self, gateway: str) -> None:
        tensor = {"name": "features", "datatype": "FP32", "shape": [1, 15], "data": [1.0] * 15}
        models = [
            httpx.post(
                f"{gateway}/v2/models/fraud/infer",
                json={"inputs": [tensor]},
                headers={"X-Latency-Class": name},
            ).headers["x-turnout-model"]
            for name in ("realtime", "bulk")
        ]
        assert models == ["fraud-small", "fraud-large"]

    @pytest.mark.parametrize(
        "blob",
        [b"", b"not an image", picture()[:200], b"GIF89a" + bytes(50)],
        ids=["empty", "text", "truncated", "gif"],
    )
    def test_what_is_no_image_is_refused(self, gateway: str, blob: bytes) -> None:
        size = len(blob).to_bytes(4, "little") + blob
        entry = {"name": "image", "datatype": "BYTES", "shape": [1]}
        head = json.dumps({"inputs": [entry | {"parameters": {"binary_data_size": len(size)}}]})
        reply = httpx.post(
            f"{gateway}/v2/models/image/infer",
            content=head.encode() + size,
            headers={"Inference-Header-Content-Length": str(len(head))},
        )
        assert reply.status_code == 400, reply.text
        assert "image" in reply.json()["error"]

    def test_truncated_binary_is_refused(self, gateway: str) -> None:
        entry = {"name": "features", "datatype": "FP32", "shape": [1, 15]}
        head = json.dumps({"inputs": [entry | {"parameters": {"binary_data_size": 60}}]})
        reply = httpx.post(
            f"{gateway}/v2/models/fraud/infer",
            content=head.encode() + bytes(17),
            headers={"Inference-Header-Content-Length": str(len(head))},
        )
        assert reply.status_code == 400
        assert "17 bytes" in reply.json()["error"]

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_numbers_that_are_none_are_refused(self, gateway: str, value: float) -> None:
        features = np.full((1, 15), value, np.float32).tobytes()
        entry = {"name": "features", "datatype": "FP32", "shape": [1, 15]}
        head = json.dumps({"inputs": [entry | {"parameters": {"binary_data_size": 60}}]})
        reply = httpx.post(
            f"{gateway}/v2/models/fraud/infer",
            content=head.encode() + features,
            headers={"Inference-Header-Content-Length": str(len(head))},
        )
        assert reply.status_code == 400, reply.text

    def test_an_oversized_body_is_refused_before_it_is_read(self, gateway: str) -> None:
        with socket.create_connection((urlsplit(gateway).hostname, urlsplit(gateway).port)) as raw:
            raw.settimeout(10)
            raw.sendall(
                b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n"
            )
            assert b" 413 " in raw.recv(4096)

    def test_a_client_that_goes_mid_request_harms_nobody(self, gateway: str) -> None:
        for _ in range(20):
            with socket.create_connection(
                (urlsplit(gateway).hostname, urlsplit(gateway).port)
            ) as raw:
                raw.sendall(b"POST /v2/models/fraud/infer HTTP/1.1\r\nhost: x\r\n"
                            b"content-length: 500\r\n\r\n{\"inputs\"")  # fmt: skip
        assert httpx.get(f"{gateway}/readyz").status_code == 200

    def test_metrics_show_every_model_up(self, gateway: str) -> None:
        text = httpx.get(f"{gateway}/metrics").text
        up = {line.split('model="')[1].split('"')[0]
              for line in text.splitlines() if line.startswith("turnout_model_up{")}  # fmt: skip
        assert {"fraud-small", "efficientnet-lite2", "smollm2", "smollm2-int8"} <= up

    def test_bentomls_own_pages_are_there(self, gateway: str) -> None:
        assert httpx.get(f"{gateway}/docs.json").status_code == 200
        assert "text/html" in httpx.get(f"{gateway}/").headers["content-type"]
        assert httpx.get(f"{gateway}/livez").status_code == 200


class TestTritonsExtensions:
    def test_configuration_and_statistics(self, gateway: str) -> None:
        server = triton.InferenceServerClient(urlsplit(gateway).netloc)
        try:
            before = _count(server)
            tensor = triton.InferInput("features", [2, 15], "FP32")
            tensor.set_data_from_numpy(rows(2))
            server.infer("fraud-large", [tensor])
            assert _count(server) == before + 1
            config = server.get_model_config("fraud")
            assert config["input"][0] == {
                "name": "features",
                "data_type": "TYPE_FP32",
                "dims": [15],
            }
            names = {each["name"] for each in server.get_inference_statistics()["model_stats"]}
            assert {"chat", "fraud", "smollm2"} <= names
        finally:
            server.close()


def _count(server: triton.InferenceServerClient) -> int:
    found = server.get_inference_statistics("fraud-large", "1")["model_stats"][0]
    return found["inference_stats"]["success"]["count"]


class TestForms:
    """What BentoML's own endpoints say of forms they cannot read."""

    @pytest.mark.parametrize(
        ("path", "form", "says"),
        [
            ("/classify", {"files": {"file": picture()}}, "file is no field of classify; there"),
            ("/classify", {"files": {"image": (None, "x")}}, "image must be a file"),
            (
                "/classify",
                {"files": {"image": picture(), "model": picture()}},
                "model must be text, not a file",
            ),
            ("/score", {"files": {"rows": (None, "[[1]]")}}, "rows is no field of score"),
            ("/chat", {"files": {"image": picture()}}, "image is no field of chat"),
            (
                "/classify",
                {"content": b"nothing", "headers": {"content-type": "multipart/form-data"}},
                "body is no readable multipart/form-data",
            ),
        ],
    )
    def test_a_wrong_form_says_which_field_and_what_there_is(
        self, gateway: str, path: str, form: dict[str, Any], says: str
    ) -> None:
        reply = httpx.post(gateway + path, **form)
        assert reply.status_code == 400, reply.text
        assert says in reply.json()["detail"][0]["msg"]

    def test_a_right_form_is_answered(self, gateway: str) -> None:
        form = {"image": picture(), "latency_class": (None, "bulk")}
        reply = httpx.post(f"{gateway}/classify", files=form, timeout=30)
        assert reply.status_code == 200
        assert len(reply.json()["class_id"]) == 1
