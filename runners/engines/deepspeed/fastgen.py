"""DeepSpeed FastGen: batches of prompts and answers over its paged cache, on a GPU.

Unverified on a GPU (none was available). The decoder is tested with a substitute of the engine's
``put`` and ``flush``, as is all that runs without a GPU.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from runners.engines.deepspeed.weights import loading_quietly, require_gpu
from runners.engines.load_cost import LoadMeter
from runners.generation.kv_cache_rows import NamedRows
from runners.generation.tokenizer import FileTokenizer, Tokenizer
from turnout.errors import LoadFailed

if TYPE_CHECKING:
    import numpy as np

    from runners.protocol import ActiveEngine
    from turnout.catalog.engines import DeepSpeed


class Ragged(Protocol):
    """The used part of ``deepspeed.inference.v2.engine_v2.InferenceEngineV2``."""

    def put(self, batch_uids: list[int], batch_tokens: list[Any]) -> Any:
        """Read tokens into sequences; the logits after the last of each."""
        ...

    def flush(self, uid: int) -> None:
        """Remove a sequence."""
        ...


class FastGenDecoder:
    """A ``Decoder`` over FastGen's sequences; a slot names one of them.

    Args:
        engine: the FastGen engine.
        tokenizer: the model's.
        slots: the largest number of sequences.
        context_tokens: positions of a slot.
        active: the engine's description.
    """

    def __init__(
        self,
        engine: Ragged,
        tokenizer: Tokenizer,
        slots: int,
        context_tokens: int,
        active: ActiveEngine,
    ) -> None:
        self.tokenizer = tokenizer
        self.context_tokens = context_tokens
        self.active = active
        self.rows = NamedRows(self.exchange)
        self._engine = engine
        self._uids: list[int | None] = [None] * slots
        self._next_uid = 0

    def prefill(
        self, slot: int, tokens: Sequence[int], start: int, last: int = 1
    ) -> np.ndarray[Any, Any]:
        """See ``Decoder.prefill``; ``last`` is 1, because FastGen returns no other logits."""
        if start == 0:
            self._begin(slot)
        return self._put([slot], [tokens])

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> np.ndarray[Any, Any]:
        """See ``Decoder.decode``; FastGen knows the lengths."""
        return self._put(range(len(tokens)), [[token] for token in tokens])

    def exchange(self, first: int, second: int) -> None:
        """Exchange the sequences of two slots."""
        uids = self._uids
        uids[first], uids[second] = uids[second], uids[first]

    def close(self) -> None:
        """See ``Decoder.close``."""
        for slot in range(len(self._uids)):
            self._end(slot)

    def _begin(self, slot: int) -> None:
        self._end(slot)
        self._uids[slot], self._next_uid = self._next_uid, self._next_uid + 1

    def _end(self, slot: int) -> None:
        uid = self._uids[slot]
        if uid is not None:
            self._engine.flush(uid)
        self._uids[slot] = None

    def _put(self, slots: Sequence[int], tokens: Sequence[Sequence[int]]) -> np.ndarray[Any, Any]:
        import torch

        uids = [uid for slot in slots if (uid := self._uids[slot]) is not None]
        logits = self._engine.put(uids, [torch.tensor(list(each)) for each in tokens])
        return logits.float().cpu().numpy()


def open_fastgen(
    name: str, folder: Path, slots: int, options: DeepSpeed, context_tokens: int
) -> FastGenDecoder:
    """Load a model into FastGen; see ``runners.engines.deepspeed.runner.open_decoder``.

    Raises:
        LoadFailed: there is no GPU, or FastGen has no kernels for the model.
    """
    import torch

    meter = LoadMeter("deepspeed")
    tokenizer = FileTokenizer(name, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    check_config(name, folder, config)
    require_gpu(name, "fastgen", torch)
    context = min(context_tokens, config.get("max_position_embeddings", context_tokens))
    with loading_quietly(name, folder), tempfile.TemporaryDirectory() as place:
        from deepspeed.inference.v2.config_v2 import RaggedInferenceEngineConfig
        from deepspeed.inference.v2.engine_factory import build_hf_engine
        from deepspeed.inference.v2.kernels.ragged_ops import get_kv_block_size

        block = get_kv_block_size(head_size(config))
        limits = engine_limits(options, slots, context, block)
        with_dtype(folder, Path(place), config, options.dtype)
        engine: Any = build_hf_engine(place, RaggedInferenceEngineConfig(**limits))
    active = meter.finish(options.device, "cuda", precision=options.dtype)
    return FastGenDecoder(engine, tokenizer, slots, context, active)


def check_config(name: str, folder: Path, config: dict[str, Any]) -> None:
    """Refuse a model whose head FastGen cannot read.

    Raises:
        LoadFailed: the head is the embedding, which FastGen supports for qwen2 only.
    """
    if config.get("tie_word_embeddings") and config.get("model_type") != "qwen2":
        raise LoadFailed(
            name,
            f"fastgen: the head of the model in {folder} is its embedding "
            "(tie_word_embeddings), which FastGen does not read; remove fastgen: true",
        )


def head_size(config: dict[str, Any]) -> int:
    """Return the width of an attention head."""
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def engine_limits(options: DeepSpeed, slots: int, context: int, block: int) -> dict[str, Any]:
    """Return FastGen's configuration, with as many cache blocks as all slots can fill.

    Args:
        options: the catalog's.
        slots: sequences at once.
        context: positions of each.
        block: positions of a cache block.
    """
    return {
        "tensor_parallel": {"tp_size": options.tensor_parallel},
        "state_manager": {
            "max_tracked_sequences": slots,
            "max_ragged_sequence_count": slots,
            "max_ragged_batch_size": max(options.step_tokens, slots),
            "max_context": context,
            "memory_config": {"mode": "allocate", "size": slots * math.ceil(context / block)},
        },
    }


def with_dtype(folder: Path, place: Path, config: dict[str, Any], dtype: str) -> None:
    """Link the model into another folder with this dtype, which FastGen reads from its config."""
    for file in folder.iterdir():
        if file.name != "config.json":
            (place / file.name).symlink_to(file.resolve())
    changed = config | {"dtype": dtype, "torch_dtype": dtype}
    (place / "config.json").write_text(json.dumps(changed), "utf-8")
