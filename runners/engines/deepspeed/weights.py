"""Read a transformers model's weights for DeepSpeed; every failure is a LoadFailed."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from turnout.errors import LoadFailed


def check_files(name: str, folder: Path) -> None:
    """Refuse a folder that holds no transformers model.

    Raises:
        LoadFailed: with the missing file.
    """
    if not (folder / "config.json").is_file():
        raise LoadFailed(name, f"{folder / 'config.json'} is missing; build the model again")


def no_cuda(torch: Any) -> str | None:
    """Return why a model cannot run on a GPU here; None where it can."""
    if torch.cuda.is_available():
        return None
    return "PyTorch sees no CUDA device here (or is a CPU build)"


def require_gpu(name: str, mode: str, torch: Any) -> None:
    """Refuse a mode that cannot fall back to the CPU.

    Raises:
        LoadFailed: there is no GPU; with the remedy.
    """
    reason = no_cuda(torch)
    if reason is not None:
        raise LoadFailed(name, f"{mode} runs on an NVIDIA GPU only: {reason}; remove {mode}: true")


def read_weights(causal: Any, folder: Path, dtype: Any) -> Any:
    """Read the model of a folder; nothing is fetched and no pickle is read."""
    return causal.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True)


@contextmanager
def loading_quietly(name: str, folder: Path) -> Generator[tuple[Any, Any]]:
    """Yield ``deepspeed`` and transformers' class of causal models; turn failures into LoadFailed.

    Raises:
        LoadFailed: whatever the block raises, or that a package is missing.
    """
    with warnings.catch_warnings():
        # DeepSpeed's and transformers' imports warn of their own internals.
        warnings.simplefilter("ignore")
        try:
            import deepspeed
            from transformers import AutoModelForCausalLM
            from transformers.utils.logging import disable_progress_bar
        except ImportError as error:
            raise LoadFailed(
                name, f"{error}; install the extras: pip install 'turnout[llm,deepspeed]'"
            ) from error
        deepspeed.utils.logger.setLevel("WARNING")
        disable_progress_bar()
        try:
            yield deepspeed, AutoModelForCausalLM
        except LoadFailed:
            raise
        except Exception as error:
            # transformers and DeepSpeed raise anything from OSError to AssertionError
            raise LoadFailed(
                name, f"deepspeed cannot load {folder}: {type(error).__name__}: {error}"
            ) from error
