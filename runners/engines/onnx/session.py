"""The ONNX Runtime engine: run ``model.onnx``.

A load imports onnxruntime, in the thread that loads; this module imports neither it nor pydantic
nor the catalog, so that a cold start pays for onnxruntime and numpy only.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from runners.engines.load_cost import LoadMeter
from runners.engines.onnx.graph_cache import mapped_graph
from turnout.errors import LoadFailed, RunFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from runners.engines.onnx.io_binding import BoundRuns
    from runners.protocol import ActiveEngine
    from turnout.catalog import Model
    from turnout.types import Tensors

Provider: TypeAlias = tuple[str, dict[str, Any]]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
FILE = "model.onnx"


class OnnxRunner:
    """Runs a model in an ONNX Runtime session.

    Args:
        name: the model's name, for errors.
        path: the ``.onnx`` file.
        provider: ``cpu`` or ``cuda``, as requested.
        threads: the threads of a run; 1 when a process has many sessions.
        strict: refuse to load when another provider would run.
        device: index of the GPU.
        optimised: the file is a graph that ``optimized_graph`` saved here: run it as it is.
        cuda_graph: on CUDA, bind inputs and outputs and replay each batch size as one graph.
    """

    _engine = "onnx"

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        provider: Literal["cpu", "cuda"] = "cpu",
        threads: int = 1,
        strict: bool = False,
        device: int = 0,
        optimised: bool = False,
        cuda_graph: bool = False,
    ) -> None:
        self._name = name
        self._path = path
        self._provider = provider
        self._threads = threads
        self._strict = strict
        self._device = device
        self._optimised = optimised
        self._cuda_graph = cuda_graph
        self._bound: BoundRuns | None = None
        self._beside_others = False
        self._session: Any = None
        self._outputs: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, model: Model, folder: Path) -> OnnxRunner:
        """Build the runner of a catalog entry."""
        options = model.runner
        if options.engine != "onnx":
            raise LoadFailed(name, f"engine {options.engine!r} given to the onnx runner")
        return cls(
            name,
            folder / FILE,
            provider=options.provider,
            threads=options.threads,
            strict=options.strict,
            device=options.device,
            cuda_graph=options.cuda_graph,
        )

    def share(self) -> None:
        """Load as one of many in this process; call before ``load``.

        Sessions then share one scratch arena, and map the weights of a graph that
        ``optimized_graph`` saved on this machine instead of copying them.
        """
        self._beside_others = True

    def load(self) -> ActiveEngine:
        """Open the session; see ``Runner.load``."""
        meter = LoadMeter(self._engine)
        if not self._path.is_file():
            raise LoadFailed(
                self._name, f"{self._path} is missing; build the model again (make setup)"
            )
        providers = self._providers()
        requested = providers[0][0]
        reason = unavailable(requested)
        if reason is not None and self._strict:
            raise LoadFailed(self._name, f"{reason}; strict forbids a fallback")
        providers = [provider for provider in providers if unavailable(provider[0]) is None]
        session = self._mapped(providers) or open_session(
            self._name,
            self._path,
            providers,
            threads=self._threads,
            strict=self._strict and requested != CPU,
            optimised=self._optimised,
            beside_others=self._beside_others,
        )
        active = session.get_providers()[0]
        if active != requested and reason is None:
            reason = f"{requested} did not start: no usable device, driver or library"
            if self._strict:
                raise LoadFailed(self._name, f"{reason}; strict forbids a fallback")
        if self._cuda_graph and active == CUDA:
            from runners.engines.onnx.io_binding import BoundRuns  # only for CUDA graphs

            self._bound = BoundRuns(self._name, session, "cuda", self._device)
        self._session = session
        self._outputs = tuple(output.name for output in session.get_outputs())
        return meter.finish(requested, active, precision=_precision(self._path), reason=reason)

    def run(self, tensors: Tensors) -> Mapping[str, np.ndarray[Any, Any]]:
        """Run one batch; see ``TensorRunner.run``."""
        if self._session is None:
            raise RunFailed(self._name, "is not loaded; call load first")
        try:
            if self._bound is not None:
                return self._bound.run(tensors)
            produced = self._session.run(self._outputs, dict(tensors))
        except Exception as error:
            # onnxruntime raises a class of its own for each status, and ValueError for names.
            # Imported by a failed run only, so that a cold start does not pay for it.
            from runners.engines.onnx.declared import explain

            raise RunFailed(self._name, explain(self._session, tensors, error)) from error
        return dict(zip(self._outputs, produced, strict=True))

    def close(self) -> None:
        """Release the session."""
        self._session = None
        self._bound = None

    def _mapped(self, providers: Sequence[Provider]) -> Any:
        """Open a session over the saved graph of this file; None where none is valid."""
        if not self._beside_others or self._optimised or providers[0][0] != CPU:
            return None
        graph = mapped_graph(self._path)
        if graph is None:
            return None
        try:
            return open_session(
                self._name,
                graph,
                providers,
                threads=self._threads,
                optimised=True,
                beside_others=True,
            )
        except LoadFailed as error:
            import logging  # a cold start does not pay for it

            logging.getLogger("turnout.onnx").warning("%s; read from its own file instead", error)
            return None

    def _providers(self) -> list[Provider]:
        """Return providers with their options: the requested one first, the CPU last."""
        cpu: Provider = (CPU, {})
        if self._provider == "cpu":
            return [cpu]
        cuda: Provider = (CUDA, {"device_id": self._device})
        if self._cuda_graph:
            cuda[1]["enable_cuda_graph"] = "1"
        return [cuda, cpu]


def _precision(path: Path) -> str:
    """Return the precision the passes over this file gave its weights; float32 without passes."""
    try:
        manifest = json.loads(path.with_name("artifact.json").read_text("utf-8"))
        passes = str(manifest["measured"]["passes"])
    except (OSError, ValueError, KeyError, TypeError):
        return "float32"
    if "int8" in passes:
        return "int8"
    return "float16" if "fp16" in passes else "float32"


def unavailable(provider: str) -> str | None:
    """Return why this build of onnxruntime lacks a provider; None when it has it."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if provider in available:
        return None
    return (
        f"this build of onnxruntime has no {provider} (it has {', '.join(available)}); "
        "install onnxruntime-gpu on a machine with an NVIDIA GPU"
    )


def open_session(
    name: str,
    path: Path,
    providers: Sequence[Provider],
    *,
    threads: int,
    strict: bool = False,
    optimised: bool = False,
    beside_others: bool = False,
) -> Any:
    """Open a session configured to share its process with others.

    Idle threads do not spin, which would take the cores from other models, and operators run one
    after another. With one thread a session runs on its caller's thread. ``beside_others`` shares
    scratch memory between such sessions, which would otherwise each keep their peak.

    Raises:
        LoadFailed: ONNX Runtime cannot run the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if beside_others:
        _share_scratch()
        options.add_session_config_entry("session.use_env_allocators", "1")
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if strict:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:
        # onnxruntime raises a class of its own for each status.
        raise LoadFailed(
            name, f"onnxruntime cannot load {path}: {error}; build the model again (make setup)"
        ) from error


@cache
def _share_scratch() -> None:
    """Register this process's one scratch arena, before its first shared session."""
    import onnxruntime

    onnxruntime.create_and_register_allocator(
        onnxruntime.OrtMemoryInfo(
            "Cpu",
            onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
            0,
            onnxruntime.OrtMemType.DEFAULT,
        ),
        None,
    )
