"""One request on its way through the stages of a pipeline."""

from __future__ import annotations

import asyncio
import os

import numpy as np

from services.dataplane.data_plane import DataPlane, Snapshot
from services.pipelines.deadline_split import seconds_after, share_s
from services.pipelines.stage import Expected, Passed, expected, generation, run, taken, text_of
from services.pipelines.types import PipelineRequest, PipelineResult
from turnout.catalog.pipeline import Reference
from turnout.catalog.plan import Plan
from turnout.errors import DeadlineUnreachable, InvalidRequest, TurnoutError, UnknownClass
from turnout.types import Limits, Request, Task, Tensors


class PipelineExecutor:
    """One request on its way through a pipeline.

    Args:
        plane: runs each stage.
        terms: what they go by, whatever is reloaded meanwhile.
        name: of the pipeline.
        made: the pipeline held against the catalog.
        asked: the request, its tensors checked.

    Raises:
        UnknownClass: no latency class has the name the request gives.
        InvalidRequest: a parameter is missing or leads to no route.
    """

    def __init__(
        self, plane: DataPlane, terms: Snapshot, name: str, made: Plan, asked: PipelineRequest
    ) -> None:
        self._plane = plane
        self._terms = terms
        self._name = name
        self._plan = made
        self._pipeline = made.pipeline
        self._asked = asked
        self.latency_class = asked.options.latency_class or made.pipeline.latency_class
        known = terms.catalog.classes.get(self.latency_class)
        if known is None:
            raise UnknownClass(self.latency_class, tuple(terms.catalog.classes))
        deadline_ms = asked.options.deadline_ms or known.deadline_ms
        self._deadline_s = asked.arrived_s + deadline_ms / 1e3
        self._waits = known.infeasible == "queue"
        self._id = plane.new_id()
        self._trace_id = asked.options.trace_id or os.urandom(16).hex()
        self._values = self._said()
        self._done: dict[str, Tensors] = {}
        self._passed: dict[str, Passed] = {}
        needed = made.pipeline.needed(self._values)
        self._order = [stage for stage in made.order if stage in needed]
        self._needs = {stage: made.pipeline.needs(stage, self._values) for stage in self._order}
        self._ended = {stage: asyncio.Event() for stage in self._order}
        self._readers = {
            stage: tuple(other for other in self._order if stage in self._needs[other])
            for stage in self._order
        }

    async def answer(self) -> PipelineResult:
        """Run every stage as soon as what it reads is there."""
        left_s = None if self._waits else self._deadline_s - self._plane.clock()
        try:
            async with asyncio.timeout(left_s), asyncio.TaskGroup() as group:
                for stage in self._order:
                    group.create_task(self._stage(stage))
        except TimeoutError:
            raise self._late() from None
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        ms = (self._plane.clock() - self._asked.arrived_s) * 1e3
        passed = tuple(self._passed[stage] for stage in self._order)
        return PipelineResult(self._id, self._trace_id, self._answered(), passed, ms)

    async def _stage(self, name: str) -> None:
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
        request = self._request(name, route, began_s)
        answer, self._done[name] = await run(self._plane, request, self._terms)
        decision = answer.decision
        costs = {each.model: each.prediction.cost_usd for each in decision.candidates}
        ms = (self._plane.clock() - began_s) * 1e3
        self._passed[name] = Passed(
            name, decision.id, route, answer.model, ms, costs.get(answer.model, 0.0)
        )

    def _request(self, name: str, route: str, now_s: float) -> Request:
        stage, task = self._pipeline.stages[name], self._plan.tasks[name]
        given = self._asked.tensors
        if task is Task.CHAT:
            inputs = generation(stage, given, self._done)
            rows = 1
        else:
            inputs = {
                tensor: taken(Reference.read(text), given, self._done)
                for tensor, text in stage.inputs.items()
            }
            rows = len(next(iter(inputs.values())))
        models = self._terms.catalog.models_of(route)
        own = expected(self._plane, models, task, rows, stage)
        after_s = seconds_after(name, self._readers, lambda later: self._expected(later).whole_s)
        share = share_s(max(self._deadline_s - now_s, 0.0), own.whole_s, after_s)
        # A written answer's deadline is its first token's.
        first = own.first_s / own.whole_s if own.whole_s > 0 else 1.0
        return Request(
            f"{self._id}.{name}",
            route,
            task,
            inputs,
            self.latency_class,
            now_s,
            now_s + share * first,
            self._limits(),
            self._trace_id,
            self._asked.options.session,
        )

    def _expected(self, name: str) -> Expected:
        """What a later stage is expected to take; its route may not be known yet."""
        stage = self._pipeline.stages[name]
        values = {w: self._values.get(w) or self._plan.values[w][0] for w in stage.words}
        rows = 1
        for reference in stage.references():
            if reference.first and reference.stage in self._done:
                rows = len(taken(reference, self._asked.tensors, self._done))
        models = self._terms.catalog.models_of(stage.filled(values))
        return expected(self._plane, models, self._plan.tasks[name], rows, stage)

    def _limits(self) -> Limits:
        """The caller's limits; its cost limit is the whole's, so what was spent comes off."""
        options = self._asked.options
        if options.max_cost_usd is None:
            return Limits(None, options.min_quality)
        spent = sum(passed.cost_usd for passed in self._passed.values())
        return Limits(max(options.max_cost_usd - spent, 0.0), options.min_quality)

    def _said(self) -> dict[str, str]:
        """The parameters the caller gives, each with a route."""
        known = self._plan.values
        for word, value in self._asked.parameters.items():
            if word not in known:
                has = ", ".join(known) or "none"
                raise InvalidRequest(
                    f"pipeline {self._name!r} has no parameter {word!r}; it has {has}", param=word
                )
            if value not in known[word]:
                raise InvalidRequest(
                    f"{word} {value!r} is unknown; known here: {', '.join(known[word])}",
                    param=word,
                )
        values = dict(self._asked.parameters)
        for word, parameter in self._pipeline.parameters.items():
            if word in values or parameter.source is not None:
                continue
            if parameter.default is None:
                raise InvalidRequest(
                    f"parameter {word!r} is missing; known here: {', '.join(known[word])}",
                    param=word,
                )
            values[word] = parameter.default
        return values

    def _route(self, name: str) -> str:
        stage = self._pipeline.stages[name]
        for word in stage.words:
            if word not in self._values:
                self._values[word] = self._found(word)
        return stage.filled(self._values)

    def _found(self, word: str) -> str:
        """What a stage found for a parameter."""
        parameter = self._pipeline.parameters[word]
        reference = Reference.read(parameter.source or "")
        value = text_of(np.atleast_1d(taken(reference, self._asked.tensors, self._done)))
        if value in self._plan.values[word]:
            return value
        if parameter.default is not None:
            return parameter.default
        raise InvalidRequest(
            f"stage {reference.stage!r} found {word} {value!r}, which has no route; give {word} "
            f"in the request: {', '.join(self._plan.values[word])}",
            param=word,
        )

    def _answered(self) -> Tensors:
        given = self._asked.tensors
        out = {
            name: taken(Reference.read(text), given, self._done)
            for name, text in self._pipeline.out.items()
        }
        if self._pipeline.sort_by is None:
            return out
        order = np.argsort(-out[self._pipeline.sort_by], kind="stable")
        order = order[: self._asked.limit or self._pipeline.limit]
        return {name: tensor[order] for name, tensor in out.items()}

    def _late(self) -> DeadlineUnreachable:
        waiting = [stage for stage in self._order if stage not in self._passed]
        left = ", ".join(waiting)
        late = DeadlineUnreachable(
            f"pipeline {self._name!r}: the deadline passed before its end; not done: {left}",
            retry_after_s=1.0,
        )
        late.stage = waiting[0] if waiting else None
        return late


def _first(errors: BaseExceptionGroup) -> BaseException:
    """The stage's error that ended the others."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
