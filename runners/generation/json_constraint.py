"""Constrains answers to JSON, by llguidance.

llguidance walks the tokenizer's vocabulary along a grammar made of the JSON Schema, in some
10 microseconds a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer

from runners.generation.json_schema import check_schema
from turnout.errors import InvalidRequest

if TYPE_CHECKING:
    from turnout.types import JsonFormat

_ANY_OBJECT = '{"type": "object"}'
_SPACE = r"\x20|\n[ ]{0,16}"
"""Between two JSON tokens: one space, or a line break and its indent. A model that is free to write
any white space writes it until its tokens are used up."""


class JsonConstraint:
    """The set of tokens that may come next in one answer.

    Args:
        vocabulary: of the model's tokenizer.
        form: the JSON that the answer must be.

    Raises:
        InvalidRequest: the schema is invalid or unsupported; names the place in it.
    """

    def __init__(self, vocabulary: LLTokenizer, form: JsonFormat) -> None:
        schema = _ANY_OBJECT if form.schema is None else form.schema
        check_schema(schema)
        options: Any = {"whitespace_pattern": _SPACE}
        grammar = LLMatcher.grammar_from_json_schema(schema, overrides=options)
        self._matcher = LLMatcher(vocabulary, grammar, log_level=0)
        self._check()
        self._bits = np.zeros((vocabulary.vocab_size + 31) // 32, np.int32)

    def allowed(self, logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the logits with those of all other tokens at minus infinity.

        Args:
            logits: shape (vocabulary,), float32; not modified.
        """
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check()
        mask = np.unpackbits(self._bits.view(np.uint8), count=len(logits), bitorder="little")
        return np.where(mask, logits, -np.inf)

    def accept(self, token: int) -> bool:
        """Consume the chosen token; True when the value is complete and nothing may follow.

        Raises:
            InvalidRequest: the schema turned out too complex.
        """
        self._matcher.consume_token(token)
        self._check()
        return self._matcher.is_stopped()

    def _check(self) -> None:
        if self._matcher.is_error():
            problem = self._matcher.get_error().splitlines()[0]
            raise InvalidRequest(
                f"this JSON Schema cannot be kept: {problem}", param="response_format.json_schema"
            )
