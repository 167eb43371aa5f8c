"""What a pipeline is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.pipelines.stage import Passed
from services.protocols.routing_options import RoutingOptions
from turnout.types import Tensors


@dataclass(frozen=True, slots=True)
class PipelineRequest:
    """A request to a pipeline.

    Attributes:
        tensors: its inputs.
        parameters: the words that choose routes, where the caller gives them.
        options: latency class, deadline and limits of the whole.
        limit: rows of a sorted answer at most; None leaves it to the pipeline.
        arrived_s: monotonic instant of arrival.
    """

    tensors: Tensors
    parameters: Mapping[str, str]
    options: RoutingOptions
    limit: int | None
    arrived_s: float


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """A pipeline's answer, and the decision behind each of its stages."""

    id: str
    trace_id: str
    tensors: Tensors
    stages: tuple[Passed, ...]
    ms: float
