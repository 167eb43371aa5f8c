"""The pipelines of a catalog over one plane."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from services.dataplane.data_plane import DataPlane
from services.pipelines.executor import PipelineExecutor
from services.pipelines.types import PipelineRequest, PipelineResult
from services.protocols.open_inference import check
from turnout.catalog import Catalog
from turnout.catalog.pipeline import Pipeline
from turnout.catalog.plan import plan
from turnout.errors import InvalidRequest, TurnoutError


class Pipelines:
    """The pipelines of one plane.

    Args:
        plane: runs each stage.
    """

    def __init__(self, plane: DataPlane) -> None:
        self.plane = plane
        self.plans = {
            name: plan(plane.catalog, entry) for name, entry in plane.catalog.pipelines.items()
        }
        self._models = {
            name: frozenset(_models_of(plane.catalog, made.pipeline))
            for name, made in self.plans.items()
        }

    async def run(self, name: str, asked: PipelineRequest) -> PipelineResult:
        """Answer a request.

        Raises:
            InvalidRequest: an input or a parameter is not what the pipeline takes.
            DeadlineUnreachable: the deadline passed; says in which stages.
            Draining: no new request is taken.
            TurnoutError: a stage failed; ``stage`` says which.
        """
        made = self.plans[name]
        check(made.signature, asked.tensors)
        one = next(iter(asked.tensors.values()))
        if made.one_row and len(one) != 1:
            raise InvalidRequest(f"pipeline {name!r} answers one row a request, got {len(one)}")
        with self.plane.under_way(self._models[name]) as terms:
            return await self._answer(
                PipelineExecutor(self.plane, terms, name, made, asked), name, asked
            )

    async def _answer(
        self, work: PipelineExecutor, name: str, asked: PipelineRequest
    ) -> PipelineResult:
        status = "internal"
        try:
            composed = await work.answer()
            status = "ok"
            return composed
        except TurnoutError as error:
            status = error.code
            raise
        except asyncio.CancelledError:
            status = "cancelled"
            raise
        finally:
            took_s = self.plane.clock() - asked.arrived_s
            seconds = self.plane.metrics.pipeline_seconds
            seconds.labels(name, work.latency_class, status).observe(took_s)


def _models_of(catalog: Catalog, pipeline: Pipeline) -> Iterator[str]:
    """The models that may answer for a stage."""
    for stage in pipeline.stages.values():
        for target in catalog.names:
            if stage.matches(target) is not None:
                yield from catalog.models_of(target)
