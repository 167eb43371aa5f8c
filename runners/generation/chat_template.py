"""Conversations to prompts, by the model's own chat template (Jinja, as Hugging Face writes it)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from turnout.errors import InvalidRequest
from turnout.types import Message

_PLAIN = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"
)


class ChatTemplate:
    """Renders a conversation, up to where the assistant's answer begins.

    Args:
        source: the Jinja source.
        special: texts of the special tokens by role, such as ``bos_token``.
    """

    def __init__(self, source: str, special: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _today
        self._template = environment.from_string(source)
        self._special = dict(special)

    def render(self, messages: Sequence[Message]) -> str:
        """Render the prompt.

        Raises:
            InvalidRequest: the template refuses the conversation, say for the order of roles.
        """
        try:
            return self._template.render(
                messages=[{"role": each.role, "content": each.content} for each in messages],
                add_generation_prompt=True,
                **self._special,
            )
        except TemplateError as error:
            raise InvalidRequest(
                f"the model's chat template refuses these messages: {error}", param="messages"
            ) from error


def read_template(folder: Path) -> ChatTemplate:
    """Read the chat template of a model's folder; a plain ``role: content`` one for none."""
    config_path = folder / "tokenizer_config.json"
    config = json.loads(config_path.read_text("utf-8")) if config_path.is_file() else {}
    file = folder / "chat_template.jinja"
    source = file.read_text("utf-8") if file.is_file() else config.get("chat_template")
    if isinstance(source, list):  # several, by name; the default is the one without tools
        source = next((each["template"] for each in source if each["name"] == "default"), None)
    special = {
        role: value["content"] if isinstance(value, dict) else value
        for role, value in config.items()
        if role.endswith("_token") and isinstance(value, str | dict)
    }
    return ChatTemplate(source or _PLAIN, special)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _today(format: str) -> str:
    return datetime.now(UTC).strftime(format)
