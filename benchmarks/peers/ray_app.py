"""The Ray Serve peer: one replica with ``@serve.batch``, behind its HTTP proxy."""
# pyright: reportMissingImports=false

import os
import signal

import numpy as np
import ray
from ray import serve
from session import open_session, score
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=256)
class Fraud:
    """The fraud model."""

    def __init__(self) -> None:
        self.session = open_session()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def rows(self, inputs: list[np.ndarray]) -> list[float]:
        """Score rows as a batch."""
        return score(self.session, np.stack(inputs)).tolist()

    async def __call__(self, request: Request) -> dict[str, float]:
        """Answer one request."""
        if request.method == "GET":
            return {"ready": 1.0}
        tensor = (await request.json())["inputs"][0]
        return {"probability": await self.rows(np.array(tensor["data"], np.float32))}


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Fraud.bind(), route_prefix="/")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
