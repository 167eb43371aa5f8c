"""The pipelines of a catalog over one plane."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from services.dataplane.data_plane import DataPlane
from services.pipelines.executor import PipelineExecutor
from services.pipelines.types import PipelineRequest, PipelineResult
from turnout.catalog import Catalog
from turnout.catalog.pipeline import Pipeline
from turnout.catalog.plan import plan
from turnout.errors import InvalidRequest, TurnoutError


class PipelineRegistry:
    """The pipelines of one plane, by name.

    Args:
        plane: runs each stage.
    """

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self.plans = {
            name: plan(plane.catalog, pipeline)
            for name, pipeline in plane.catalog.pipelines.items()
        }
        self._models = {
            name: frozenset(_models_of(plane.catalog, pipeline))
            for name, pipeline in plane.catalog.pipelines.items()
        }

    async def run(self, name: str, request: PipelineRequest) -> PipelineResult:
        """Answer a request, whose tensors fit the pipeline's signature.

        Raises:
            InvalidRequest: a parameter or the number of rows is not what the pipeline takes.
            DeadlineUnreachable: the deadline passed; says in which stages.
            Draining: no new request is taken.
            TurnoutError: a stage failed; ``stage`` says which.
        """
        pipeline_plan = self.plans[name]
        rows = len(next(iter(request.tensors.values())))
        if pipeline_plan.one_row and rows != 1:
            raise InvalidRequest(f"pipeline {name!r} answers one row a request, got {rows}")
        with self._plane.under_way(self._models[name]) as snapshot:
            executor = PipelineExecutor(self._plane, snapshot, name, pipeline_plan, request)
            return await self._timed(executor, name, request)

    async def _timed(
        self, executor: PipelineExecutor, name: str, request: PipelineRequest
    ) -> PipelineResult:
        """Run an executor, and observe how long it took and how it ended."""
        status = "internal"
        try:
            result = await executor.run()
            status = "ok"
            return result
        except TurnoutError as error:
            status = error.code
            raise
        except asyncio.CancelledError:
            status = "cancelled"
            raise
        finally:
            took_s = self._plane.clock() - request.arrived_s
            seconds = self._plane.metrics.pipeline_seconds
            seconds.labels(name, executor.latency_class, status).observe(took_s)


def _models_of(catalog: Catalog, pipeline: Pipeline) -> Iterator[str]:
    """The models that may answer for a stage."""
    for stage in pipeline.stages.values():
        for target in catalog.names:
            if stage.matches(target) is not None:
                yield from catalog.models_of(target)
