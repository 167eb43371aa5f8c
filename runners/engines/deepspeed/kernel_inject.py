"""DeepSpeed's fused layers (kernel injection): one answer at a time, on a GPU.

The layers hold keys and values from a whole prompt to the end of its answer, so no other sequence
can join. Unverified: no GPU was available.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.engines.deepspeed.weights import loading_quietly, read_weights, require_gpu
from runners.engines.load_cost import LoadMeter
from runners.generation.kv_cache_rows import NamedRows
from runners.generation.tokenizer import FileTokenizer, Tokenizer
from turnout.errors import LoadFailed, RunFailed

if TYPE_CHECKING:
    import numpy as np

    from runners.protocol import ActiveEngine
    from turnout.catalog.engines import DeepSpeed


class InjectedDecoder:
    """A ``Decoder`` over a model that holds the state of one sequence.

    Args:
        name: the model's name, for errors.
        model: called with ids of shape (1, tokens); several tokens begin a sequence.
        tokenizer: the model's.
        context_tokens: positions.
        active: the engine's description.
        device: torch's name of the device of the ids.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Tokenizer,
        context_tokens: int,
        active: ActiveEngine,
        device: str = "cuda",
    ) -> None:
        self._name = name
        self._model = model
        self._device = device
        self.tokenizer = tokenizer
        self.context_tokens = context_tokens
        self.active = active
        self.rows = NamedRows(lambda first, second: None)

    def prefill(
        self, slot: int, tokens: Sequence[int], start: int, last: int = 1
    ) -> np.ndarray[Any, Any]:
        """See ``Decoder.prefill``.

        Raises:
            RunFailed: this is not a whole prompt of two tokens or more.
        """
        if slot or start or len(tokens) < 2:
            raise RunFailed(self._name, "fused layers read a whole prompt, of 2 tokens or more")
        return self._forward(list(tokens), 0)[:, -last:][0]

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> np.ndarray[Any, Any]:
        """See ``Decoder.decode``."""
        return self._forward(list(tokens), lengths[0])[:, -1]

    def close(self) -> None:
        """See ``Decoder.close``; the model goes with this object."""

    def _forward(self, ids: list[int], start: int) -> np.ndarray[Any, Any]:
        import torch

        positions = torch.arange(start, start + len(ids), device=self._device)[None, :]
        input_ids = torch.tensor([ids], device=self._device)
        with torch.inference_mode():
            # The layers hold the cache, so transformers must not keep one.
            logits = self._model(
                input_ids=input_ids, position_ids=positions, use_cache=False
            ).logits
        return logits.float().cpu().numpy()


def open_injected(
    name: str, folder: Path, options: DeepSpeed, context_tokens: int
) -> InjectedDecoder:
    """Load a model into DeepSpeed's fused layers; see ``runner.open_decoder``.

    Raises:
        LoadFailed: there is no GPU, or DeepSpeed has no fused layers for the model.
    """
    import torch

    meter = LoadMeter("deepspeed")
    tokenizer = FileTokenizer(name, folder)
    require_gpu(name, "kernel_inject", torch)
    dtype = getattr(torch, options.dtype)
    with loading_quietly(name, folder) as (deepspeed, causal):
        model = read_weights(causal, folder, dtype)
        context = min(context_tokens, model.config.max_position_embeddings)
        check_heads(name, folder, model.config)
        engine = deepspeed.init_inference(
            model.to("cuda"),
            dtype=dtype,
            replace_with_kernel_inject=True,
            max_out_tokens=context,
            return_tuple=False,  # transformers 5 takes a layer's output as it is
        )
    active = meter.finish("cuda", "cuda", precision=options.dtype)
    return InjectedDecoder(name, engine.module, tokenizer, context, active)


def check_heads(name: str, folder: Path, config: Any) -> None:
    """Refuse a model whose key-value heads are shared.

    Raises:
        LoadFailed: with the numbers of both kinds of heads.
    """
    heads = config.num_attention_heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    if shared != heads:
        raise LoadFailed(
            name,
            f"kernel_inject: the model in {folder} has {heads} attention heads over {shared} "
            "key-value heads, and DeepSpeed's fused layers have one for each; remove "
            "kernel_inject: true",
        )
