"""Answers: what a client reads is what the model produced; the real Triton client agrees."""

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.open_inference import (
    HEADER_LENGTH,
    datatype_of,
    decode_request,
    decode_response,
    encode_response,
    header_length_of,
)
from turnout.errors import InvalidRequest

PRODUCED = {
    "class_id": np.array([281, 7], np.int64),
    "class_name": np.array(["tabby", b"cock"], object),
    "score": np.array([0.25, 0.125], np.float32),
}


@given(st.sets(st.sampled_from(sorted(PRODUCED))))
def test_what_is_written_is_read_back(binary):
    headers, body = encode_response("lite0", "3", "r1", PRODUCED, binary=binary)
    answer = decode_response(body, header_length_of(headers.get(HEADER_LENGTH)))
    assert (answer.model, answer.version, answer.id) == ("lite0", "3", "r1")
    assert answer.tensors["class_id"].tolist() == [281, 7]
    assert answer.tensors["class_name"].tolist() == [b"tabby", b"cock"]
    assert answer.tensors["score"].tolist() == [0.25, 0.125]
    assert (HEADER_LENGTH in headers) == bool(binary)


def test_a_json_answer_is_plain_json():
    headers, body = encode_response("m", None, None, PRODUCED, parameters={"decision": "d"})
    assert headers == {"Content-Type": "application/json"}
    assert orjson.loads(body) == {
        "model_name": "m",
        "parameters": {"decision": "d"},
        "outputs": [
            {"name": "class_id", "shape": [2], "datatype": "INT64", "data": [281, 7]},
            {"name": "class_name", "shape": [2], "datatype": "BYTES", "data": ["tabby", "cock"]},
            {"name": "score", "shape": [2], "datatype": "FP32", "data": [0.25, 0.125]},
        ],
    }


def test_bytes_that_are_no_text_go_as_base64():
    _, body = encode_response("m", None, None, {"x": np.array([b"\xff\xd8"], object)})
    assert orjson.loads(body)["outputs"][0]["parameters"] == {"content_type": "base64"}
    assert decode_response(body, None).tensors["x"].tolist() == [b"\xff\xd8"]


def test_arrays_in_any_memory_order_are_written_in_row_major_order():
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    for binary in (False, True):
        headers, body = encode_response("m", None, None, {"x": turned}, binary=binary)
        read = decode_response(body, header_length_of(headers.get(HEADER_LENGTH)))
        assert read.tensors["x"].tolist() == turned.tolist()


def test_what_the_protocol_cannot_carry_is_refused():
    with pytest.raises(InvalidRequest, match="no datatype for numpy complex"):
        encode_response("m", None, None, {"x": np.zeros(1, np.complex64)})
    with pytest.raises(InvalidRequest, match="text or bytes, not int"):
        encode_response("m", None, None, {"x": np.array([1], object)}, binary=True)
    assert datatype_of(np.array(["a"]).dtype) == "BYTES"


def test_the_triton_client_reads_our_answers():
    http = pytest.importorskip("tritonclient.http")
    headers, body = encode_response("lite0", "1", "r", PRODUCED, binary=["score", "class_name"])
    result = http.InferenceServerClient.parse_response_body(
        body, header_length=int(headers[HEADER_LENGTH])
    )
    assert result.as_numpy("class_id").tolist() == [281, 7]
    assert result.as_numpy("class_name").tolist() == [b"tabby", b"cock"]
    assert result.as_numpy("score").tolist() == [0.25, 0.125]


@pytest.mark.parametrize("binary", [True, False])
def test_we_read_what_the_triton_client_sends(binary):
    http = pytest.importorskip("tritonclient.http")
    features = http.InferInput("features", [2, 3], "FP32")
    features.set_data_from_numpy(np.arange(6, dtype=np.float32).reshape(2, 3), binary_data=binary)
    text = http.InferInput("text", [2], "BYTES")
    text.set_data_from_numpy(np.array(["a", "é"], object), binary_data=binary)
    wish = http.InferRequestedOutput("score", binary_data=binary)
    body, header_length = http.InferenceServerClient.generate_request_body(
        [features, text], outputs=[wish], request_id="q"
    )
    request = decode_request(body, header_length)
    assert request.tensors["features"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert request.tensors["text"].tolist() == [b"a", "é".encode()]
    assert request.binary({"score": 0}) == ({"score"} if binary else frozenset())
