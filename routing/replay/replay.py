"""Deciding logged requests again, under the same or another policy. Pure.

Each request meets the predictions it met then: what a model would have answered, how long it would
have taken at that load and what it would have cost. Knobs that are held over time start afresh and
run along the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from routing.decision.budget_control import BudgetController, Steer
from routing.decision.constraints import Bounds, why_not
from routing.decision.router import cost_usd, settle
from routing.replay.cascade import Second, cascade_of, mixed, second
from routing.replay.log import Row
from turnout.catalog import Catalog, Route
from turnout.errors import DataError, TurnoutError
from turnout.types import Candidate, Prediction, Task


@dataclass(frozen=True, slots=True)
class Change:
    """What to decide differently; None leaves it as it was logged.

    Attributes:
        policy: a policy's name.
        target_quality: share of the best quality that is good enough.
        max_strong_share: held along the log.
        budget_usd_per_hour: held along the log.
        catalog: routes, classes and costs from another catalog.
        threshold: confidence under which a cascade goes on.
        gain: what a second answer must be expected to add, where that was learned.
    """

    policy: str | None = None
    target_quality: float | None = None
    max_strong_share: float | None = None
    budget_usd_per_hour: float | None = None
    catalog: Catalog | None = None
    threshold: float | None = None
    gain: float | None = None

    @property
    def cascade(self) -> dict[str, float]:
        """The keys of a route's cascade that it sets."""
        found = {"threshold": self.threshold, "gain": self.gain}
        return {key: value for key, value in found.items() if value is not None}

    @property
    def knobs(self) -> dict[str, Any]:
        """The keys of a route that it sets."""
        found: dict[str, Any] = {
            "policy": self.policy,
            "target_quality": self.target_quality,
            "max_strong_share": self.max_strong_share,
            "budget_usd_per_hour": self.budget_usd_per_hour,
        }
        return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Again:
    """What a logged request would be given.

    Attributes:
        row: the logged decision.
        model: who would answer; None when the request would be refused.
        rule: by which rule, or the refusal's code.
        told: what was predicted of the whole answer; None when it would be refused.
        second: a cascade's second step; None where there would be none.
        unknown: whether there would be one, but the log does not say for whom.
    """

    row: Row
    model: str | None
    rule: str
    told: Prediction | None = None
    second: Second | None = None
    unknown: bool = False

    @property
    def share(self) -> float:
        """Rows that would be answered twice, of all."""
        return 0.0 if self.second is None else self.second.share


def replay(rows: Sequence[Row], change: Change) -> list[Again]:
    """Decide every row again, in order.

    Raises:
        DataError: the other catalog lacks a route, a class or every candidate of a row.
    """
    replayer = _Replayer(change)
    return [replayer.decide(row) for row in rows]


class _Replayer:
    """Routes as changed, and their controllers along the log."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._routes: dict[tuple[object, ...], Route] = {}
        self._controls: dict[str, BudgetController] = {}

    def decide(self, row: Row) -> Again:
        if row.policy is None:
            return Again(row, row.model, "named", row.candidate(row.model).prediction)
        route = self._route(row)
        bounds, candidates = self._facts(row, route)
        steer = self._steer(row, route, candidates)
        try:
            choice = settle(route, row.latency_class, bounds, candidates, steer)
        except TurnoutError as error:
            return Again(row, None, error.code)
        control = self._controls.get(row.route)
        if control is not None:
            feasible = [one for one in candidates if one.feasible]
            control.chose(row.latency_class, choice.candidate, feasible, steer, row.at_s)
        chosen = choice.candidate
        found = Again(row, chosen.model, choice.rule, chosen.prediction)
        if route.policy_for(row.latency_class) != "cascade":
            return found
        return self._cascaded(found, route, steer, chosen, bounds, candidates)

    def _cascaded(
        self,
        found: Again,
        route: Route,
        steer: Steer,
        first: Candidate,
        bounds: Bounds,
        candidates: Sequence[Candidate],
    ) -> Again:
        """The same with a cascade's second step, where the log says enough of the first answer."""
        row = found.row
        if row.step is None or first.model != row.model:
            # A logged cascade without a step had nobody to go on to, or never got an answer.
            return found if row.policy == "cascade" else replace(found, unknown=True)
        step = second(row.step, route, steer, first, bounds, candidates)
        if step is None:
            return replace(found, unknown=True)
        usd = step.to.prediction.cost_usd * step.share
        control = self._controls.get(row.route)
        if control is not None:
            control.escalated(step.rows, step.of, usd)
        told = mixed(first.prediction, step.to.prediction, step.share)
        return replace(found, told=told, second=step if step.rows else None)

    def _route(self, row: Row) -> Route:
        cascade = {} if row.step is None else cascade_of(row.step, row.steer, row.candidates)
        key = (row.route, row.policy or "", row.steer.asked, *cascade.values())
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = self._made(row, cascade)
        return route

    def _made(self, row: Row, cascade: dict[str, float]) -> Route:
        catalog, knobs = self._change.catalog, self._change.knobs
        base: dict[str, Any]
        if catalog is None:
            base = {
                "task": Task.CHAT,
                "candidates": [one.model for one in row.candidates if one.model != row.canary],
                "latency_class": row.latency_class,
                "policy": row.policy,
                "target_quality": row.steer.asked,
                "min_quality": row.bounds.floor,
            }
        elif row.route in catalog.routes:
            base = catalog.routes[row.route].model_dump(exclude_none=True)
        else:
            raise DataError(f"decision {row.id}: the catalog has no route {row.route!r}")
        base |= knobs
        if base["policy"] == "cascade":
            told = base.get("cascade") or cascade or {"threshold": 0.5}
            base["cascade"] = told | self._change.cascade
        else:
            base.pop("cascade", None)
        return Route.model_validate(base)

    def _facts(self, row: Row, route: Route) -> tuple[Bounds, list[Candidate]]:
        """Bounds and candidates of the row, as another catalog has them if there is one."""
        catalog = self._change.catalog
        considered = [one for one in row.candidates if one.model != row.canary]
        if catalog is None:
            return row.bounds, considered
        told = catalog.classes.get(row.latency_class)
        if told is None:
            raise DataError(f"decision {row.id}: the catalog has no class {row.latency_class!r}")
        floor = max(row.bounds.min_quality or 0.0, route.min_quality)
        bounds = replace(
            row.bounds, percentile=told.percentile, infeasible=told.infeasible, floor=floor
        )
        found = [
            _judged(row, one, catalog, bounds)
            for one in considered
            if one.model in route.candidates
        ]
        if not found:
            raise DataError(
                f"decision {row.id}: of the catalog's candidates of {row.route!r} "
                f"({', '.join(route.candidates)}) none was predicted then"
            )
        return bounds, found

    def _steer(self, row: Row, route: Route, candidates: Sequence[Candidate]) -> Steer:
        change = self._change
        if not change.knobs and not change.cascade and change.catalog is None:
            return row.steer
        if not route.steered:
            target = route.target_for(row.latency_class)
            return Steer(target, target)
        control = self._controls.get(row.route)
        if control is None:
            strength = _strength(candidates, self._change.catalog)
            named = route.model_copy(update={"candidates": tuple(strength)})
            control = self._controls[row.route] = BudgetController(named, strength)
        return control.steer(row.latency_class, row.at_s)


def _judged(row: Row, one: Candidate, catalog: Catalog, bounds: Bounds) -> Candidate:
    model = catalog.models[one.model]
    usd = cost_usd(model, row.input_tokens, row.expected_output_tokens)
    prediction = replace(one.prediction, cost_usd=usd)
    reason = one.why_not if one.broken else why_not(prediction, bounds)
    return Candidate(one.model, prediction, reason is None, reason, one.broken)


def _strength(candidates: Sequence[Candidate], catalog: Catalog | None) -> Mapping[str, float]:
    """Prior quality by name; without a catalog the dearest counts as the strongest."""
    if catalog is not None:
        return {one.model: catalog.models[one.model].quality.prior for one in candidates}
    return {one.model: one.prediction.cost_usd for one in candidates}
