"""A deterministic fake engine: outputs are hashes of the inputs; the clock is an argument."""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from runners.engines.load_cost import LoadMeter
from runners.generation.kv_cache_rows import CacheRows
from runners.generation.slot_runner import SlotRunner
from runners.protocol import ActiveEngine
from turnout.errors import LoadFailed, RunFailed
from turnout.types import Message, Task, Tensors, TensorSpec, signature

if TYPE_CHECKING:
    from pathlib import Path

    from llguidance import LLTokenizer

    from runners.protocol import TensorRunner, TextRunner
    from turnout.catalog import Model
    from turnout.catalog.engines import Fake

_END = 256
_VOCABULARY = 257
_SLOWER = 10.0


def make(
    name: str,
    model: Model,
    folder: Path | None = None,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> TensorRunner | TextRunner:
    """Build the fake runner of a catalog entry: text for chat, tensors for every other task.

    Args:
        name: the model's name.
        model: its entry.
        folder: ignored.
        sleep: waits for ``latency_ms`` and ``per_row_ms``.
    """
    options = model.runner
    if options.engine != "fake":
        raise LoadFailed(name, f"engine {options.engine!r} given to the fake runner")
    pace = _Pace(name, options, sleep)
    if model.task is not Task.CHAT:
        return FakeTensors(name, signature(model.task, model.dimensions).outputs, pace)
    context_tokens = model.context_tokens
    return SlotRunner(name, options.max_sequences, lambda slots: _Echo(pace, slots, context_tokens))


class _Pace:
    """Spends time and injects faults according to the catalog entry."""

    def __init__(self, name: str, options: Fake, sleep: Callable[[float], None]) -> None:
        self._name = name
        self._options = options
        self._sleep = sleep
        self._runs = 0
        self._kept: list[bytes] = []

    @property
    def may_block(self) -> bool:
        return self._options.fail == "hang"

    def load(self) -> ActiveEngine:
        if self._options.fail == "load":
            raise LoadFailed(self._name, "the catalog says fail: load")
        return LoadMeter("fake").finish("fake", "fake")

    def run(self, rows: int) -> bool:
        """Spend the time of a run; return False when its outputs must be NaN."""
        options = self._options
        self._runs += 1
        fault = options.fail if self._runs > options.after_runs else "never"
        if fault == "run":
            raise RunFailed(self._name, "the catalog says fail: run")
        if fault == "hang":
            threading.Event().wait()
        if fault == "leak":
            self._kept.append(bytes(os.urandom(1024) * (options.leak_bytes // 1024)))
        took_s = (options.latency_ms + options.per_row_ms * (rows - 1)) / 1e3
        if fault == "slow":
            took_s *= _SLOWER
        if took_s > 0:
            self._sleep(took_s)
        return fault != "nan"

    def close(self) -> None:
        self._kept.clear()


class FakeTensors:
    """Returns the model's public outputs, each row a hash of the same row of the inputs.

    An open dimension has size 1.
    """

    def __init__(self, name: str, outputs: Sequence[TensorSpec], pace: _Pace) -> None:
        self._name = name
        self._outputs = [(spec, tuple(max(size, 1) for size in spec.shape[1:])) for spec in outputs]
        self._pace = pace
        self._loaded = False
        self.may_block = pace.may_block

    def load(self) -> ActiveEngine:
        """See ``Runner.load``."""
        active = self._pace.load()
        self._loaded = True
        return active

    def run(self, tensors: Tensors) -> Tensors:
        """See ``TensorRunner.run``."""
        if not self._loaded:
            raise RunFailed(self._name, "is not loaded; call load first")
        if not tensors:
            raise RunFailed(self._name, "needs an input, but got no tensor")
        counts = {name: len(array) for name, array in tensors.items()}
        if len(set(counts.values())) > 1:
            raise RunFailed(self._name, f"inputs differ in rows: {counts}")
        rows = next(iter(counts.values()))
        finite = self._pace.run(rows)
        hashes = [_hash(tensors, row) for row in range(rows)]
        outputs = {
            spec.name: np.array(
                [_value(seed, spec.datatype, shape) for seed in hashes],
                dtype={"BYTES": object, "INT64": np.int64}.get(spec.datatype, np.float32),
            ).reshape(rows, *shape)
            for spec, shape in self._outputs
        }
        if not finite:
            for value in outputs.values():
                if value.dtype == np.float32:
                    value.fill(np.nan)
        return outputs

    def close(self) -> None:
        """See ``Runner.close``."""
        self._loaded = False
        self._pace.close()


def _hash(tensors: Tensors, row: int) -> int:
    total = 0
    for name in sorted(tensors):
        value = tensors[name][row]
        total = zlib.crc32(
            value.tobytes() if hasattr(value, "tobytes") else repr(value).encode(), total
        )
    return total


def _value(seed: int, datatype: str, shape: tuple[int, ...]) -> Any:
    if datatype == "INT64":
        return np.full(shape, seed % 1000)
    if datatype == "BYTES":
        return f"fake-{seed % 1000}".encode()
    return np.random.default_rng(seed).random(shape)


class _ByteTokenizer:
    """A tokenizer with one token per byte and one that ends each message."""

    ends = frozenset({_END})

    def encode(self, messages: Sequence[Message]) -> list[int]:
        tokens: list[int] = []
        for message in messages:
            tokens += [*message.content.encode(), _END]
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(token for token in tokens if token != _END).decode(errors="replace")

    def vocabulary(self) -> LLTokenizer:
        # Only constrained chat needs llguidance, and few gateways serve it.
        from llguidance import LLTokenizer, TokenizerWrapper

        return LLTokenizer(TokenizerWrapper(_Bytes()))


class _Bytes:
    """The vocabulary of ``_ByteTokenizer`` in llguidance's protocol."""

    eos_token_id = _END
    bos_token_id = None
    special_token_ids = (_END,)
    tokens = (*(bytes([byte]) for byte in range(_END)), b"<end>")

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


class _Echo:
    """A ``Decoder`` that repeats the last message, one byte per step, then ends."""

    def __init__(self, pace: _Pace, slots: int, context_tokens: int) -> None:
        self.tokenizer = _ByteTokenizer()
        self.context_tokens = context_tokens
        self.active = pace.load()
        self._pace = pace
        self._tokens: list[list[int]] = [[] for _ in range(slots)]
        self.rows = CacheRows(slots - 1, self._copy)

    def prefill(
        self, slot: int, tokens: Sequence[int], start: int, last: int = 1
    ) -> np.ndarray[Any, Any]:
        self._pace.run(1)
        self._tokens[slot] = read = [*self._tokens[slot][:start], *tokens]
        return np.stack([self._next(read[: len(read) - left]) for left in reversed(range(last))])

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> np.ndarray[Any, Any]:
        self._pace.run(len(tokens))
        for slot, (token, length) in enumerate(zip(tokens, lengths, strict=True)):
            self._tokens[slot] = [*self._tokens[slot][:length], token]
        return np.stack([self._next(self._tokens[slot]) for slot in range(len(tokens))])

    def _copy(self, source: int, target: int, length: int) -> None:
        self._tokens[target] = self._tokens[source][:length]

    def close(self) -> None:
        self._tokens.clear()

    @staticmethod
    def _next(tokens: list[int]) -> np.ndarray[Any, Any]:
        borders = [index for index, token in enumerate(tokens) if token == _END]
        last = borders[-1] if borders else len(tokens) - 1
        echoed = len(tokens) - 1 - last
        start = borders[-2] + 1 if len(borders) > 1 else 0
        logits = np.zeros(_VOCABULARY, np.float32)
        logits[tokens[start + echoed]] = 100.0
        return logits
