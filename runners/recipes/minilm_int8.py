"""all-MiniLM-L6-v2 with 8-bit weights: a quarter of the size, vectors close to the original's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from runners.recipes.minilm import build as build_fp32
from runners.recipes.onnx_int8 import to_int8
from runners.recipes.onnx_session import run_onnx
from runners.recipes.origin import Options, Origin, Report
from runners.recipes.shop.data.reviews import reviews
from turnout.errors import ArtifactInvalid

_LEAST_COSINE = 0.98
_COMPARED = 64


def build(options: Options, out: Path, report: Report) -> Origin:
    """Write ``model.onnx`` and ``tokenizer.json``; see ``minilm``.

    Raises:
        ArtifactInvalid: the mean cosine between its vectors and those of the fp32 model, over
            reviews, is under 0.98.
    """
    origin = build_fp32(options, out, report)
    path = out / "model.onnx"
    inputs = [_tokens(text, out) for text in reviews(_COMPARED, 9).text]
    before = np.concatenate([run_onnx(path, each) for each in inputs])
    report("reducing all-MiniLM-L6-v2 to 8 bits")
    to_int8(path)
    after = np.concatenate([run_onnx(path, each) for each in inputs])
    cosine = float((before * after).sum(axis=1).mean())
    if cosine < _LEAST_COSINE:
        raise ArtifactInvalid(f"the int8 MiniLM's vectors differ: mean cosine {cosine:.3f} to fp32")
    measured = {**origin.measured, "mean_cosine_to_fp32": round(cosine, 4)}
    return Origin(origin.sources, measured, (*origin.built_with, "onnxruntime"))


def _tokens(text: str, folder: Path) -> dict[str, np.ndarray]:
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text)
    token_ids = [i for i, mask in zip(ids.ids, ids.attention_mask, strict=True) if mask]
    row = np.array([token_ids], np.int64)
    return {"input_ids": row, "attention_mask": np.ones_like(row)}
