"""The requests and results of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from turnout.types import Limits, Tensors

_NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class PipelineRequest:
    """A request to a pipeline. The latency class, deadline and limits are those of the whole.

    Attributes:
        tensors: its inputs.
        arrived_s: monotonic instant of arrival.
        parameters: the words that choose routes, where the caller gives them.
        latency_class: None leaves it to the pipeline.
        deadline_ms: None leaves it to the latency class.
        limits: cost and quality.
        max_rows: rows of a sorted answer at most; None leaves it to the pipeline.
        trace_id: W3C Trace Context's.
        session: requests of one session stay on one version.
    """

    tensors: Tensors
    arrived_s: float
    parameters: Mapping[str, str]
    latency_class: str | None = None
    deadline_ms: float | None = None
    limits: Limits = _NO_LIMITS
    max_rows: int | None = None
    trace_id: str | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class StageResult:
    """The model that answered for a stage, and the decision behind it.

    Attributes:
        stage: its name.
        decision_id: for ``GET /v1/decisions/{id}``.
        route: the route or model it called.
        model: the model that answered.
        ms: from the request's arrival at the stage to its answer.
        cost_usd: expected.
    """

    stage: str
    decision_id: str
    route: str
    model: str
    ms: float
    cost_usd: float


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """A pipeline's answer, and the results of its stages."""

    id: str
    trace_id: str
    tensors: Tensors
    stages: tuple[StageResult, ...]
    ms: float
