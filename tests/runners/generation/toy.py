"""A language model small enough to know by heart: it says what it was told, in turn, for ever."""

import numpy as np

from runners.active import ActiveEngine
from runners.generation.kv_cache_rows import CacheRows
from turnout.types import Generation, Message

VOCABULARY = 128
END = 0
ACTIVE = ActiveEngine(
    engine="toy",
    requested="cpu",
    provider="cpu",
    precision="float32",
    reason=None,
    memory_bytes=0,
    load_s=0.0,
)


def saying(text, **more):
    return Generation((Message("user", text),), **{"max_tokens": 12, **more})


def logits_after(said):
    """The token that stood ``said[-1]`` places after the first, if that is a place."""
    logits = np.zeros(VOCABULARY, np.float32)
    logits[said[(said[-1] * 7 + len(said)) % len(said)]] = 1.0
    return logits


class Letters:
    """One token a character."""

    ends = frozenset({END})

    def encode(self, messages):
        return [ord(letter) for message in messages for letter in message.content]

    def decode(self, tokens):
        return "".join(map(chr, tokens))


class ToyDecoder:
    """Keeps what was said in each slot; notes how many tokens every pass read."""

    tokenizer = Letters()
    context_tokens = 200
    active = ACTIVE

    def __init__(self, slots):
        self.rows = CacheRows(slots - 1, self._copy)
        self.passes = []
        self._said = [[] for _ in range(slots)]

    def prefill(self, slot, tokens, start, last=1):
        assert len(self._said[slot]) >= start
        self.passes.append(("read", len(tokens)))
        self._said[slot][start:] = tokens
        said = self._said[slot]
        return np.stack([logits_after(said[: len(said) - left]) for left in range(last)][::-1])

    def decode(self, tokens, lengths):
        self.passes.append(("write", len(tokens)))
        for slot, (token, length) in enumerate(zip(tokens, lengths, strict=True)):
            assert len(self._said[slot]) >= length
            self._said[slot][length:] = [token]
        return np.stack([logits_after(self._said[slot]) for slot in range(len(tokens))])

    def close(self):
        self._said.clear()

    def _copy(self, source, target, length):
        self._said[target][:length] = self._said[source][:length]


def write(runner, *generations):
    """The tokens of each, all running together, and the steps that took."""
    numbers = [runner.add(each) for each in generations]
    tokens = {number: [] for number in numbers}
    steps, left = 0, set(numbers)
    while left:
        steps += 1
        for step in runner.step():
            tokens[step.sequence] += step.piece.token_ids
            if step.piece.finish_reason:
                left.discard(step.sequence)
    return list(tokens.values()), steps
