"""The Open Inference Protocol v2 over HTTP: JSON bodies and the binary tensor extension.

Pure functions between bytes and numpy, used by the gateway (server side) and by the remote
backend (client side).
"""

from runners.open_inference.codec import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    read_request,
    response_document,
)
from runners.open_inference.messages import (
    HEADER_LENGTH,
    InferRequest,
    InferResponse,
    OutputWish,
    header_length_of,
)
from runners.open_inference.tensors import datatype_of, dtype_of

__all__ = [
    "HEADER_LENGTH",
    "InferRequest",
    "InferResponse",
    "OutputWish",
    "datatype_of",
    "decode_request",
    "decode_response",
    "dtype_of",
    "encode_request",
    "encode_response",
    "header_length_of",
    "read_request",
    "response_document",
]
