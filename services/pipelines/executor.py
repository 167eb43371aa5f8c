"""One request on its way through the stages of a pipeline."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

import numpy as np

from services.dataplane.data_plane import DataPlane, Snapshot
from services.pipelines.deadline_split import seconds_after, share_s
from services.pipelines.stage import StageTime, estimate, resolve, run, stage_inputs, text_of
from services.pipelines.types import PipelineRequest, PipelineResult, StageResult
from turnout.catalog.pipeline import Reference
from turnout.catalog.plan import Plan
from turnout.errors import DeadlineUnreachable, InvalidRequest, TurnoutError, UnknownClass
from turnout.types import Limits, Request, Tensors


class PipelineExecutor:
    """Runs the stages of one request.

    Args:
        plane: runs each stage.
        snapshot: the catalog of this request, whatever is reloaded meanwhile.
        name: of the pipeline.
        plan: the pipeline held against the catalog.
        request: the request, its tensors checked.

    Raises:
        UnknownClass: no latency class has the name the request gives.
        InvalidRequest: a parameter is missing or leads to no route.
    """

    def __init__(
        self,
        plane: DataPlane,
        snapshot: Snapshot,
        name: str,
        plan: Plan,
        request: PipelineRequest,
    ) -> None:
        self._plane = plane
        self._snapshot = snapshot
        self._name = name
        self._plan = plan
        self._pipeline = pipeline = plan.pipeline
        self._request = request
        self.latency_class = request.latency_class or pipeline.latency_class
        latency_class = snapshot.catalog.classes.get(self.latency_class)
        if latency_class is None:
            raise UnknownClass(self.latency_class, tuple(snapshot.catalog.classes))
        deadline_ms = request.deadline_ms or latency_class.deadline_ms
        self._deadline_s = request.arrived_s + deadline_ms / 1e3
        self._late_is_answered = latency_class.infeasible == "queue"
        self._id = plane.new_id()
        self._trace_id = request.trace_id or os.urandom(16).hex()
        self._parameters = parameter_values(name, plan, request.parameters)
        self._tensors: dict[str | None, Tensors] = {None: request.tensors}
        self._results: dict[str, StageResult] = {}
        needed = pipeline.needed(self._parameters)
        self._order = [stage for stage in plan.order if stage in needed]
        self._needs = {stage: pipeline.needs(stage, self._parameters) for stage in self._order}
        self._ended = {stage: asyncio.Event() for stage in self._order}
        self._readers = {
            stage: tuple(other for other in self._order if stage in self._needs[other])
            for stage in self._order
        }

    async def run(self) -> PipelineResult:
        """Run every stage as soon as the stages it reads have ended."""
        left_s = None if self._late_is_answered else self._deadline_s - self._plane.clock()
        try:
            async with asyncio.timeout(left_s), asyncio.TaskGroup() as group:
                for stage in self._order:
                    group.create_task(self._run_stage(stage))
        except TimeoutError:
            raise self._deadline_passed() from None
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        ms = (self._plane.clock() - self._request.arrived_s) * 1e3
        results = tuple(self._results[stage] for stage in self._order)
        return PipelineResult(self._id, self._trace_id, self._answer(), results, ms)

    async def _run_stage(self, name: str) -> None:
        for needed in self._needs[name]:
            await self._ended[needed].wait()
        try:
            await self._call(name)
        except TurnoutError as error:
            error.stage = name
            raise
        self._ended[name].set()

    async def _call(self, name: str) -> None:
        began_s = self._plane.clock()
        route = self._route(name)
        request = self._stage_request(name, route, began_s)
        answer, self._tensors[name] = await run(self._plane, request, self._snapshot)
        decision = answer.decision
        costs = {each.model: each.prediction.cost_usd for each in decision.candidates}
        ms = (self._plane.clock() - began_s) * 1e3
        self._results[name] = StageResult(
            name, decision.id, route, answer.model, ms, costs.get(answer.model, 0.0)
        )

    def _stage_request(self, name: str, route: str, now_s: float) -> Request:
        stage, task = self._pipeline.stages[name], self._plan.tasks[name]
        inputs, rows = stage_inputs(stage, task, self._tensors)
        models = self._snapshot.catalog.models_of(route)
        time = estimate(self._plane, models, task, rows, stage)
        return Request(
            f"{self._id}.{name}",
            route,
            task,
            inputs,
            self.latency_class,
            now_s,
            now_s + self._share_s(name, time, now_s),
            self._limits(),
            self._trace_id,
            self._request.session,
        )

    def _share_s(self, name: str, time: StageTime, now_s: float) -> float:
        """The stage's share of the time left; of a generated answer, up to its first token."""
        after_s = seconds_after(name, self._readers, lambda later: self._later(later).total_s)
        share = share_s(max(self._deadline_s - now_s, 0.0), time.total_s, after_s)
        return share * (time.first_s / time.total_s) if time.total_s > 0 else share

    def _later(self, name: str) -> StageTime:
        """Time that a later stage is expected to take; its route may not be chosen yet."""
        stage = self._pipeline.stages[name]
        values = {w: self._parameters.get(w) or self._plan.values[w][0] for w in stage.words}
        rows = 1
        for reference in stage.references():
            if reference.first and reference.stage in self._tensors:
                rows = len(resolve(reference, self._tensors))
        models = self._snapshot.catalog.models_of(stage.filled(values))
        return estimate(self._plane, models, self._plan.tasks[name], rows, stage)

    def _limits(self) -> Limits:
        """The caller's limits; what earlier stages spent comes off the cost limit of the whole."""
        limits = self._request.limits
        if limits.max_cost_usd is None:
            return limits
        spent = sum(result.cost_usd for result in self._results.values())
        return Limits(max(limits.max_cost_usd - spent, 0.0), limits.min_quality)

    def _route(self, name: str) -> str:
        stage = self._pipeline.stages[name]
        for word in stage.words:
            if word not in self._parameters:
                self._parameters[word] = self._parameter_of_stage(word)
        return stage.filled(self._parameters)

    def _parameter_of_stage(self, word: str) -> str:
        """A parameter's value from the output of the stage that it names as its source."""
        parameter, values = self._pipeline.parameters[word], self._plan.values[word]
        reference = Reference.read(parameter.source or "")
        value = text_of(np.atleast_1d(resolve(reference, self._tensors)))
        if value in values:
            return value
        if parameter.default is not None:
            return parameter.default
        raise InvalidRequest(
            f"stage {reference.stage!r} found {word} {value!r}, which has no route; give {word} "
            f"in the request: {', '.join(values)}",
            param=word,
        )

    def _answer(self) -> Tensors:
        answer = {
            name: resolve(Reference.read(text), self._tensors)
            for name, text in self._pipeline.out.items()
        }
        if self._pipeline.sort_by is None:
            return answer
        order = np.argsort(-answer[self._pipeline.sort_by], kind="stable")
        order = order[: self._request.max_rows or self._pipeline.limit]
        return {name: tensor[order] for name, tensor in answer.items()}

    def _deadline_passed(self) -> DeadlineUnreachable:
        missing = [stage for stage in self._order if stage not in self._results]
        error = DeadlineUnreachable(
            f"pipeline {self._name!r}: the deadline passed before its end; "
            f"not done: {', '.join(missing)}",
            retry_after_s=1.0,
        )
        error.stage = missing[0] if missing else None
        return error


def parameter_values(name: str, plan: Plan, parameters: Mapping[str, str]) -> dict[str, str]:
    """The caller's parameters and the defaults of those that no stage finds.

    Raises:
        InvalidRequest: a parameter is unknown, missing, or has no route.
    """
    for word, value in parameters.items():
        if word not in plan.values:
            words = ", ".join(plan.values) or "none"
            raise InvalidRequest(
                f"pipeline {name!r} has no parameter {word!r}; it has {words}", param=word
            )
        if value not in plan.values[word]:
            values = ", ".join(plan.values[word])
            raise InvalidRequest(f"{word} {value!r} is unknown; known here: {values}", param=word)
    values = dict(parameters)
    for word, parameter in plan.pipeline.parameters.items():
        if word in values or parameter.source is not None:
            continue
        if parameter.default is None:
            known = ", ".join(plan.values[word])
            raise InvalidRequest(f"parameter {word!r} is missing; known here: {known}", param=word)
        values[word] = parameter.default
    return values


def _first(errors: BaseExceptionGroup) -> BaseException:
    """The stage's error that ended the others."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
