"""The model of all peers: one ONNX Runtime session with one thread."""

import os

import numpy as np
import onnxruntime


def open_session() -> onnxruntime.InferenceSession:
    """Open a session of the file that ``FRAUD_MODEL`` names."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        os.environ["FRAUD_MODEL"], options, providers=["CPUExecutionProvider"]
    )


def score(session: onnxruntime.InferenceSession, features: np.ndarray) -> np.ndarray:
    """Return probabilities of fraud for features of shape (n, 15), float32."""
    return np.asarray(session.run(None, {"features": features})[0]).reshape(-1)
