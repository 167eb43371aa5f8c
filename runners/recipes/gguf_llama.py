"""Read a Llama-architecture GGUF file: float32 weights, configuration and tokenizer.

transformers can do this too (``gguf_file=``), but takes tens of seconds and builds a tokenizer
without the SmolLM pre-tokenizer's digit splitting. Layout and names: the GGUF specification and
llama.cpp's ``convert_hf_to_gguf.py``, read backwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gguf import GGUFReader, TokenType
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from turnout.errors import ArtifactInvalid

_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}


def fields(reader: GGUFReader) -> dict[str, Any]:
    """Return every key and value of the file's header."""
    return {name: field.contents() for name, field in reader.fields.items()}


def config(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's shape as keyword arguments of ``transformers.LlamaConfig``."""
    if header.get("general.architecture") != "llama":
        raise ArtifactInvalid(
            f"this is not a Llama GGUF file, but {header.get('general.architecture')!r}"
        )
    heads = header["llama.attention.head_count"]
    return {
        "hidden_size": header["llama.embedding_length"],
        "intermediate_size": header["llama.feed_forward_length"],
        "num_hidden_layers": header["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": header["llama.attention.head_count_kv"],
        "head_dim": header["llama.embedding_length"] // heads,
        "max_position_embeddings": header["llama.context_length"],
        "vocab_size": header["llama.vocab_size"],
        "rms_norm_eps": float(np.float32(header["llama.attention.layer_norm_rms_epsilon"])),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": float(header["llama.rope.freq_base"]),
        },
        "bos_token_id": header["tokenizer.ggml.bos_token_id"],
        "eos_token_id": header["tokenizer.ggml.eos_token_id"],
        "pad_token_id": header["tokenizer.ggml.padding_token_id"],
        "tie_word_embeddings": True,
    }


def weights(reader: GGUFReader, header: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return every tensor, dequantised to float32, by its transformers name."""
    heads = {
        "attn_q": header["llama.attention.head_count"],
        "attn_k": header["llama.attention.head_count_kv"],
    }
    tensors: dict[str, np.ndarray] = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        if tensor.name in _OUTER:
            tensors[_OUTER[tensor.name]] = np.ascontiguousarray(values)
            continue
        _, layer, kind, _ = tensor.name.split(".")
        if kind in heads:
            values = _unpermute(values, heads[kind])
        tensors[f"model.layers.{layer}.{_NAMES[kind]}.weight"] = np.ascontiguousarray(values)
    return tensors


def tokenizer(header: Mapping[str, Any]) -> Any:
    """Return the file's byte-level BPE as a ``tokenizers.Tokenizer``.

    Source: pre-tokenizer ``smollm`` of llama.cpp, digits one by one, then byte level.
    """
    if (header["tokenizer.ggml.model"], header["tokenizer.ggml.pre"]) != ("gpt2", "smollm"):
        raise ArtifactInvalid(
            f"this recipe reads the smollm pre-tokenizer only, not {header['tokenizer.ggml.pre']!r}"
        )
    tokens = header["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in header["tokenizer.ggml.merges"]]
    result = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    result.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), byte_level]
    )
    result.decoder = decoders.ByteLevel()
    kinds = header["tokenizer.ggml.token_type"]
    special = [t for t, kind in zip(tokens, kinds, strict=True) if kind == TokenType.CONTROL]
    result.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return result


def _unpermute(values: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's reordering of rotary pairs: [heads · d, in] in, the same shape out."""
    rows, columns = values.shape
    pairs = values.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)
