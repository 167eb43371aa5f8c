"""The options of each inference engine, one strict model each, told apart by ``engine``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from turnout.types import Task

TENSOR_TASKS = frozenset(Task) - {Task.CHAT}
_LEAST_OF_A_PROMPT = 8


class Engine(BaseModel):
    """What every engine shares.

    Attributes:
        strict: refuse to load when another provider than the requested one would run.
        tasks: the tasks this engine can do; None is every one.
        needs_files: whether a model that runs here must name an artifact.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    tasks: ClassVar[frozenset[Task] | None] = None
    needs_files: ClassVar[bool] = True
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


class TextEngine(Engine):
    """What the engines that write text here share.

    Attributes:
        max_sequences: answers written at the same time.
        threads: of one pass.
        step_tokens: the token budget of a step: a running answer takes one each, a prompt that is
            being read the rest. Fewer keep running answers smoother, more read prompts sooner.
        draft_tokens: the most tokens guessed ahead where an answer repeats what was said before
            and nothing is written beside it; the model checks them in one pass. 0 guesses none.
    """

    tasks: ClassVar = frozenset({Task.CHAT})
    max_sequences: PositiveInt = 4
    threads: PositiveInt = 2
    step_tokens: PositiveInt = 128
    draft_tokens: Annotated[int, Field(ge=0, le=16)] = 0

    @model_validator(mode="after")
    def _leaves_room_for_a_prompt(self) -> Self:
        least = self.max_sequences + _LEAST_OF_A_PROMPT
        if self.step_tokens < least:
            raise ValueError(
                f"step_tokens {self.step_tokens} leaves nothing to read prompts with beside "
                f"{self.max_sequences} answers: at least {least}"
            )
        return self


class DeepSpeed(TextEngine):
    """DeepSpeed inference over a transformers model.

    Attributes:
        tensor_parallel: ranks the model is split over.
        kernel_inject: DeepSpeed's fused layers; one answer at a time, on a GPU.
        fastgen: DeepSpeed's own ragged batches over a paged cache, on a GPU.
        offload: ZeRO-Inference: weights stay in the host's memory (``cpu``) or in a folder on a
            disk (``nvme:/FOLDER``) and come to the device layer by layer.
    """

    engine: Literal["deepspeed"]
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["cpu", "cuda"] = "cpu"
    tensor_parallel: PositiveInt = 1
    kernel_inject: bool = False
    fastgen: bool = False
    offload: Annotated[str, Field(pattern=r"^(cpu|nvme:/.*)$")] | None = None

    @model_validator(mode="after")
    def _one_way_at_a_time(self) -> Self:
        modes = [key for key in ("kernel_inject", "fastgen", "offload") if getattr(self, key)]
        if len(modes) > 1:
            raise ValueError(f"{' and '.join(modes)} exclude each other: keep one")
        mode = modes[0] if modes else ""
        fused = mode in {"kernel_inject", "fastgen"}
        for violated, needed in (
            (fused and self.device != "cuda", "device: cuda"),
            (fused and self.draft_tokens > 0, "draft_tokens: 0"),
            (mode == "fastgen" and self.dtype == "float32", "dtype: bfloat16 or float16"),
            (mode == "kernel_inject" and self.max_sequences > 1, "max_sequences: 1"),
            (
                mode in {"kernel_inject", "offload"} and self.tensor_parallel > 1,
                "tensor_parallel: 1",
            ),
        ):
            if violated:
                raise ValueError(f"{mode} needs {needed}")
        return self


class OnnxGenAI(TextEngine):
    """ONNX Runtime GenAI: generation with its own decode loop and caches."""

    engine: Literal["onnx-genai"]


class Fake(Engine):
    """Deterministic stand-in for tests: waits ``latency_ms`` and echoes.

    Attributes:
        fail: what goes wrong: nothing; the load; every run (``run``); answers that are no numbers
            (``nan``); a run that never comes back (``hang``); ``leak_bytes`` kept by every run
            (``leak``); ten times the latency (``slow``).
        after_runs: runs that go well before it does.
        leak_bytes: what a leaking run keeps.
    """

    needs_files: ClassVar = False
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
