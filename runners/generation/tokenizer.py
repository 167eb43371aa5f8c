"""A model's tokenizer: conversations to tokens, tokens to text, and which tokens end an answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import tokenizers

from runners.generation.chat_template import read_template
from turnout.errors import LoadFailed
from turnout.types import Message

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_END_FILES = ("generation_config.json", "genai_config.json", "config.json")


class Tokenizer(Protocol):
    """The tokenizer interface of the text engines."""

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ...

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt of a conversation."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, without special ones."""
        ...

    def vocabulary(self) -> LLTokenizer:
        """Return every token's bytes, as llguidance takes them; built on first use."""
        ...


class FileTokenizer:
    """A ``tokenizer.json`` with the chat template and the end tokens beside it.

    Args:
        name: the model's name, for errors.
        folder: holds ``tokenizer.json``, as transformers and onnxruntime-genai write it.

    Raises:
        LoadFailed: a file is missing or damaged.
    """

    def __init__(self, name: str, folder: Path) -> None:
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise LoadFailed(name, f"{path} is missing; build the model again (make setup)")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
            self._template = read_template(folder)
        except Exception as error:
            # tokenizers raises a bare Exception for anything it cannot read
            raise LoadFailed(name, f"the tokenizer in {folder} cannot be read: {error}") from error
        self._path = path
        self._vocabulary: LLTokenizer | None = None
        self.ends = _ends(folder)
        if not self.ends:
            raise LoadFailed(
                name, f"none of {', '.join(_END_FILES)} in {folder} names eos_token_id"
            )

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt of a conversation; the template writes the special tokens."""
        text = self._template.render(messages)
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, without special ones."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True)

    def vocabulary(self) -> LLTokenizer:
        """See ``Tokenizer.vocabulary``; takes a quarter of a second for 50,000 tokens."""
        if self._vocabulary is None:
            # Imported here: see ``slot_runner._constraint``.
            from llguidance import LLTokenizer

            self._vocabulary = LLTokenizer(str(self._path), eos_token=sorted(self.ends))
        return self._vocabulary


def _ends(folder: Path) -> frozenset[int]:
    for file in _END_FILES:
        path = folder / file
        document: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        ends = document.get("eos_token_id", document.get("model", {}).get("eos_token_id"))
        if isinstance(ends, int):
            return frozenset({ends})
        if isinstance(ends, list) and ends:
            return frozenset(ends)
    return frozenset()
