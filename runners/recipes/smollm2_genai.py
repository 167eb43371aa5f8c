"""SmolLM2-135M-Instruct as an ONNX Runtime GenAI folder, in one of several precisions.

The choice of the served precision is explained in docs/decisions/0003-chat-precision.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from runners.recipes.origin import Options, Origin, Report
from runners.recipes.smollm2 import GGUF, write_transformers
from turnout.errors import ArtifactInvalid

PRECISIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "fp32": ("fp32", ()),
    "int8": ("int8", ("is_symmetric=false",)),
    "int4": ("int4", ("is_symmetric=false",)),
}
"""Each precision as the model builder's own precision and extra options.

The source's blocks have a minimum and a scale (Q4_1); symmetric ones cannot hold that.
"""

_TIMEOUT_S = 900.0


def build(options: Options, out: Path, report: Report) -> Origin:
    """Write ``model.onnx``, its data, ``genai_config.json`` and the tokenizer.

    Args:
        options: ``precision``, a key of ``PRECISIONS``; ``int8`` if not given.
        out: the artefact's folder.
        report: called with one line of progress at a time.
    """
    precision = str(options.get("precision", "int8"))
    if precision not in PRECISIONS or set(options) - {"precision"}:
        names = ", ".join(PRECISIONS)
        raise ArtifactInvalid(f"smollm2-genai takes precision: {names}; not {dict(options)}")
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        source = Path(scratch) / "transformers"
        source.mkdir()
        write_transformers(source, report)
        report(f"building the {precision} graph")
        run_builder(source, out, Path(scratch) / "cache", *PRECISIONS[precision])
    return Origin(
        sources=(GGUF,),
        measured={"precision": precision},
        built_with=("onnxruntime-genai", "gguf", "transformers", "tokenizers", "onnx", "torch"),
    )


def run_builder(
    source: Path, out: Path, cache: Path, precision: str, extra: tuple[str, ...]
) -> None:
    """Run the model builder in a separate process, so that its memory is freed at the end."""
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", str(source)]
    command += ["-o", str(out), "-p", precision, "-e", "cpu", "-c", str(cache)]
    if extra:
        command += ["--extra_options", *extra]
    process = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"},
    )
    if process.returncode or not (out / "genai_config.json").is_file():
        tail = "\n".join(process.stderr.strip().splitlines()[-5:])
        raise ArtifactInvalid(f"onnxruntime_genai.models.builder failed:\n{tail}")
