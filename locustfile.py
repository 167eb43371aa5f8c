"""Traffic mixes for a person to watch: ``locust --host http://127.0.0.1:3000``.

Pick mixes by user class (``locust Fraud Bulk``) or take them all. ``TURNOUT_SHAPE`` (``ramp``,
``spike`` or ``diurnal``) drives the number of users (none: the page's own controls),
``TURNOUT_SHAPE_S`` says for how long (600 by default, 3600 at most) and ``TURNOUT_SHAPE_USERS`` how
many there are at the top (50). Without a shape, bound a run with ``--run-time``. For numbers use
the open-loop benchmarks: a closed loop waits for answers before it sends more, and hides tails.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import random
from abc import abstractmethod
from typing import Any

from locust import HttpUser, LoadTestShape, between, constant, constant_throughput, task
from PIL import Image

_EASY = ("What is the capital of France?", "Say hello.", "What color is the sky?")
_HARD = (
    "Prove that there are infinitely many primes and explain each step.",
    "Derive the quadratic formula, then use it to solve 3x^2 - 7x + 1 = 0.",
)


def fraud_row(rng: random.Random) -> list[float]:
    """A plausible transaction: the 15 features in their order."""
    amount, count = rng.lognormvariate(3.8, 0.8), rng.randint(1, 6)
    return [
        amount, float(rng.random() < 0.28), float(rng.random() < 0.2),
        count, amount * 0.9, count * 5, amount, count * 20, amount,
        rng.randint(0, 4), 0.0, rng.randint(4, 20), rng.random() * 0.1, rng.randint(20, 70), 0.02,
    ]  # fmt: skip


def jpeg(rng: random.Random) -> bytes:
    """A small random picture."""
    image = Image.new("RGB", (256, 256), tuple(rng.randrange(256) for _ in range(3)))
    out = io.BytesIO()
    image.save(out, "JPEG")
    return out.getvalue()


def tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    """An Open Inference request with one input."""
    return {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]}


class Fraud(HttpUser):
    """Card transactions, real time, 20 a second a user."""

    weight = 6
    wait_time = constant_throughput(20)

    @task
    def score(self) -> None:
        """Score one transaction."""
        body = tensor("features", "FP32", [1, 15], fraud_row(random.Random()))
        self.client.post("/v2/models/fraud/infer", json=body, name="fraud")


class Chat(HttpUser):
    """Short conversations, easy and hard."""

    weight = 1
    wait_time = between(1, 3)

    @task(3)
    def easy(self) -> None:
        """A question the cheap model answers."""
        self._ask(random.choice(_EASY), "chat easy")

    @task(1)
    def hard(self) -> None:
        """A question for the large one."""
        self._ask(random.choice(_HARD), "chat hard")

    def _ask(self, text: str, name: str) -> None:
        message = {"role": "user", "content": text}
        body = {"model": "chat", "messages": [message], "max_tokens": 32}
        self.client.post("/v1/chat/completions", json=body, name=name)


class Images(HttpUser):
    """Pictures, interactive."""

    weight = 2
    wait_time = between(0.2, 0.6)

    @task
    def classify(self) -> None:
        """Classify one picture, sent as raw bytes."""
        picture = jpeg(random.Random())
        size = len(picture).to_bytes(4, "little") + picture
        head = (
            b'{"inputs":[{"name":"image","datatype":"BYTES","shape":[1],"parameters":'
            b'{"binary_data_size":%d}}]}' % len(size)
        )
        headers = {
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(len(head)),
        }
        self.client.post("/v2/models/image/infer", data=head + size, headers=headers, name="image")


class Bulk(HttpUser):
    """Batches through the OpenAI Batch API, one after another: work for whatever is left over."""

    weight = 1
    wait_time = constant(1)
    fixed_count = 2

    @task
    def batch(self) -> None:
        """Score 2,000 transactions in a batch and follow it to its end."""
        rng = random.Random()
        lines = "".join(self._line(rng, number) for number in range(2000))
        file = self.client.post(
            "/v1/files", files={"file": ("rows.jsonl", lines)}, data={"purpose": "batch"},
            name="bulk upload",
        )  # fmt: skip
        if file.status_code != 200:
            return
        wanted = {
            "input_file_id": file.json()["id"],
            "endpoint": "/v2/models/fraud/infer",
            "completion_window": "24h",
        }
        made = self.client.post("/v1/batches", json=wanted, name="bulk submit")
        for _ in range(120 if made.status_code == 200 else 0):
            seen = self.client.get(f"/v1/batches/{made.json()['id']}", name="bulk look").json()
            if seen.get("status") not in ("validating", "in_progress", "finalizing"):
                return
            self.wait()

    def _line(self, rng: random.Random, number: int) -> str:
        row = {
            "custom_id": f"row-{number}",
            "method": "POST",
            "url": "/v2/models/fraud/infer",
            "body": tensor("features", "FP32", [1, 15], fraud_row(rng)),
        }
        return json.dumps(row) + "\n"


class Fleet(HttpUser):
    """Every model and route of whatever catalog is served, popular ones more often."""

    weight = 2
    wait_time = between(0.05, 0.3)

    def on_start(self) -> None:
        """Ask the gateway what it serves, and what each takes."""
        rng = random.Random(7)
        listed = self.client.get("/v1/models").json()["data"]
        names = [model["id"] for model in listed if model["id"] != "auto"]
        rng.shuffle(names)
        found = [(name, self.client.get(f"/v2/models/{name}", name="metadata")) for name in names]
        self.takes = [
            (name, reply.json()["inputs"]) for name, reply in found if reply.status_code == 200
        ]
        self.popularity = [1 / (rank + 1) for rank in range(len(self.takes))]

    @task
    def ask(self) -> None:
        """Ask one of them; popularity falls as 1 / rank (Zipf)."""
        if not self.takes:
            return
        ((name, inputs),) = random.choices(self.takes, self.popularity)
        body = {"inputs": [made_up(spec) for spec in inputs]}
        self.client.post(f"/v2/models/{name}/infer", json=body, name="fleet")


def made_up(spec: dict[str, Any]) -> dict[str, Any]:
    """One row of input for a tensor that a model says it takes."""
    name, datatype = spec["name"], spec["datatype"]
    shape = [1 if size == -1 else size for size in spec["shape"]]
    count = math.prod(shape)
    made: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    if name == "image":
        picture = base64.b64encode(jpeg(random.Random())).decode()
        return made | {"parameters": {"content_type": "base64"}, "data": [picture] * count}
    if datatype == "BYTES":
        return made | {"data": [random.choice(_EASY)] * count}
    if datatype.startswith("FP"):
        return made | {"data": [round(random.uniform(0, 50), 3) for _ in range(count)]}
    return made | {"data": [random.randint(0, 50) for _ in range(count)]}


class _Shape(LoadTestShape):
    """A number of users over time, bounded."""

    abstract = True
    limit_s = min(float(os.environ.get("TURNOUT_SHAPE_S", "600")), 3600.0)
    top = int(os.environ.get("TURNOUT_SHAPE_USERS", "50"))

    @abstractmethod
    def share(self, part: float) -> float:
        """Users as a share of the top, when ``part`` of the time has passed; both in [0, 1]."""

    def tick(self) -> tuple[int, float] | None:
        """Locust asks for (users, spawn rate); None ends the run."""
        part = self.get_run_time() / self.limit_s
        return None if part >= 1 else (max(round(self.top * self.share(part)), 1), 20.0)


if os.environ.get("TURNOUT_SHAPE") == "ramp":

    class Ramp(_Shape):
        """From nothing to the top, in a straight line."""

        def share(self, part: float) -> float:
            """See ``_Shape.share``."""
            return part

elif os.environ.get("TURNOUT_SHAPE") == "spike":

    class Spike(_Shape):
        """Quiet, a fifth of the time at ten times that, quiet again."""

        def share(self, part: float) -> float:
            """See ``_Shape.share``."""
            return 1.0 if 0.4 <= part < 0.6 else 0.1

elif os.environ.get("TURNOUT_SHAPE") == "diurnal":

    class Diurnal(_Shape):
        """Two days: low at night, high in the afternoon."""

        def share(self, part: float) -> float:
            """See ``_Shape.share``."""
            return 0.55 - 0.45 * math.cos(part * 4 * math.pi)

elif os.environ.get("TURNOUT_SHAPE"):
    raise SystemExit("TURNOUT_SHAPE must be ramp, spike or diurnal")
