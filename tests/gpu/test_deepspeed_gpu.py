"""DeepSpeed on an NVIDIA GPU. Never run where this was written: `make test-gpu` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runners.engines import make
from tests.contracts import tiny_models
from turnout.catalog import Model
from turnout.types import Generation, Message

pytestmark = pytest.mark.gpu
PROMPTS = ("hello there", "why?", "a" * 100)


@pytest.fixture(autouse=True)
def _gpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device here (or is a CPU build)")


def written(folder: Path, **options: Any) -> tuple[str, list[list[int]]]:
    """The provider, and the tokens of every prompt, all written together."""
    entry = {
        "task": "chat",
        "runner": {"engine": "deepspeed", "strict": True, "max_sequences": 3, **options},
        "artifact": {"tag": "tiny", "recipe": "tiny"},
        "context_tokens": 300,
    }
    runner: Any = make("tiny", Model.model_validate(entry), folder)
    active = runner.load()
    tokens = {
        runner.add(Generation((Message("user", prompt),), max_tokens=12)): list[int]()
        for prompt in PROMPTS
    }
    open_ = set(tokens)
    while open_:
        for step in runner.step():
            tokens[step.sequence] += step.piece.token_ids
            if step.piece.finish_reason is not None:
                open_.discard(step.sequence)
    runner.close()
    return active.provider, list(tokens.values())


def test_it_runs_on_the_device_and_writes_what_the_cpu_writes(tmp_path: Path) -> None:
    tiny_models.write_llama(tmp_path)
    provider, tokens = written(tmp_path, device="cuda", dtype="float32")
    assert provider == "cuda"
    assert tokens == written(tmp_path, device="cpu", dtype="float32")[1]


def test_half_precision_writes(tmp_path: Path) -> None:
    tiny_models.write_llama(tmp_path)
    provider, tokens = written(tmp_path, device="cuda", dtype="float16")
    assert provider == "cuda"
    assert all(tokens)
