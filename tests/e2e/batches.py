"""Batches as a user of the openai client makes them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable
from typing import Any

import openai
from openai.types import Batch

FRAUD, IMAGE = "/v2/models/fraud/infer", "/v2/models/image/infer"
CHAT, EMBED = "/v1/chat/completions", "/v1/embeddings"
ENDED = ("completed", "failed", "expired", "cancelled")


def body_of(endpoint: str, number: int) -> dict[str, Any]:
    """A request body for row ``number``; different numbers give different answers."""
    if endpoint == CHAT:
        message = {"role": "user", "content": f"say {number}"}
        return {"model": "chat", "messages": [message], "max_tokens": 16}
    if endpoint == EMBED:
        return {"model": "embed", "input": f"text {number}"}
    if endpoint == IMAGE:
        image = base64.b64encode(b"%d" % number).decode()
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [image]}
        return {"inputs": [tensor | {"parameters": {"content_type": "base64"}}]}
    row = [number + column / 16 for column in range(15)]
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, 15], "data": row}
    return {"inputs": [tensor]}


def line(endpoint: str, number: int, body: dict[str, Any] | None = None) -> bytes:
    row = {
        "custom_id": f"row-{number}",
        "method": "POST",
        "url": endpoint,
        "body": body_of(endpoint, number) if body is None else body,
    }
    return json.dumps(row).encode()


def upload(client: openai.OpenAI, lines: Iterable[bytes]) -> str:
    content = b"".join(each + b"\n" for each in lines)
    return client.files.create(file=("rows.jsonl", content), purpose="batch").id


def submit(client: openai.OpenAI, endpoint: str, lines: Iterable[bytes], **more: Any) -> Batch:
    return client.batches.create(
        input_file_id=upload(client, lines), endpoint=endpoint,  # type: ignore[arg-type]
        completion_window="24h", **more,
    )  # fmt: skip


def ended(client: openai.OpenAI, batch_id: str, limit_s: float = 120.0) -> Batch:
    """The batch once it has ended."""
    until_s = time.monotonic() + limit_s
    while True:
        batch = client.batches.retrieve(batch_id)
        if batch.status in ENDED:
            return batch
        assert time.monotonic() < until_s, batch
        time.sleep(0.05)


def lines_of(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    return [json.loads(each) for each in client.files.content(file_id).text.splitlines()]
