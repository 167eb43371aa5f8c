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


def untied(folder: Path, **changes: Any) -> None:
    """The tiny model with heads of 64 and as many for keys and values, as fused kernels want."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tiny_models.write_llama(folder)
    small: Any = LlamaConfig.from_pretrained(folder)
    small.update({"hidden_size": 256, "num_key_value_heads": 4, "head_dim": 64} | changes)
    LlamaForCausalLM(small).save_pretrained(folder)


def written(folder: Path, **options: Any) -> tuple[str, list[list[int]]]:
    """The provider, and the tokens of every prompt, as many at a time as there is room for."""
    entry = {
        "task": "chat",
        "runner": {"engine": "deepspeed", "strict": True, "max_sequences": 3, **options},
        "artifact": {"tag": "tiny", "recipe": "tiny"},
        "context_tokens": 300,
    }
    runner: Any = make("tiny", Model.model_validate(entry), folder)
    active = runner.load()
    tokens: dict[int, list[int]] = {}
    waiting = list(PROMPTS)
    open_: set[int] = set()
    while waiting or open_:
        while waiting and len(open_) < runner.max_sequences:
            number = runner.add(Generation((Message("user", waiting.pop(0)),), max_tokens=12))
            tokens[number] = []
            open_.add(number)
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


def test_fastgen_writes_what_plain_layers_write(tmp_path: Path) -> None:
    untied(tmp_path)
    plain = written(tmp_path, device="cuda", dtype="bfloat16")[1]
    provider, tokens = written(tmp_path, device="cuda", dtype="bfloat16", fastgen=True)
    assert provider == "cuda"
    assert [each[0] for each in tokens] == [each[0] for each in plain]
    assert all(tokens)


def test_fused_layers_write_what_plain_layers_write(tmp_path: Path) -> None:
    untied(tmp_path)
    plain = written(tmp_path, device="cuda", dtype="float32")[1]
    fused = {"kernel_inject": True, "max_sequences": 1}
    provider, tokens = written(tmp_path, device="cuda", dtype="float32", **fused)
    assert provider == "cuda"
    assert [each[0] for each in tokens] == [each[0] for each in plain]


@pytest.mark.parametrize("place", ["cpu", "nvme"])
def test_weights_kept_apart_from_the_device_write_the_same(tmp_path: Path, place: str) -> None:
    untied(tmp_path)
    disk = tmp_path / "swap"
    disk.mkdir()
    plain = written(tmp_path, device="cuda", dtype="float32")[1]
    offload = "cpu" if place == "cpu" else f"nvme:{disk}"
    assert written(tmp_path, device="cuda", dtype="float32", offload=offload)[1] == plain
