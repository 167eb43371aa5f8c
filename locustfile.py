"""Traffic mixes for a person to watch: `locust --host http://127.0.0.1:3000`.

Pick a mix by user class (``locust Fraud Chat``) or take them all, and a load shape with
``TURNOUT_SHAPE=waves|spike`` (none by default: the page's own controls). Every run is bounded by
``--run-time``. For numbers, use the open-loop benchmarks instead: a closed loop hides tails.
"""

from __future__ import annotations

import base64
import io
import math
import os
import random
from typing import Any

from locust import HttpUser, LoadTestShape, between, constant_throughput, task
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
    """Large fraud batches in the bulk class: work for whatever is left over."""

    weight = 1
    wait_time = constant_throughput(2)

    @task
    def score_many(self) -> None:
        """Score 200 transactions, in no hurry."""
        rng = random.Random()
        rows = [value for _ in range(200) for value in fraud_row(rng)]
        body = tensor("features", "FP32", [200, 15], rows)
        headers = {"x-latency-class": "bulk"}
        self.client.post("/v2/models/fraud/infer", json=body, headers=headers, name="bulk")


class Fleet(HttpUser):
    """Every route of whatever catalog is served, popular ones more often."""

    weight = 1
    wait_time = between(0.1, 0.5)

    def on_start(self) -> None:
        """Ask the gateway what it serves."""
        self.names = [model["id"] for model in self.client.get("/v1/models").json()["data"]]

    @task
    def decide(self) -> None:
        """Ask for a decision on a small image request, which costs no run."""
        picture = base64.b64encode(jpeg(random.Random())).decode()
        body = {"route": "image", "inputs": {"image": [picture]}}
        self.client.post("/v1/route", json=body, name="decide")


class _Shape(LoadTestShape):
    """Bounded: it ends after ten minutes whatever its form."""

    abstract = True
    limit_s = 600

    def users(self, now_s: float) -> int:
        """How many users at this instant."""
        raise NotImplementedError

    def tick(self) -> tuple[int, float] | None:
        """Locust asks for (users, spawn rate); None ends the run."""
        now_s = self.get_run_time()
        return None if now_s > self.limit_s else (self.users(now_s), 20.0)


if os.environ.get("TURNOUT_SHAPE") == "waves":

    class Waves(_Shape):
        """A day in four minutes: between 5 and 45 users."""

        def users(self, now_s: float) -> int:
            """A sine."""
            return int(25 + 20 * math.sin(now_s * 2 * math.pi / 240))

elif os.environ.get("TURNOUT_SHAPE") == "spike":

    class Spike(_Shape):
        """Quiet, a minute of ten times the load, quiet again."""

        def users(self, now_s: float) -> int:
            """A step up and down."""
            return 60 if 60 <= now_s % 180 < 120 else 6
