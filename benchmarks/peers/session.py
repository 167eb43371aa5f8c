"""The model that every peer serves: one ONNX Runtime session, one thread."""

import os

import numpy as np
import onnxruntime


def open_session() -> onnxruntime.InferenceSession:
    """The session of the file that ``FRAUD_MODEL`` names."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        os.environ["FRAUD_MODEL"], options, providers=["CPUExecutionProvider"]
    )


def score(session: onnxruntime.InferenceSession, features: np.ndarray) -> np.ndarray:
    """Probabilities of fraud; features of shape (n, 15), float32."""
    return np.asarray(session.run(None, {"features": features})[0]).reshape(-1)
