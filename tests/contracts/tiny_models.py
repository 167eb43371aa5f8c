"""Tiny models the contract tests make for themselves: seconds to build, no download."""

import json

VOCABULARY = 320


def write_onnx(folder):
    """``y = x @ w + b`` and ``total = sum(y)`` for x (rows, 3); w and b are fixed."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rows = "rows"
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["y"]),
            helper.make_node("ReduceSum", ["y", "axis"], ["total"], keepdims=0),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 3])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 2]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, [rows]),
        ],
        [
            numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(3, 2), "w"),
            numpy_helper.from_array(np.ones(2, np.float32), "b"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))


def write_torch(folder):
    """The same as an exported program."""
    import torch

    class Tiny(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.arange(6, dtype=torch.float32).reshape(3, 2))

        def forward(self, x):
            y = x @ self.w + 1.0
            return {"y": y, "total": y.sum(1)}

    rows = torch.export.Dim("rows")
    program = torch.export.export(Tiny(), (torch.ones(2, 3),), dynamic_shapes={"x": {0: rows}})
    torch.export.save(program, str(folder / "model.pt2"))


def write_llama(folder):
    """A random two-layer Llama with a byte-level tokenizer and a chat template.

    The embedding is tied and large, so that greedy answers vary with the prompt and the logits'
    top two are far apart: another engine's rounding does not change the tokens.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    write_tokenizer(folder)
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=257,
        eos_token_id=256,
        initializer_range=0.5,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 256}))


def write_tokenizer(folder):
    """One token a byte, then the end of an answer and the start of a message."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<end>"), AddedToken("<start>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    template = (
        "{% for m in messages %}<start>{{ m.role }}\n{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<start>assistant\n{% endif %}"
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<end>",
        "bos_token": "<start>",
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
