"""The LitServe peer with dynamic batching: decode, batch, predict, unbatch, encode."""
# pyright: reportMissingImports=false

import os
from typing import Any

import litserve
import numpy as np
from session import open_session, score


class Fraud(litserve.LitAPI):
    """The fraud model."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.session = open_session()

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        """Return one row."""
        return np.array(request["inputs"][0]["data"], np.float32)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Join rows to a batch."""
        return np.stack(inputs)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Score a batch."""
        return score(self.session, x)

    def unbatch(self, output: np.ndarray) -> list[float]:
        """Split a batch into rows."""
        return output.tolist()

    def encode_response(self, output: float) -> dict[str, float]:
        """Return one answer."""
        return {"probability": output}


if __name__ == "__main__":
    api = Fraud(max_batch_size=64, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        port=int(os.environ["PORT"]), host="127.0.0.1", generate_client_file=False,
        log_level="warning",
    )  # fmt: skip
