"""DeepSpeed inference over a transformers causal language model, with continuous batching.

A load imports torch and deepspeed, in the thread that loads; this module does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.engines.deepspeed.fastgen import open_fastgen
from runners.engines.deepspeed.kernel_inject import open_injected
from runners.engines.deepspeed.tensor_parallel import TensorParallelDecoder
from runners.engines.deepspeed.weights import check_files, loading_quietly, no_cuda, read_weights
from runners.engines.deepspeed.zero_offload import open_offloaded
from runners.engines.load_cost import LoadMeter
from runners.engines.threads import sleep_when_idle
from runners.generation.decoder import Decoder
from runners.generation.kv_cache_rows import CacheRows
from runners.generation.slot_runner import SlotRunner
from runners.generation.tokenizer import FileTokenizer
from turnout.errors import LoadFailed

if TYPE_CHECKING:
    import numpy as np

    from turnout.catalog import Model
    from turnout.catalog.engines import DeepSpeed


def make(name: str, model: Model, folder: Path) -> SlotRunner:
    """Build the runner of a catalog entry; modes that need torchrun run in processes."""
    options = model.runner
    if options.engine != "deepspeed":
        raise LoadFailed(name, f"engine {options.engine!r} given to the deepspeed runner")
    context = model.context_tokens

    def open_for_slots(slots: int) -> Decoder:
        if options.tensor_parallel == 1 and not options.fastgen and options.offload is None:
            return open_decoder(name, folder, slots, options, context)
        return TensorParallelDecoder(name, folder, slots, options, context)

    return SlotRunner(
        name,
        options.max_sequences,
        open_for_slots,
        context if options.kernel_inject else options.step_tokens,
        options.draft_tokens,
    )


def open_decoder(
    name: str, folder: Path, slots: int, options: DeepSpeed, context_tokens: int, rank: int = 0
) -> Decoder:
    """Load a model in this process, as its options say.

    Args:
        name: the model's name, for errors.
        folder: safetensors, config and tokenizer, as ``save_pretrained`` writes them.
        slots: rows of the cache.
        options: the catalog's.
        context_tokens: positions of a slot; the model's own limit if that is less.
        rank: of this process among ``tensor_parallel``.

    Raises:
        LoadFailed: with what is wrong and what to do.
    """
    check_files(name, folder)
    sleep_when_idle()
    if options.fastgen:
        return open_fastgen(name, folder, slots, options, context_tokens)
    if options.kernel_inject:
        return open_injected(name, folder, options, context_tokens)
    return DeepSpeedDecoder(name, folder, slots, options, context_tokens, rank)


class DeepSpeedDecoder:
    """A ``Decoder`` over ``deepspeed.init_inference`` with a cache of one row per slot.

    Its arguments are those of ``open_decoder``.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        slots: int,
        options: DeepSpeed,
        context_tokens: int,
        rank: int = 0,
    ) -> None:
        meter = LoadMeter("deepspeed")
        self.tokenizer = FileTokenizer(name, folder)
        torch, kind, reason = _device(name, options)
        torch.set_num_threads(options.threads)
        self._torch = torch
        self._device = torch.device(kind, rank) if kind == "cuda" else torch.device(kind)
        self._dtype = getattr(torch, options.dtype)
        self._model = _open(name, folder, options, self._device, self._dtype)
        limit = self._model.config.max_position_embeddings
        self.context_tokens = min(context_tokens, limit)
        # Not at the top: they import torch, which must follow ``sleep_when_idle``.
        from runners.engines.deepspeed.packed_linear import pack
        from runners.engines.deepspeed.slot_cache import SlotCache

        if options.offload is None:
            pack(self._model)

        self._cache = SlotCache(slots, self.context_tokens)
        self.rows = CacheRows(slots - 1, self._cache.copy)
        self.active = meter.finish(options.device, kind, precision=options.dtype, reason=reason)

    def prefill(
        self, slot: int, tokens: Sequence[int], start: int, last: int = 1
    ) -> np.ndarray[Any, Any]:
        """See ``Decoder.prefill``."""
        end = start + len(tokens)
        positions = self._torch.arange(start, end, device=self._device)[None, :]
        self._cache.aim(slice(slot, slot + 1), positions, end)
        return self._forward([list(tokens)], positions, last)[0]

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> np.ndarray[Any, Any]:
        """See ``Decoder.decode``."""
        positions = self._torch.tensor(list(lengths), device=self._device)[:, None]
        self._cache.aim(slice(0, len(tokens)), positions, max(lengths) + 1)
        return self._forward([[token] for token in tokens], positions, 1)[:, 0]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` positions of a slot over another."""
        self._cache.copy(source, target, length)

    def close(self) -> None:
        """See ``Decoder.close``; the model goes with this object."""

    def _forward(self, ids: list[list[int]], positions: Any, last: int) -> np.ndarray[Any, Any]:
        torch = self._torch
        with torch.inference_mode():
            logits = self._model(
                input_ids=torch.tensor(ids, device=self._device),
                attention_mask=self._cache.mask(self._dtype),
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=last,
            ).logits
        return logits.float().cpu().numpy()


def _device(name: str, options: DeepSpeed) -> tuple[Any, str, str | None]:
    """Return torch, the device, and the reason when it is not the requested one."""
    import torch

    if options.device == "cpu" or (reason := no_cuda(torch)) is None:
        return torch, options.device, None
    if options.strict:
        raise LoadFailed(name, f"{reason}; strict forbids a fallback")
    return torch, "cpu", reason


def _open(name: str, folder: Path, options: DeepSpeed, device: Any, dtype: Any) -> Any:
    """Load the weights and return the model under DeepSpeed."""
    with loading_quietly(name, folder) as (deepspeed, causal):
        model = read_weights(causal, folder, dtype)
        if options.offload is not None:
            return open_offloaded(model, options.offload, device, dtype)
        return deepspeed.init_inference(
            model.to(device),
            dtype=dtype,
            tensor_parallel={"tp_size": options.tensor_parallel},
            replace_with_kernel_inject=False,
        ).module
