"""Chat completions in OpenAI's format: writes requests, reads chunks. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from turnout.errors import UpstreamFailed
from turnout.types import FinishReason, Generation, JsonFormat, Piece, TokenChance


def request_body(model: str, generation: Generation) -> dict[str, Any]:
    """Return the body of ``POST /v1/chat/completions``, streaming and with usage."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": each.role, "content": each.content} for each in generation.messages],
        "max_tokens": generation.max_tokens,
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if generation.stop:
        body["stop"] = list(generation.stop)
    if generation.seed is not None:
        body["seed"] = generation.seed
    if generation.logprobs:
        body["logprobs"] = True
        if generation.top_logprobs:
            body["top_logprobs"] = generation.top_logprobs
    if generation.json is not None:
        body["response_format"] = _response_format(generation.json)
    return body


def _response_format(form: JsonFormat) -> dict[str, Any]:
    if form.schema is None:
        return {"type": "json_object"}
    json_schema: dict[str, Any] = {"name": form.name, "schema": orjson.loads(form.schema)}
    if form.strict is not None:
        json_schema["strict"] = form.strict
    return {"type": "json_schema", "json_schema": json_schema}


def _chance(entry: Any) -> TokenChance:
    """Read a token of a server's logprobs; not every server sends its bytes."""
    raw = entry.get("bytes")
    token = bytes(raw) if raw is not None else str(entry.get("token") or "").encode()
    top = tuple(_chance(other) for other in entry.get("top_logprobs") or ())
    return TokenChance(token, float(entry["logprob"]), top)


class Completion:
    """Turns the chunks of one streamed answer into pieces.

    Args:
        name: the model's name, for errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._reason: FinishReason | None = None
        self._usage: dict[str, Any] = {}
        self._pieces = 0

    def read(self, document: Any) -> Piece | None:
        """Return the piece a chunk holds, if any. A whole, unstreamed completion is one chunk too.

        Raises:
            UpstreamFailed: the chunk is an error, or malformed.
        """
        if not isinstance(document, dict) or document.get("error"):
            error = document.get("error") if isinstance(document, dict) else document
            message = error.get("message", error) if isinstance(error, dict) else error
            raise UpstreamFailed(self._name, f"the upstream failed while answering: {message}")
        self._usage = document.get("usage") or self._usage
        choices = document.get("choices") or []
        if not choices:
            return None
        choice = choices[0]
        reason = choice.get("finish_reason")
        if reason is not None:
            self._reason = "length" if reason == "length" else "stop"
        text = (choice.get("delta") or choice.get("message") or {}).get("content") or ""
        logprobs = (choice.get("logprobs") or {}).get("content") or []
        if not text and not logprobs:
            return None
        self._pieces += 1
        return Piece(text, logprobs=tuple(_chance(each) for each in logprobs))

    def last(self) -> Piece:
        """Return the piece that ends the answer, with the usage that the server reports.

        Where it reports none, each chunk counts as a token.

        Raises:
            UpstreamFailed: the server broke off without a finish reason.
        """
        if self._reason is None:
            raise UpstreamFailed(self._name, "the upstream broke off in the middle of the answer")
        details = self._usage.get("prompt_tokens_details") or {}
        return Piece(
            "",
            finish_reason=self._reason,
            cached_tokens=int(details.get("cached_tokens") or 0),
            prompt_tokens=int(self._usage.get("prompt_tokens") or 0),
            completion_tokens=int(self._usage.get("completion_tokens") or self._pieces),
        )
