"""The lower bound for a tabular model: a bare ASGI function over the same ONNX session.

python -m benchmarks.bare --port PORT
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import onnxruntime
import orjson
import uvicorn

from services.artifacts.store import resolve
from turnout.catalog import Artifact

_HEADERS = [(b"content-type", b"application/json")]


def application() -> Any:
    """Return an ASGI application that scores the small fraud model."""
    folder = resolve(Artifact(tag="fraud-small", recipe="fraud", options={"size": "small"}))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", options, providers=["CPUExecutionProvider"]
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = (await receive()).get("body", b"")
        answer = b"{}"
        if body:
            tensor = orjson.loads(body)["inputs"][0]
            features = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
            probability = np.asarray(session.run(None, {"features": features})[0])
            output = {
                "name": "probability",
                "datatype": "FP32",
                "shape": [len(probability)],
                "data": probability.ravel().tolist(),
            }
            answer = orjson.dumps({"model_name": "fraud", "outputs": [output]})
        headers = [*_HEADERS, (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def main() -> None:
    """Serve until the process ends."""
    parser = argparse.ArgumentParser(description="The bare floor.")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    uvicorn.run(application(), port=port, log_level="warning", access_log=False, lifespan="off")


if __name__ == "__main__":
    main()
