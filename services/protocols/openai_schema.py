"""Bodies of ``POST /v1/chat/completions`` and ``/v1/embeddings``, as pydantic models.

Fields that would change the answer and that no engine here can honour are refused by name;
fields that only describe the caller (``user``, ``metadata``) are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from turnout.errors import InvalidRequest
from turnout.problem import problem_text
from turnout.types import Generation, JsonFormat, Message

B = TypeVar("B", bound=BaseModel)
_UNSUPPORTED = ("tools", "functions", "tool_choice", "function_call", "logit_bias", "audio",
                "modalities", "prediction", "web_search_options")  # fmt: skip

_OF_ABSENT = frozenset({"missing", "value_error"})
"""Kinds of problems with a field that is absent from the body."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class TextPart(_Body):
    """One text part of a message; other kinds are refused."""

    type: Literal["text"]
    text: str

    @field_validator("type", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        if value != "text":
            raise ValueError("only parts of type text are taken: no model here reads others")
        return value


class ChatMessage(_Body):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    def message(self) -> Message:
        """Return the message with its parts joined."""
        text = (
            self.content
            if isinstance(self.content, str)
            else "".join(part.text for part in self.content)
        )
        return Message("system" if self.role == "developer" else self.role, text)


class StreamOptions(_Body):
    """Options of a stream."""

    include_usage: bool = False


class JsonSchema(_Body):
    """A JSON Schema with its name. The answering engine decides whether it can keep it."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(_Body):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Annotated[JsonSchema | None, Field(validate_default=True)] = None

    @field_validator("json_schema")
    @classmethod
    def _is_there(cls, value: JsonSchema | None, info: ValidationInfo) -> JsonSchema | None:
        if value is None and info.data.get("type") == "json_schema":
            raise ValueError('is missing: give {"name": ..., "schema": {...}}')
        return value

    def json_format(self) -> JsonFormat | None:
        """Return the form for engines; None is free text."""
        if self.type == "text":
            return None
        form = self.json_schema
        if self.type == "json_object" or form is None:
            return JsonFormat()
        return JsonFormat(orjson.dumps(form.schema_).decode(), form.name, form.strict)


class ChatBody(_Body):
    """``POST /v1/chat/completions``."""

    model: Annotated[str, Field(min_length=1)] = "auto"
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: int | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    routing: dict[str, Any] | None = None

    @field_validator("n")
    @classmethod
    def _one(cls, value: int | None) -> int | None:
        if value not in (None, 1):
            raise ValueError("one answer a request; send the request again for another")
        return value

    @field_validator("top_logprobs")
    @classmethod
    def _asked_for(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise ValueError("needs logprobs: true")
        return value

    def generation(self) -> Generation:
        """Return the body as a ``Generation``."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Generation(
            tuple(message.message() for message in self.messages),
            max_tokens=self.max_completion_tokens or self.max_tokens or 256,
            temperature=self.temperature or 0.0,
            top_p=self.top_p or 1.0,
            stop=tuple(text for text in stop if text),
            seed=self.seed,
            logprobs=bool(self.logprobs),
            top_logprobs=self.top_logprobs or 0,
            json=self.response_format.json_format() if self.response_format else None,
        )


class EmbeddingsBody(_Body):
    """``POST /v1/embeddings``."""

    model: Annotated[str, Field(min_length=1)] = "auto"
    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Literal[384] | None = None
    routing: dict[str, Any] | None = None


def chat_body(data: dict[str, Any]) -> ChatBody:
    """Check a chat body.

    Raises:
        InvalidRequest: a field is wrong; the message names it.
    """
    for name in _UNSUPPORTED:
        if data.get(name):
            raise InvalidRequest(f"{name} is not supported by any model here", param=name)
    return _checked(ChatBody, data)


def embeddings_body(data: dict[str, Any]) -> EmbeddingsBody:
    """Check an embeddings body.

    Raises:
        InvalidRequest: a field is wrong; the message names it.
    """
    return _checked(EmbeddingsBody, data)


def _checked(kind: type[B], data: dict[str, Any]) -> B:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        where, message = _first(error, data)
        raise InvalidRequest(f"{where}: {message}", param=where or None) from error


def _first(error: ValidationError, data: dict[str, Any]) -> tuple[str, str]:
    """Return path and text of the first problem; the deepest where a field has several types."""
    problems = [(_in_body(item, data), item) for item in error.errors(include_url=False)]
    first = problems[0][0]
    inside = [path for path, _ in problems if path[: len(first)] == first]
    deepest = max(inside, key=len)
    return ".".join(deepest), problem_text(*(item for path, item in problems if path == deepest))


def _in_body(item: Any, data: Any) -> tuple[str, ...]:
    """Return a problem's path in the body, without the types that pydantic adds."""
    path: tuple[str, ...] = ()
    *_, last = item["loc"]
    for part in item["loc"]:
        in_list = isinstance(data, list) and isinstance(part, int)
        if in_list or (isinstance(data, dict) and part in data):
            data = data[part]
        elif not (isinstance(data, dict) and part == last and item["type"] in _OF_ABSENT):
            continue
        path = (*path, str(part))
    return path
