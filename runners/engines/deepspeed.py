"""DeepSpeed inference over a transformers causal language model, with continuous batching."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.engines.loading import Loading
from runners.engines.threads import sleep_when_idle
from runners.text.slots import SlotRunner
from runners.text.tokenizer import FileTokenizer
from turnout.errors import LoadFailed

if TYPE_CHECKING:
    import numpy as np

    from turnout.catalog import Model
    from turnout.catalog.engines import DeepSpeed


def make(name: str, model: Model, folder: Path) -> SlotRunner:
    """The runner of a catalog entry."""
    options = model.runner
    if options.engine != "deepspeed":
        raise LoadFailed(name, f"engine {options.engine!r} given to the deepspeed runner")
    context = model.context_tokens
    return SlotRunner(
        name,
        options.max_sequences,
        lambda slots: DeepSpeedDecoder(name, folder, slots, options, context),
    )


class DeepSpeedDecoder:
    """A model under ``deepspeed.init_inference`` with a cache of one row a slot.

    Args:
        name: the model's name, for errors.
        folder: safetensors, config and tokenizer, as ``save_pretrained`` writes them.
        slots: rows of the cache.
        options: the catalog's.
        context_tokens: positions of a slot; the model's own limit if that is less.

    Raises:
        LoadFailed: with what is wrong and what to do.
    """

    def __init__(
        self, name: str, folder: Path, slots: int, options: DeepSpeed, context_tokens: int
    ) -> None:
        loading = Loading("deepspeed")
        self._name = name
        if not (folder / "config.json").is_file():
            raise LoadFailed(name, f"{folder / 'config.json'} is missing; build the model again")
        self.tokenizer = FileTokenizer(name, folder)
        torch, device, reason = _device(name, options)
        torch.set_num_threads(options.threads)
        self._torch = torch
        self._device = device
        self._model = _open(name, folder, options, device)
        config = self._model.config
        self.context_tokens = min(context_tokens, config.max_position_embeddings)
        dtype = getattr(torch, options.dtype)
        self._cache = _slot_cache(torch, config, slots, self.context_tokens, dtype, device)
        self.active = loading.done(options.device, device, precision=options.dtype, reason=reason)

    def prefill(self, slot: int, tokens: Sequence[int], start: int) -> np.ndarray[Any, Any]:
        """See ``Decoder.prefill``."""
        torch = self._torch
        end = start + len(tokens)
        positions = torch.arange(start, end, device=self._device)[None, :]
        self._cache.aim(slice(slot, slot + 1), positions, end)
        mask = self._cache.mask(positions, end)
        return self._forward([list(tokens)], positions, mask)[0]

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> np.ndarray[Any, Any]:
        """See ``Decoder.decode``."""
        positions = self._torch.tensor(list(lengths), device=self._device)[:, None]
        longest = max(lengths) + 1
        self._cache.aim(slice(0, len(tokens)), positions, longest)
        mask = self._cache.mask(positions, longest)
        return self._forward([[token] for token in tokens], positions, mask)

    def copy(self, source: int, target: int, length: int) -> None:
        """See ``Decoder.copy``."""
        self._cache.copy(source, target, length)

    def _forward(self, ids: list[list[int]], positions: Any, mask: Any) -> np.ndarray[Any, Any]:
        torch = self._torch
        with torch.inference_mode():
            logits = self._model(
                input_ids=torch.tensor(ids, device=self._device),
                attention_mask=mask,
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
        return logits[:, -1].float().cpu().numpy()


def _slot_cache(torch: Any, config: Any, slots: int, length: int, dtype: Any, device: str) -> Any:
    """Build the cache lazily, so that importing this file does not import torch."""
    from runners.engines.slot_cache import SlotCache

    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = (slots, heads, length, size)
    return SlotCache(config.num_hidden_layers, shape, dtype=dtype, device=torch.device(device))


def _device(name: str, options: DeepSpeed) -> tuple[Any, str, str | None]:
    """Import torch and settle the device; a reason when it is another than asked for."""
    sleep_when_idle()
    import torch

    if options.kernel_inject and options.device == "cpu":
        raise LoadFailed(
            name, "kernel_inject needs a GPU: set device: cuda or kernel_inject: false"
        )
    if options.device == "cpu" or torch.cuda.is_available():
        return torch, options.device, None
    reason = "PyTorch sees no CUDA device here (or is a CPU build)"
    if options.strict or options.kernel_inject:
        raise LoadFailed(name, f"{reason}; set device: cpu, or serve it on a machine with a GPU")
    return torch, "cpu", reason


def _open(name: str, folder: Path, options: DeepSpeed, device: str) -> Any:
    """Load the weights and hand the model to DeepSpeed."""
    import torch

    with warnings.catch_warnings():
        # DeepSpeed's and transformers' imports warn of their own internals.
        warnings.simplefilter("ignore")
        try:
            import deepspeed
            from transformers import AutoModelForCausalLM
        except ImportError as error:
            raise LoadFailed(
                name, f"{error}; install the extras: pip install 'turnout[llm,deepspeed]'"
            ) from error
        deepspeed.utils.logger.setLevel("WARNING")
        dtype = getattr(torch, options.dtype)
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, local_files_only=True, use_safetensors=True
            )
            engine = deepspeed.init_inference(
                model.to(torch.device(device)),  # pyright: ignore[reportArgumentType]
                dtype=dtype,
                tensor_parallel={"tp_size": options.tensor_parallel},
                replace_with_kernel_inject=options.kernel_inject,
            )
        except Exception as error:
            # transformers and DeepSpeed raise anything from OSError to AssertionError
            raise LoadFailed(
                name, f"deepspeed cannot load {folder}: {type(error).__name__}: {error}"
            ) from error
    return engine.module
