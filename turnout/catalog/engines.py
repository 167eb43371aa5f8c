"""The options of each inference engine, one strict model each, told apart by ``engine``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from turnout.types import Task

TENSOR_TASKS = frozenset(Task) - {Task.CHAT}


class Engine(BaseModel):
    """What every engine shares.

    Attributes:
        strict: refuse to load when another provider than the requested one would run.
        tasks: the tasks this engine can do; None is every one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    tasks: ClassVar[frozenset[Task] | None] = None
    strict: bool = False


class RemoteEngine(Engine):
    """An engine that runs elsewhere and is reached by URL.

    Attributes:
        url: where, without the protocol's own path.
        timeout_s: longest wait for one answer.
    """

    url: Annotated[str, Field(pattern=r"^(https?|unix)://")]
    timeout_s: Annotated[float, Field(gt=0)] = 60.0


class Onnx(Engine):
    """ONNX Runtime. ``provider`` is asked for; what runs is reported beside it.

    Attributes:
        cuda_graph: on CUDA, replay each batch size as one captured graph.
    """

    tasks: ClassVar = TENSOR_TASKS
    engine: Literal["onnx"]
    provider: Literal["cpu", "cuda"] = "cpu"
    threads: PositiveInt = 1
    device: Annotated[int, Field(ge=0)] = 0
    cuda_graph: bool = False


class Torch(Engine):
    """PyTorch on an exported program (``torch.export``)."""

    tasks: ClassVar = TENSOR_TASKS
    engine: Literal["torch"]
    device: Literal["cpu", "cuda"] = "cpu"
    threads: PositiveInt = 1


class TensorRT(Engine):
    """TensorRT through ONNX Runtime's provider, with an engine cache and shape profiles.

    Attributes:
        fallback: what serves where TensorRT can't; the reason is recorded.
        min_rows, opt_rows, max_rows: the batch sizes of the optimisation profile.
    """

    tasks: ClassVar = TENSOR_TASKS
    engine: Literal["tensorrt"]
    precision: Literal["fp32", "fp16", "int8"] = "fp16"
    fallback: Literal["cuda", "cpu"] = "cpu"
    threads: PositiveInt = 1
    device: Annotated[int, Field(ge=0)] = 0
    min_rows: PositiveInt = 1
    opt_rows: PositiveInt = 8
    max_rows: PositiveInt = 64
    workspace_mib: PositiveInt = 1024


class DeepSpeed(Engine):
    """DeepSpeed inference over a transformers model.

    Attributes:
        kernel_inject: DeepSpeed's fused kernels; needs a GPU.
        tensor_parallel: ranks the model is split over.
        max_sequences: answers written at the same time.
    """

    tasks: ClassVar = frozenset({Task.CHAT})
    engine: Literal["deepspeed"]
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["cpu", "cuda"] = "cpu"
    kernel_inject: bool = False
    tensor_parallel: PositiveInt = 1
    max_sequences: PositiveInt = 4
    threads: PositiveInt = 2


class OnnxGenAI(Engine):
    """ONNX Runtime GenAI: generation with its own decode loop and caches."""

    tasks: ClassVar = frozenset({Task.CHAT})
    engine: Literal["onnx-genai"]
    max_sequences: PositiveInt = 4
    threads: PositiveInt = 2


class Fake(Engine):
    """Deterministic stand-in for tests: waits ``latency_ms`` and echoes.

    Attributes:
        fail: what goes wrong: nothing; the load; every run (``run``); answers that are no numbers
            (``nan``); a run that never comes back (``hang``); ``leak_bytes`` kept by every run
            (``leak``); ten times the latency (``slow``).
        after_runs: runs that go well before it does.
        leak_bytes: what a leaking run keeps.
    """

    engine: Literal["fake"]
    latency_ms: Annotated[float, Field(ge=0)] = 0.0
    per_row_ms: Annotated[float, Field(ge=0)] = 0.0
    fail: Literal["never", "load", "run", "nan", "hang", "leak", "slow"] = "never"
    after_runs: Annotated[int, Field(ge=0)] = 0
    leak_bytes: Annotated[int, Field(ge=0)] = 1024**2
    max_sequences: PositiveInt = 4


class OpenAI(RemoteEngine):
    """Any OpenAI-compatible upstream.

    Attributes:
        model: the upstream's own name for the model.
        api_key_env: environment variable that holds the key; None sends none.
    """

    tasks: ClassVar = frozenset({Task.CHAT})
    engine: Literal["openai"]
    model: str
    api_key_env: str | None = None


class OpenInference(RemoteEngine):
    """Any Open Inference Protocol v2 server: Triton, MLServer, KServe or another Turnout."""

    tasks: ClassVar = TENSOR_TASKS
    engine: Literal["open-inference"]
    model: str


Runner = Annotated[
    Onnx | Torch | TensorRT | DeepSpeed | OnnxGenAI | Fake | OpenAI | OpenInference,
    Field(discriminator="engine"),
]
