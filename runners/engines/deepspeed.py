"""DeepSpeed inference over a transformers causal language model, with continuous batching."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.engines.loading import Loading
from runners.engines.threads import sleep_when_idle
from runners.text.slots import Decoder, SlotRunner
from runners.text.tokenizer import FileTokenizer
from turnout.errors import LoadFailed

if TYPE_CHECKING:
    import numpy as np

    from turnout.catalog import Model
    from turnout.catalog.engines import DeepSpeed


def make(name: str, model: Model, folder: Path) -> SlotRunner:
    """The runner of a catalog entry; with ``tensor_parallel`` its ranks are processes of ours."""
    options = model.runner
    if options.engine != "deepspeed":
        raise LoadFailed(name, f"engine {options.engine!r} given to the deepspeed runner")
    context = model.context_tokens

    def open_decoder(slots: int) -> Decoder:
        if options.tensor_parallel == 1:
            return DeepSpeedDecoder(name, folder, slots, options, context)
        from runners.engines.ranks import RankedDecoder

        return RankedDecoder(name, folder, slots, options, context)

    return SlotRunner(name, options.max_sequences, open_decoder)


class DeepSpeedDecoder:
    """A model under ``deepspeed.init_inference`` with a cache of one row a slot.

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

    def __init__(
        self,
        name: str,
        folder: Path,
        slots: int,
        options: DeepSpeed,
        context_tokens: int,
        rank: int = 0,
    ) -> None:
        loading = Loading("deepspeed")
        check_files(name, folder)
        self.tokenizer = FileTokenizer(name, folder)
        torch, kind, reason = _device(name, options)
        torch.set_num_threads(options.threads)
        self._torch = torch
        self._device = torch.device(kind, rank) if kind == "cuda" else torch.device(kind)
        self._dtype = getattr(torch, options.dtype)
        self._model = _open(name, folder, options, self._device, self._dtype)
        limit = self._model.config.max_position_embeddings
        self.context_tokens = min(context_tokens, limit)
        from runners.engines.slot_cache import SlotCache

        self._cache = SlotCache(slots, self.context_tokens)
        self.active = loading.done(options.device, kind, precision=options.dtype, reason=reason)

    def prefill(self, slot: int, tokens: Sequence[int], start: int) -> np.ndarray[Any, Any]:
        """See ``Decoder.prefill``."""
        end = start + len(tokens)
        positions = self._torch.arange(start, end, device=self._device)[None, :]
        self._cache.aim(slice(slot, slot + 1), positions, end)
        return self._forward([list(tokens)], positions)[0]

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> np.ndarray[Any, Any]:
        """See ``Decoder.decode``."""
        positions = self._torch.tensor(list(lengths), device=self._device)[:, None]
        self._cache.aim(slice(0, len(tokens)), positions, max(lengths) + 1)
        return self._forward([[token] for token in tokens], positions)

    def copy(self, source: int, target: int, length: int) -> None:
        """See ``Decoder.copy``."""
        self._cache.copy(source, target, length)

    def close(self) -> None:
        """See ``Decoder.close``; the model goes with this object."""

    def _forward(self, ids: list[list[int]], positions: Any) -> np.ndarray[Any, Any]:
        torch = self._torch
        with torch.inference_mode():
            logits = self._model(
                input_ids=torch.tensor(ids, device=self._device),
                attention_mask=self._cache.mask(self._dtype),
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
        return logits[:, -1].float().cpu().numpy()


def check_files(name: str, folder: Path) -> None:
    """Refuse a folder that holds no transformers model.

    Raises:
        LoadFailed: names the missing file.
    """
    if not (folder / "config.json").is_file():
        raise LoadFailed(name, f"{folder / 'config.json'} is missing; build the model again")


def _device(name: str, options: DeepSpeed) -> tuple[Any, str, str | None]:
    """Import torch and settle the device; a reason when it is another than asked for."""
    sleep_when_idle()
    import torch

    if options.kernel_inject:
        raise LoadFailed(
            name,
            "kernel_inject: DeepSpeed's fused kernels keep a key-value cache of their own, for one "
            "batch from start to end; continuous batching needs kernel_inject: false",
        )
    if options.device == "cpu" or torch.cuda.is_available():
        return torch, options.device, None
    reason = "PyTorch sees no CUDA device here (or is a CPU build)"
    if options.strict:
        raise LoadFailed(name, f"{reason}; strict forbids a fallback")
    return torch, "cpu", reason


def _open(name: str, folder: Path, options: DeepSpeed, device: Any, dtype: Any) -> Any:
    """Load the weights and hand the model to DeepSpeed."""
    with warnings.catch_warnings():
        # DeepSpeed's and transformers' imports warn of their own internals.
        warnings.simplefilter("ignore")
        try:
            import deepspeed
            from transformers import AutoModelForCausalLM
            from transformers.utils.logging import disable_progress_bar
        except ImportError as error:
            raise LoadFailed(
                name, f"{error}; install the extras: pip install 'turnout[llm,deepspeed]'"
            ) from error
        deepspeed.utils.logger.setLevel("WARNING")
        disable_progress_bar()
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, local_files_only=True, use_safetensors=True
            )
            engine = deepspeed.init_inference(
                model.to(device),  # pyright: ignore[reportArgumentType]
                dtype=dtype,
                tensor_parallel={"tp_size": options.tensor_parallel},
                replace_with_kernel_inject=False,
            )
        except Exception as error:
            # transformers and DeepSpeed raise anything from OSError to AssertionError
            raise LoadFailed(
                name, f"deepspeed cannot load {folder}: {type(error).__name__}: {error}"
            ) from error
    return engine.module
