"""Replay of logged requests, under the same or another policy. Pure.

Each request is decided with its logged predictions of quality, latency at that load, and cost.
Controller state starts afresh and runs along the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from routing.decision.budget_control import BudgetController, Steer
from routing.decision.constraints import Bounds, why_not
from routing.decision.router import cost_usd, settle
from routing.replay.cascade import SecondStep, cascade_of, mixed, second
from routing.replay.log import Row
from turnout.catalog import Catalog, Route
from turnout.errors import DataError, TurnoutError
from turnout.types import Candidate, Prediction, Task


@dataclass(frozen=True, slots=True)
class Change:
    """The changes of a replay; None leaves a setting as it was logged.

    Attributes:
        policy: a policy's name.
        target_quality: share of the best quality that is good enough.
        max_strong_share: held along the log.
        budget_usd_per_hour: held along the log.
        catalog: routes, classes and costs from another catalog.
        threshold: confidence under which a cascade escalates.
        gain: least expected gain of a second answer, where that was learned.
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
        """Keys of a route's cascade that the change sets."""
        keys = {"threshold": self.threshold, "gain": self.gain}
        return {key: value for key, value in keys.items() if value is not None}

    @property
    def knobs(self) -> dict[str, Any]:
        """Keys of a route that the change sets."""
        keys: dict[str, Any] = {
            "policy": self.policy,
            "target_quality": self.target_quality,
            "max_strong_share": self.max_strong_share,
            "budget_usd_per_hour": self.budget_usd_per_hour,
        }
        return {key: value for key, value in keys.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ReplayedDecision:
    """A logged request, decided again.

    Attributes:
        row: the logged decision.
        model: the model that would answer; None when the request would be refused.
        rule: name of the rule that decides, or the refusal's code.
        prediction: the prediction for the whole answer; None when it would be refused.
        second: a cascade's second step; None where there would be none.
        unknown: whether there would be one, but the log does not say for which rows.
    """

    row: Row
    model: str | None
    rule: str
    prediction: Prediction | None = None
    second: SecondStep | None = None
    unknown: bool = False

    @property
    def share(self) -> float:
        """Share of rows that would be answered twice."""
        return 0.0 if self.second is None else self.second.share


def replay(rows: Sequence[Row], change: Change) -> list[ReplayedDecision]:
    """Decide every row again, in order.

    Raises:
        DataError: the other catalog lacks a route, a class or every candidate of a row.
    """
    replayer = _Replayer(change)
    return [replayer.decide(row) for row in rows]


class _Replayer:
    """The changed routes, and their controllers along the log."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._routes: dict[tuple[object, ...], Route] = {}
        self._controls: dict[str, BudgetController] = {}

    def decide(self, row: Row) -> ReplayedDecision:
        if row.policy is None:
            return ReplayedDecision(row, row.model, "named", row.candidate(row.model).prediction)
        route = self._route(row)
        bounds, candidates = self._bounds_and_candidates(row, route)
        steer = self._steer(row, route, candidates)
        try:
            choice = settle(route, row.latency_class, bounds, candidates, steer)
        except TurnoutError as error:
            return ReplayedDecision(row, None, error.code)
        control = self._controls.get(row.route)
        if control is not None:
            feasible = [candidate for candidate in candidates if candidate.feasible]
            control.chose(row.latency_class, choice.candidate, feasible, steer, row.at_s)
        chosen = choice.candidate
        replayed = ReplayedDecision(row, chosen.model, choice.rule, chosen.prediction)
        if route.policy_for(row.latency_class) != "cascade":
            return replayed
        return self._with_second_step(replayed, route, steer, chosen, bounds, candidates)

    def _with_second_step(
        self,
        replayed: ReplayedDecision,
        route: Route,
        steer: Steer,
        first: Candidate,
        bounds: Bounds,
        candidates: Sequence[Candidate],
    ) -> ReplayedDecision:
        """Add a cascade's second step, where the log holds enough of the first answer."""
        row = replayed.row
        if row.step is None or first.model != row.model:
            # A logged cascade without a step had no better model, or never got an answer.
            return replayed if row.policy == "cascade" else replace(replayed, unknown=True)
        step = second(row.step, route, steer, first, bounds, candidates)
        if step is None:
            return replace(replayed, unknown=True)
        usd = step.to.prediction.cost_usd * step.share
        control = self._controls.get(row.route)
        if control is not None:
            control.escalated(step.rows, step.of, usd)
        prediction = mixed(first.prediction, step.to.prediction, step.share)
        return replace(replayed, prediction=prediction, second=step if step.rows else None)

    def _route(self, row: Row) -> Route:
        cascade = {} if row.step is None else cascade_of(row.step, row.steer, row.candidates)
        key = (row.route, row.policy or "", row.steer.route_target, *cascade.values())
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = self._build_route(row, cascade)
        return route

    def _build_route(self, row: Row, cascade: dict[str, float]) -> Route:
        catalog, knobs = self._change.catalog, self._change.knobs
        base: dict[str, Any]
        if catalog is None:
            base = {
                "task": Task.CHAT,
                "candidates": [c.model for c in row.candidates if c.model != row.canary],
                "latency_class": row.latency_class,
                "policy": row.policy,
                "target_quality": row.steer.route_target,
                "min_quality": row.bounds.floor,
            }
        elif row.route in catalog.routes:
            base = catalog.routes[row.route].model_dump(exclude_none=True)
        else:
            raise DataError(f"decision {row.id}: the catalog has no route {row.route!r}")
        base |= knobs
        if base["policy"] == "cascade":
            settings = base.get("cascade") or cascade or {"threshold": 0.5}
            base["cascade"] = settings | self._change.cascade
        else:
            base.pop("cascade", None)
        return Route.model_validate(base)

    def _bounds_and_candidates(self, row: Row, route: Route) -> tuple[Bounds, list[Candidate]]:
        """Return bounds and candidates of the row, changed by the other catalog if there is one."""
        catalog = self._change.catalog
        considered = [candidate for candidate in row.candidates if candidate.model != row.canary]
        if catalog is None:
            return row.bounds, considered
        entry = catalog.classes.get(row.latency_class)
        if entry is None:
            raise DataError(f"decision {row.id}: the catalog has no class {row.latency_class!r}")
        floor = max(row.bounds.min_quality or 0.0, route.min_quality)
        bounds = replace(
            row.bounds, percentile=entry.percentile, infeasible=entry.infeasible, floor=floor
        )
        candidates = [
            _rejudged(row, candidate, catalog, bounds)
            for candidate in considered
            if candidate.model in route.candidates
        ]
        if not candidates:
            raise DataError(
                f"decision {row.id}: of the catalog's candidates of {row.route!r} "
                f"({', '.join(route.candidates)}) none was predicted then"
            )
        return bounds, candidates

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
            narrowed = route.model_copy(update={"candidates": tuple(strength)})
            control = self._controls[row.route] = BudgetController(narrowed, strength)
        return control.steer(row.latency_class, row.at_s)


def _rejudged(row: Row, candidate: Candidate, catalog: Catalog, bounds: Bounds) -> Candidate:
    model = catalog.models[candidate.model]
    usd = cost_usd(model, row.input_tokens, row.expected_output_tokens)
    prediction = replace(candidate.prediction, cost_usd=usd)
    reason = candidate.why_not if candidate.broken else why_not(prediction, bounds)
    return Candidate(candidate.model, prediction, reason is None, reason, candidate.broken)


def _strength(candidates: Sequence[Candidate], catalog: Catalog | None) -> Mapping[str, float]:
    """Return prior quality by name; without a catalog the dearest counts as the strongest."""
    if catalog is not None:
        return {c.model: catalog.models[c.model].quality.prior for c in candidates}
    return {candidate.model: candidate.prediction.cost_usd for candidate in candidates}
