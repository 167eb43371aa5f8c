"""ZeRO-Inference: serve a model larger than the device, fetching its weights layer by layer.

Each process of the model is a rank to DeepSpeed, which needs torchrun's variables;
``tensor_parallel`` starts it. It works on a CPU, but slowly and without saving memory.

Source: Aminabadi et al., DeepSpeed Inference, SC 2022.
"""

from __future__ import annotations

from typing import Any


def zero_config(offload: str, device: str, dtype: str) -> dict[str, Any]:
    """Return DeepSpeed's configuration.

    Args:
        offload: ``cpu`` or ``nvme:/FOLDER``.
        device: where a layer is computed, ``cpu`` or ``cuda``.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
    """
    place, _, path = offload.partition(":")
    param: dict[str, Any] = {"device": place, "pin_memory": device == "cuda"}
    if path:
        param["nvme_path"] = path
    return {
        "train_micro_batch_size_per_gpu": 1,  # DeepSpeed asks for it; nothing is trained
        "zero_optimization": {"stage": 3, "offload_param": param},
        "bf16": {"enabled": dtype == "bfloat16"},
        "fp16": {"enabled": dtype == "float16"},
    }


def open_offloaded(model: Any, offload: str, device: Any, dtype: Any) -> Any:
    """Move a model's weights from host memory to the target of ``offload``."""
    import deepspeed

    config = zero_config(offload, device.type, str(dtype).removeprefix("torch."))
    engine: Any = deepspeed.initialize(model=model, config=config)[0]
    return engine.module.eval()
