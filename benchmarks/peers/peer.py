"""The peers: their packages, commands and request bodies."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ENVIRONMENTS = FOLDER.parents[1] / "var" / "peers"
_RUNTIME = ("onnxruntime==1.32.0", "numpy==2.4.6")


@dataclass(frozen=True, slots=True)
class Peer:
    """One server to compare with.

    Attributes:
        name: as the result shows it.
        how: how it is configured, in a sentence.
        packages: what its own environment needs; empty for the project's environment.
        command: arguments after the environment's folder of programs, given the port.
        ready: path that answers 200 once it serves.
        path: where requests go.
        body: a request of one row.
        first_rate: where the search for its knee begins, requests a second.
    """

    name: str
    how: str
    packages: tuple[str, ...]
    command: Callable[[Path, int], list[str]]
    ready: str
    path: str
    body: Callable[[list[float]], bytes]
    first_rate: float

    @property
    def programs(self) -> Path:
        """Return the folder of its environment's programs."""
        if not self.packages:
            return Path(sys.executable).parent
        return ENVIRONMENTS / self.name.split()[0].lower() / "bin"

    def install(self) -> None:
        """Create its environment if it is missing."""
        if not self.packages or (self.programs.parent / "complete").exists():
            return
        print(f"installing {' '.join(self.packages)} into {self.programs.parent}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(self.programs.parent)], check=True)
        pip = [str(self.programs / "pip"), "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *self.packages], check=True)
        (self.programs.parent / "complete").touch()


def open_inference(row: list[float]) -> bytes:
    """Return the Open Inference body, as for the gateway."""
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, len(row)], "data": row}
    return json.dumps({"inputs": [tensor]}).encode()


def features(row: list[float]) -> bytes:
    """Return a body in BentoML's form: the API's arguments by name."""
    return json.dumps({"features": [row]}).encode()


def _bentoml(programs: Path, port: int) -> list[str]:
    return [str(programs / "bentoml"), "serve", "bentoml_app:Fraud", "--port", str(port)]


PEERS = (
    Peer(
        "FastAPI", "pydantic body, async endpoint, uvicorn with uvloop and httptools, one worker",
        ("fastapi==0.165.0", "uvicorn[standard]==0.54.0", *_RUNTIME),
        lambda programs, port: [
            str(programs / "uvicorn"), "fastapi_app:app", "--port", str(port),
            "--log-level", "warning", "--no-access-log",
        ],
        "/ready", "/v2/models/fraud/infer", open_inference, 600,
    ),
    Peer(
        "BentoML @api", "async api, one worker", (),
        _bentoml, "/readyz", "/single", features, 150,
    ),
    Peer(
        "BentoML batchable", "max_batch_size 256, max_latency_ms 100, one worker", (),
        _bentoml, "/readyz", "/batched", features, 150,
    ),
    Peer(
        "LitServe", "max_batch_size 64, batch_timeout 2 ms, one worker, one API server",
        ("litserve==0.2.19", *_RUNTIME),
        lambda programs, port: [str(programs / "python"), "litserve_app.py"],
        "/health", "/predict", open_inference, 150,
    ),
    Peer(
        "MLServer", "custom runtime, parallel_workers 0 (no hop to another process)",
        ("mlserver==1.7.1", *_RUNTIME),
        lambda programs, port: [str(programs / "mlserver"), "start", "mlserver_model"],
        "/v2/models/fraud/ready", "/v2/models/fraud/infer", open_inference, 150,
    ),
    Peer(
        "Ray Serve", "one replica, serve.batch of 64 within 2 ms, one HTTP proxy",
        ("ray[serve]==2.60.0", *_RUNTIME),
        lambda programs, port: [str(programs / "python"), "ray_app.py"],
        "/", "/", open_inference, 100,
    ),
)  # fmt: skip
