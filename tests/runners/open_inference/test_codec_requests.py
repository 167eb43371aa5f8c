"""Requests: what any client may send, read exactly or refused with the place named."""

import json
import struct

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runners.open_inference import (
    HEADER_LENGTH,
    OutputWish,
    decode_request,
    encode_request,
    header_length_of,
)
from turnout.errors import InvalidRequest

DTYPES = ["?", "<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8"]
FINITE = {"allow_nan": False, "allow_infinity": False}
KEYS = ["id", "inputs", "outputs", "name", "shape", "datatype", "data", "parameters"]
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        shapes,
        elements=hnp.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False),
    )
)
byte_arrays = hnp.arrays(object, shapes, elements=st.binary(max_size=20), fill=st.nothing())


def body_of(*inputs, **more):
    return orjson.dumps({"inputs": list(inputs), **more})


def tensor(data, *, shape=None, datatype="FP32", **more):
    shape = [len(data)] if shape is None else shape
    return {"name": "x", "shape": shape, "datatype": datatype, "data": data, **more}


def framed(header, raw=b""):
    text = header if isinstance(header, bytes) else orjson.dumps(header)
    return text + raw, len(text)


def binary_entry(size, *, shape, datatype="FP32", name="x"):
    return {
        "name": name,
        "shape": shape,
        "datatype": datatype,
        "parameters": {"binary_data_size": size},
    }


@given(
    st.dictionaries(st.text(min_size=1, max_size=8), arrays | byte_arrays, min_size=1, max_size=4),
    st.booleans(),
    st.none() | st.text(max_size=5),
)
def test_what_is_written_is_read_back(tensors, binary, request_id):
    headers, body = encode_request(tensors, id=request_id, binary=binary)
    request = decode_request(body, header_length_of(headers.get(HEADER_LENGTH)))
    assert request.id == request_id
    assert request.binary_output is binary
    assert list(request.tensors) == list(tensors)
    for name, sent in tensors.items():
        read = request.tensors[name]
        assert read.dtype == sent.dtype
        assert read.shape == sent.shape
        assert read.tolist() == sent.tolist()
        assert read.flags.aligned


@given(st.binary(max_size=200), st.none() | st.integers(0, 250))
def test_noise_is_refused_and_never_crashes(body, header_length):
    with pytest.raises(InvalidRequest):
        decode_request(body, header_length)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*KEYS, "binary_data_size"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)
entries = st.fixed_dictionaries(
    {"name": st.just("x") | json_values},
    optional={
        "shape": st.lists(st.integers(-2, 3), max_size=3) | json_values,
        "datatype": st.sampled_from(["FP32", "BYTES", "BOOL", "UINT8"]) | json_values,
        "data": json_values,
        "parameters": json_values,
    },
)


@given(st.fixed_dictionaries({"inputs": st.lists(entries, max_size=2)}), st.binary(max_size=8))
def test_any_json_document_is_read_or_refused(document, raw):
    text = json.dumps(document).encode()
    try:
        request = decode_request(text + raw, len(text))
    except InvalidRequest:
        return
    assert request.tensors


@given(arrays | byte_arrays, st.data())
def test_a_truncated_binary_body_is_refused(array, data):
    headers, body = encode_request({"x": array})
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(InvalidRequest):
        decode_request(body[:cut], header_length_of(headers.get(HEADER_LENGTH)))


def test_raw_bytes_are_not_copied_where_they_are_aligned():
    raw = np.arange(6, dtype="<f4").tobytes()
    text = orjson.dumps({"inputs": [binary_entry(24, shape=[2, 3])]})
    body = bytearray(text + b" " * (-len(text) % 8) + raw)
    read = decode_request(memoryview(body), len(body) - 24).tensors["x"]
    body[-24:-20] = struct.pack("<f", 42.0)
    assert read[0, 0] == 42.0


@pytest.mark.parametrize("data", [[1, 2.5, 3, 4, 5, 6], [[1, 2.5, 3], [4, 5, 6]]])
def test_json_data_may_be_flat_or_nested(data):
    read = decode_request(body_of(tensor(data, shape=[2, 3])), None).tensors["x"]
    assert read.tolist() == [[1, 2.5, 3], [4, 5, 6]]
    assert read.dtype == np.float32


def test_base64_carries_bytes_in_json():
    entry = tensor(["/9j/"], datatype="BYTES", parameters={"content_type": "base64"})
    assert decode_request(body_of(entry), None).tensors["x"].tolist() == [b"\xff\xd8\xff"]


def test_outputs_and_their_form_are_read():
    body = body_of(
        tensor([1]),
        id="7",
        parameters={"binary_data_output": True, "tenant": "a"},
        outputs=[{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}],
    )
    request = decode_request(body, None)
    assert request.outputs == (OutputWish("a"), OutputWish("b", binary=False))
    produced = {"c": np.zeros(1), "b": np.ones(1), "a": np.zeros(2)}
    assert list(request.chosen(produced)) == ["a", "b"]
    assert request.binary(produced) == {"a", "c"}
    assert request.parameters["tenant"] == "a"
    with pytest.raises(InvalidRequest, match="no output is named 'a'"):
        request.chosen({"b": np.ones(1)})


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (tensor([1, 2], shape=[3]), r"shape \[3\] asks for 3 elements, data holds 2"),
        (tensor([1], shape=[-1]), "shape must be a list of whole numbers"),
        (tensor([1], shape="1"), "shape must be"),
        (tensor([1], shape=[True]), "shape must be"),
        (tensor([], shape=[0, 2**62, 2**62]), "too large"),
        (tensor([1], shape=[1] * 40), "40 axes are too many"),
        (tensor([1], shape=[10**12]), "asks for"),
        (tensor([1], datatype="BF16"), "BF16 is not supported; send FP16 or FP32"),
        (tensor([1], datatype="FLOAT"), "unknown datatype 'FLOAT'; use one of BOOL"),
        (tensor([1], datatype=None), "unknown datatype"),
        (tensor(["a"]), "FP32 holds str"),
        (tensor([True, 1.0]), "FP32 holds bool"),
        (tensor([None]), "FP32 holds NoneType"),
        (tensor([1.5], datatype="INT32"), "INT32 holds float"),
        (tensor([1], datatype="BOOL"), "BOOL holds int"),
        (tensor([1], datatype="BYTES"), "BYTES holds int"),
        (tensor([300], datatype="UINT8"), "outside what UINT8 can hold"),
        (tensor([-1], datatype="UINT64"), "outside what UINT64"),
        (tensor([1e39]), "outside what FP32"),
        (tensor([7e4], datatype="FP16"), "outside what FP16"),
        (tensor([[1, 2], [3]], shape=[2, 2]), "ragged"),
        (tensor([[1, 2], 3], shape=[2, 2]), "ragged"),
        (tensor([[1, 2]], shape=[2]), "does not follow shape"),
        (tensor([[1]], shape=[]), "nested data for a scalar"),
        (tensor({"0": 1}, shape=[1]), "data must be a list"),
        (tensor(["%%"], datatype="BYTES", parameters={"content_type": "base64"}), "base64"),
        (tensor([1], parameters=[]), "parameters must be an object"),
        (tensor([1], parameters={"binary_data_size": 4}), "not both"),
        ({"shape": [1]}, r"inputs\[0\] must be an object with a name"),
        ([], r"inputs\[0\] must be an object with a name"),
    ],
)
def test_a_wrong_tensor_is_refused_with_its_place(entry, says):
    with pytest.raises(InvalidRequest, match=says) as refused:
        decode_request(body_of(entry), None)
    assert "inputs[0]" in str(refused.value)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"[1]", "must be a JSON object"),
        (b"{}", "at least one tensor"),
        (b'{"inputs": []}', "at least one tensor"),
        (body_of(tensor([1]), tensor([1])), "two tensors of this name"),
        (body_of(tensor([1]), id=3), "id must be a string"),
        (body_of(tensor([1]), outputs={}), "outputs must be a list"),
        (body_of(tensor([1]), outputs=[{"name": "a"}, {"name": "a"}]), "asked for twice"),
        (body_of(tensor([1]), parameters={"binary_data_output": 1}), "true or false"),
        (body_of(tensor([1])) + b"\x00\x01", "raw tensors need the header"),
    ],
)
def test_a_wrong_body_is_refused(body, says):
    with pytest.raises(InvalidRequest, match=says):
        decode_request(body, None)


@pytest.mark.parametrize(
    ("entry", "raw", "says"),
    [
        (binary_entry(8, shape=[2]), b"1234", "4 bytes are left"),
        (binary_entry(4, shape=[1]), b"12345", "1 bytes at the end"),
        (binary_entry(4, shape=[2]), b"1234", "takes 8 bytes, got 4"),
        (binary_entry(-1, shape=[1]), b"", "whole number"),
        (binary_entry("4", shape=[1]), b"1234", "whole number"),
        (binary_entry(1, shape=[1], datatype="BOOL"), b"\x02", "BOOL bytes must be 0 or 1"),
        (binary_entry(3, shape=[1], datatype="BYTES"), b"\x01\0\0", "at most 0"),
        (binary_entry(4, shape=[1], datatype="BYTES"), b"\x09\0\0\0", "says it has 9 bytes"),
        (binary_entry(5, shape=[1], datatype="BYTES"), b"\0\0\0\0a", "1 bytes are left over"),
        (binary_entry(9, shape=[2], datatype="BYTES"), b"\1\0\0\0aaaaa", "says it has|has no"),
        (binary_entry(8, shape=[2], datatype="BYTES"), b"\4\0\0\0aaaa", "has no length"),
        (binary_entry(4, shape=[10**12], datatype="BYTES"), b"\0\0\0\0", "at most 1"),
    ],
)
def test_wrong_raw_bytes_are_refused(entry, raw, says):
    with pytest.raises(InvalidRequest, match=says):
        decode_request(*framed({"inputs": [entry]}, raw))


@pytest.mark.parametrize("value", ["", "-1", "1.5", "0x10", "9" * 30, "²"])
def test_a_wrong_header_length_is_refused(value):
    with pytest.raises(InvalidRequest, match=HEADER_LENGTH):
        header_length_of(value)


def test_a_header_length_beyond_the_body_is_refused():
    assert header_length_of(b" 12 ") == 12
    with pytest.raises(InvalidRequest, match="says 99 bytes of JSON, the body has 2"):
        decode_request(b"{}", 99)


plain_tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "y", ""]),
        "datatype": st.sampled_from(["FP32", "FP64", "INT64", "fp32"]),
        "shape": st.lists(st.integers(-2, 3), max_size=3),
        "data": st.lists(
            st.one_of(
                st.floats(allow_nan=False, allow_infinity=False),
                st.integers(-(2**70), 2**70),
                st.sampled_from([True, None, "1", [1.0]]),
            ),
            max_size=6,
        ),
    }
)


def read_or_refused(body):
    """The request, or the message that refuses it."""
    try:
        return decode_request(body, None)
    except InvalidRequest as error:
        return str(error)


@given(st.lists(plain_tensors, max_size=2), st.one_of(st.none(), st.text(max_size=3)))
def test_the_short_way_reads_what_the_long_way_reads(entries, request_id):
    document = {"inputs": entries} | ({} if request_id is None else {"id": request_id})
    short = json.dumps(document).encode()
    # An empty list of outputs means the same and takes the general reader.
    long = json.dumps(document | {"outputs": []}).encode()
    expected, got = read_or_refused(long), read_or_refused(short)
    if isinstance(expected, str) or isinstance(got, str):
        assert got == expected
        return
    assert got.id == expected.id
    assert list(got.tensors) == list(expected.tensors)
    for name, tensor in got.tensors.items():
        assert tensor.dtype == expected.tensors[name].dtype
        np.testing.assert_array_equal(tensor, expected.tensors[name])
