"""The TensorRT engine, through ONNX Runtime's provider; built engines are kept on disk.

An engine is built once per model, device, driver and version. Without the provider or the device,
the catalog's fallback serves and the reason is recorded.
"""

from __future__ import annotations

import hashlib
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.engines.onnx.declared import declared_inputs
from runners.engines.onnx.session import (
    CPU,
    CUDA,
    FILE,
    OnnxRunner,
    open_session,
    unavailable,
)
from turnout.cache_folder import cache_folder
from turnout.errors import LoadFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runners.engines.onnx.session import Provider
    from runners.engines.shape_check import DeclaredInput
    from turnout.catalog import Model
    from turnout.catalog.engines import TensorRT

TENSORRT = "TensorrtExecutionProvider"


class TensorRTRunner(OnnxRunner):
    """An ONNX Runtime session that requests TensorRT.

    Args:
        name: the model's name, for errors.
        path: the ``.onnx`` file.
        options: the catalog's.
        cache: the folder of built engines; by default ``tensorrt`` below the cache folder.
    """

    _engine = "tensorrt"

    def __init__(
        self, name: str, path: Path, options: TensorRT, *, cache: Path | None = None
    ) -> None:
        super().__init__(
            name, path, threads=options.threads, strict=options.strict, device=options.device
        )
        self._options = options
        self._cache = cache or cache_folder() / "tensorrt"

    @classmethod
    def of(cls, name: str, model: Model, folder: Path) -> TensorRTRunner:
        """Build the runner of a catalog entry."""
        options = model.runner
        if options.engine != "tensorrt":
            raise LoadFailed(name, f"engine {options.engine!r} given to the tensorrt runner")
        return cls(name, folder / FILE, options)

    def _providers(self) -> list[Provider]:
        options = self._tensorrt_options() if unavailable(TENSORRT) is None else {}
        providers: list[Provider] = [(TENSORRT, options)]
        if self._options.fallback == "cuda":
            providers.append((CUDA, {"device_id": self._device}))
        return [*providers, (CPU, {})]

    def _tensorrt_options(self) -> dict[str, Any]:
        # The inputs' names and shapes come from the model; a session on the CPU reads them.
        session = open_session(self._name, self._path, [(CPU, {})], threads=1)
        device, driver = device_and_driver(self._device)
        folder = self._cache / cache_key(
            hashlib.sha256(self._path.read_bytes()).hexdigest(), device, driver, versions()
        )
        folder.mkdir(parents=True, exist_ok=True)
        return provider_options(self._options, declared_inputs(session), folder)


def provider_options(
    options: TensorRT, inputs: Sequence[DeclaredInput], cache: Path
) -> dict[str, Any]:
    """Return the provider's options. Pure.

    Args:
        options: the catalog's.
        inputs: of the model.
        cache: an existing folder for engines and the timing cache of this model on this device.

    Returns:
        with explicit shape profiles when the rows are each input's only free axis; otherwise
        ONNX Runtime makes profiles of the shapes it meets, and builds again for new ones.

    Source: ONNX Runtime documentation, "TensorRT Execution Provider", configuration options.
    """
    provider: dict[str, Any] = {
        "device_id": options.device,
        "trt_max_workspace_size": options.workspace_mib * 1024**2,
        "trt_fp16_enable": options.precision == "fp16",
        "trt_int8_enable": options.precision == "int8",
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(cache),
    }
    if not any(None in entry.shape[1:] for entry in inputs):
        for key, rows in (
            ("min", options.min_rows),
            ("opt", options.opt_rows),
            ("max", options.max_rows),
        ):
            provider[f"trt_profile_{key}_shapes"] = ",".join(
                f"{entry.name}:{_dims(entry, rows)}" for entry in inputs if entry.shape
            )
    return provider


def cache_key(model_sha256: str, device: str, driver: str, version: str) -> str:
    """Return the name of an engine's folder: each model, device, driver and version has its own."""
    key = "\n".join((model_sha256, device, driver, version))
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def device_and_driver(index: int) -> tuple[str, str]:
    """Return a GPU's name and its driver's version; ``unknown`` where nvidia-smi fails."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        device, _, driver = answer.stdout.splitlines()[index].partition(",")
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown", "unknown"
    return device.strip(), driver.strip()


def versions() -> str:
    """Return the versions of ONNX Runtime and TensorRT, which refuse each other's engines."""
    import onnxruntime

    try:
        tensorrt = metadata.version("tensorrt")
    except metadata.PackageNotFoundError:
        tensorrt = "bundled"
    return f"onnxruntime {onnxruntime.__version__}, tensorrt {tensorrt}"


def _dims(entry: DeclaredInput, rows: int) -> str:
    return "x".join(str(size or rows) for size in (entry.shape[0] or rows, *entry.shape[1:]))
