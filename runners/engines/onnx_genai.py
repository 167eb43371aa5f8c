"""The ONNX Runtime GenAI engine: decode a GenAI model folder with continuous batching.

The folder is what ``python -m onnxruntime_genai.models.builder`` writes. Its graph is run by ONNX
Runtime itself: GroupQueryAttention appends each row's keys and values in place at that row's own
length, so sequences of any age share one batch. (onnxruntime-genai 0.18 has an engine of its own;
on a CPU it batches statically: a new request waits for the running batch to end. See
docs/engines.md.)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runners.engines.load_cost import LoadMeter
from runners.engines.onnx.session import CPU, open_session
from runners.engines.pages import lazy_zeros
from runners.generation.kv_cache_rows import CacheRows
from runners.generation.slot_runner import SlotRunner
from runners.generation.tokenizer import FileTokenizer
from turnout.errors import LoadFailed

if TYPE_CHECKING:
    from turnout.catalog import Model

_CONFIG = "genai_config.json"
_SCANNED_BYTES = 16 * 1024**2


def make(name: str, model: Model, folder: Path) -> SlotRunner:
    """Build the runner of a catalog entry."""
    options = model.runner
    if options.engine != "onnx-genai":
        raise LoadFailed(name, f"engine {options.engine!r} given to the onnx-genai runner")
    threads, context = options.threads, model.context_tokens
    return SlotRunner(
        name,
        options.max_sequences,
        lambda slots: GenAIDecoder(name, folder, slots, threads=threads, context_tokens=context),
        options.step_tokens,
        options.draft_tokens,
    )


class GenAIDecoder:
    """A decoder-only graph with keys and values in buffers of this process.

    Args:
        name: the model's name, for errors.
        folder: the model's files.
        slots: rows of the cache.
        threads: the threads of a pass.
        context_tokens: positions of a slot; the model's own limit if that is less.

    Raises:
        LoadFailed: a file is missing or damaged, or the graph is of another kind.
    """

    def __init__(
        self, name: str, folder: Path, slots: int, *, threads: int, context_tokens: int
    ) -> None:
        meter = LoadMeter("onnx-genai")
        config = _read_config(name, folder)
        decoder = config["model"]["decoder"]
        path = folder / decoder["filename"]
        if not path.is_file():
            raise LoadFailed(name, f"{path} is missing; build the model again (make setup)")
        self.tokenizer = FileTokenizer(name, folder)
        self.context_tokens = min(context_tokens, config["model"]["context_length"])
        self._session = open_session(name, path, [(CPU, {})], threads=threads)
        self._inputs = decoder["inputs"]
        self._logits = decoder["outputs"]["logits"]
        self._layers: list[tuple[str, str, np.ndarray[Any, Any]]] = []
        present = {entry.name: entry.type for entry in self._session.get_inputs()}
        for past, out in _cache_names(decoder):
            if past not in present:
                raise LoadFailed(name, f"{path} has no input {past!r}, which {_CONFIG} names")
            shape = (
                slots,
                decoder["num_key_value_heads"],
                self.context_tokens,
                decoder["head_size"],
            )
            dtype = np.float16 if present[past] == "tensor(float16)" else np.float32
            self._layers.append((past, out, lazy_zeros(shape, dtype)))
        self._takes_positions = self._inputs.get("position_ids") in present
        self._bindings: dict[tuple[int, int], Any] = {}
        self.rows = CacheRows(slots - 1, self._copy)
        self.active = meter.finish(
            CPU, self._session.get_providers()[0], precision=_precision(path, present)
        )

    def prefill(
        self, slot: int, tokens: Sequence[int], start: int, last: int = 1
    ) -> np.ndarray[Any, Any]:
        """See ``Decoder.prefill``."""
        end = start + len(tokens)
        positions = np.arange(start, end, dtype=np.int64)[None, :]
        mask = np.ones((1, end), np.int64)
        return self._run(slot, 1, np.array([tokens], np.int64), mask, positions)[0, -last:]

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> np.ndarray[Any, Any]:
        """See ``Decoder.decode``."""
        positions = np.array(lengths, np.int64)[:, None]
        mask = (np.arange(positions.max() + 1)[None, :] <= positions).astype(np.int64)
        ids = np.array(tokens, np.int64)[:, None]
        return self._run(0, len(tokens), ids, mask, positions)[:, -1]

    def _copy(self, source: int, target: int, length: int) -> None:
        for _, _, cache in self._layers:
            cache[target, :, :length] = cache[source, :, :length]

    def close(self) -> None:
        """See ``Decoder.close``; session and cache go with this object."""

    def _run(
        self,
        slot: int,
        rows: int,
        ids: np.ndarray[Any, Any],
        mask: np.ndarray[Any, Any],
        positions: np.ndarray[Any, Any],
    ) -> np.ndarray[Any, Any]:
        binding = self._bindings.get((slot, rows)) or self._bind(slot, rows)
        binding.bind_cpu_input(self._inputs["input_ids"], ids)
        binding.bind_cpu_input(self._inputs["attention_mask"], mask)
        if self._takes_positions:
            binding.bind_cpu_input(self._inputs["position_ids"], positions)
        # Bound again, last: its shape changes, and the last bound output is returned last.
        binding.bind_output(self._logits, "cpu")
        self._session.run_with_iobinding(binding)
        logits = binding.get_outputs()[-1].numpy()
        return logits.astype(np.float32, copy=False)

    def _bind(self, slot: int, rows: int) -> Any:
        """Bind the cache of these slots as both past and present, so it is updated in place."""
        binding = self._session.io_binding()
        for past, out, cache in self._layers:
            part = cache[slot : slot + rows]
            place = ("cpu", 0, part.dtype.type, part.shape, part.ctypes.data)
            binding.bind_input(past, *place)
            binding.bind_output(out, *place)
        self._bindings[slot, rows] = binding
        return binding


def _read_config(name: str, folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    if not path.is_file():
        raise LoadFailed(name, f"{path} is missing; build the model again (make setup)")
    try:
        config = json.loads(path.read_text("utf-8"))
        decoder = config["model"]["decoder"]
        in_place = config["search"]["past_present_share_buffer"]
        if not (in_place and {"filename", "inputs", "outputs", "head_size"} <= decoder.keys()):
            raise KeyError("past_present_share_buffer")
    except (ValueError, KeyError, TypeError) as error:
        raise LoadFailed(
            name,
            f"{path} does not describe a decoder with a shared cache buffer ({error}); build it "
            "with onnxruntime_genai.models.builder -e cpu",
        ) from error
    return config


def _cache_names(decoder: dict[str, Any]) -> list[tuple[str, str]]:
    inputs, outputs = decoder["inputs"], decoder["outputs"]
    return [
        (inputs[f"past_{kind}_names"] % layer, outputs[f"present_{kind}_names"] % layer)
        for layer in range(decoder["num_hidden_layers"])
        for kind in ("key", "value")
    ]


def _precision(path: Path, inputs: dict[str, str]) -> str:
    """Return the weights' precision, by the names the builder gives quantised weights."""
    with path.open("rb") as file:
        graph = file.read(_SCANNED_BYTES)
    for mark, precision in ((b"weight_Q4", "int4"), (b"weight_Q8", "int8")):
        if mark in graph:
            return precision
    return "float16" if "tensor(float16)" in inputs.values() else "float32"
