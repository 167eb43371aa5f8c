"""The decision: for each candidate a prediction, then constraints, then the policy.

``Router`` is pure: the state of the world (load, readiness, the quality of each candidate for this
request) comes in as arguments, and one call gives one ``Decision``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from routing.decision.budget_control import Steer
from routing.decision.constraints import Bounds, choose_anyway, keeps_limits, never_in_time, why_not
from routing.decision.policy import POLICIES, Choice, priced
from routing.latency import Busy, Demand, ModelLatency
from turnout.catalog import Catalog, LatencyClass, Model, Route
from turnout.errors import UnknownClass, UnknownModel, WrongTask
from turnout.types import Candidate, Decision, Limits, Prediction, Request

_ENOUGH_ANSWERS = 20


@dataclass(slots=True)
class ModelState:
    """The state of a model that a decision depends on.

    Attributes:
        busy: the load ahead of a new request.
        broken: why it cannot serve; None when it can.
    """

    busy: Busy
    broken: str | None = None


_IDLE = ModelState(Busy())


@dataclass(slots=True)
class Question:
    """A request as the router sees it.

    Attributes:
        request: the request.
        demand: the work it is for an engine.
        input_tokens: tokens of the prompt, for cost.
        quality: calibrated P(good answer) of each candidate by model name.
    """

    request: Request
    demand: Demand
    input_tokens: float
    quality: Mapping[str, float]


class Target(NamedTuple):
    """The target of a request, resolved.

    Attributes:
        name: the route that decides, or the model named directly.
        models: its candidates, at least one.
        route: None when a model was named directly.
    """

    name: str
    models: tuple[str, ...]
    route: Route | None = None


class Router:
    """Decides which model answers, over one catalog.

    Args:
        catalog: the fleet.
        latency: the latency model of each catalog model, by name; learned from outside.
    """

    def __init__(self, catalog: Catalog, latency: Mapping[str, ModelLatency]) -> None:
        self._catalog = catalog
        self._latency = latency

    def resolve(self, request: Request) -> Target:
        """Return the deciding route and its candidates; a model named directly is its own route.

        Raises:
            UnknownModel: the target is neither ``auto``, a route, nor a model of the right task.
        """
        target = request.target
        if target == "auto":
            target = self._catalog.route_for(request.task) or target
        route = self._catalog.routes.get(target)
        if route is not None and route.task == request.task:
            return Target(target, route.candidates, route)
        name = self._catalog.model_called(target)
        if name is not None and self._catalog.models[name].task == request.task:
            return Target(target, (name,))
        other = self._catalog.named(target)
        if other is not None:
            raise WrongTask(
                request.target, other.task.value, request.task.value, self._names(request)
            )
        raise UnknownModel(request.target, self._names(request))

    def decide(
        self,
        question: Question,
        target: Target,
        state: Mapping[str, ModelState],
        steer: Steer | None = None,
    ) -> Decision:
        """Choose a model.

        Args:
            question: the request and the expected quality of each candidate.
            target: the request's, from ``resolve``.
            state: of each candidate, by name.
            steer: target and prices of the route's controllers; None takes the catalog's target.

        Raises:
            UnknownClass: the catalog has no such latency class.
            LoadFailed: every candidate is out of service.
            LimitUnreachable: none ever keeps the caller's own limits, its own deadline among them.
            DeadlineUnreachable: none is feasible and the class says to refuse.
        """
        request = question.request
        name, models, route = target
        latency_class = self._catalog.classes.get(request.latency_class)
        if latency_class is None:
            raise UnknownClass(request.latency_class, tuple(self._catalog.classes))
        bounds = bounds_of(route, latency_class, request.deadline_in_s, request.limits)
        candidates = tuple([self._judge(m, question, state[m], bounds) for m in models])
        if request.own_deadline and not any(c.feasible for c in candidates):
            self._refuse_never(question, candidates, bounds)
        choice = settle(route, request.latency_class, bounds, candidates, steer)
        if choice.rule == "named" and choice.candidate.model != name:
            choice = Choice(choice.candidate, "named", f"{name} is {choice.candidate.model}")
        within = [c.model for c in candidates if keeps_limits(c, bounds)]
        return decision_of(request.id, name, request.latency_class, candidates, choice, within)

    def alone(
        self, model: str, question: Question, state: ModelState, route: Route | None
    ) -> tuple[Candidate, Bounds]:
        """Return the prediction for one more model on a request, and the bounds it must keep."""
        request = question.request
        latency_class = self._catalog.classes[request.latency_class]
        bounds = bounds_of(route, latency_class, request.deadline_in_s, request.limits)
        return self._judge(model, question, state, bounds), bounds

    def surely_late(self, candidate: Candidate, bounds: Bounds) -> bool:
        """Return whether a model with enough measured answers would probably be late."""
        answers = self._latency[candidate.model].observations
        return answers >= _ENOUGH_ANSWERS and candidate.prediction.p50_s > bounds.deadline_in_s

    def _refuse_never(
        self, question: Question, candidates: Sequence[Candidate], bounds: Bounds
    ) -> None:
        """Refuse a deadline that no model in service would hold without load, whatever the class.

        Raises:
            LimitUnreachable: no model in service would hold it.
        """
        idle = [
            self._judge(c.model, question, _IDLE, bounds)
            for c in candidates
            if not c.broken and keeps_limits(c, bounds)
        ]
        if (never := never_in_time(idle, bounds.deadline_in_s)) is not None:
            raise never

    def _judge(self, name: str, question: Question, state: ModelState, bounds: Bounds) -> Candidate:
        model = self._catalog.models[name]
        spread = self._latency[name].predict(question.demand, state.busy)
        prediction = Prediction(
            question.quality[name],
            spread.p50_s,
            spread.p95_s,
            cost_usd(model, question.input_tokens, question.demand.output_tokens),
            spread.p99_s,
            spread.median_s,
            spread.waited,
        )
        reason = state.broken or why_not(prediction, bounds)
        return Candidate(name, prediction, reason is None, reason, state.broken is not None)

    def _names(self, request: Request) -> tuple[str, ...]:
        routes = [n for n, r in self._catalog.routes.items() if r.task == request.task]
        models = [
            name
            for name in (*self._catalog.versioned, *self._catalog.models)
            if self._catalog.models[self._catalog.model_called(name) or name].task == request.task
        ]
        return ("auto", *routes, *models)


def bounds_of(
    route: Route | None, latency_class: LatencyClass, deadline_in_s: float, limits: Limits
) -> Bounds:
    """Combine the class's bounds, the caller's limits and the route's quality floor."""
    floor = max(limits.min_quality or 0.0, route.min_quality if route else 0.0)
    return Bounds(
        deadline_in_s,
        latency_class.percentile,
        limits.max_cost_usd,
        limits.min_quality,
        floor,
        latency_class.infeasible,
    )


def settle(
    route: Route | None,
    latency_class: str,
    bounds: Bounds,
    candidates: Sequence[Candidate],
    steer: Steer | None = None,
) -> Choice:
    """Choose among judged candidates; a function of its arguments alone.

    Raises:
        LoadFailed, DeadlineUnreachable: none is feasible and the class says to refuse.
    """
    feasible = [candidate for candidate in candidates if candidate.feasible]
    if not feasible:
        return choose_anyway(bounds, candidates)
    if route is None:
        return Choice(feasible[0], "named", "the request names this model")
    if len(feasible) == 1:
        return _only(feasible[0], candidates)
    policy = POLICIES[route.policy_for(latency_class)]
    if steer is None:
        return policy(feasible, route.target_for(latency_class))
    choice = policy(feasible, steer.target)
    return priced(feasible, choice, steer)


def _only(chosen: Candidate, candidates: Sequence[Candidate]) -> Choice:
    """Choose the only feasible candidate, and say why the others may not answer."""
    others = "; ".join(f"{c.model}: {c.why_not}" for c in candidates if c is not chosen)
    if not others:
        return Choice(chosen, "only", f"{chosen.model} is the only candidate of this route")
    return Choice(chosen, "only", f"only {chosen.model} may answer ({others})")


def decision_of(
    request_id: str,
    route: str,
    latency_class: str,
    candidates: tuple[Candidate, ...],
    choice: Choice,
    within: Collection[str],
    propensity: float = 1.0,
) -> Decision:
    """Turn a choice into a decision whose fallbacks are ``within`` the caller's own limits."""
    chosen = choice.candidate.model
    return Decision(
        request_id,
        route,
        chosen,
        _fallbacks(candidates, chosen, within),
        choice.reason,
        choice.rule,
        latency_class,
        candidates,
        propensity,
    )


def cost_usd(model: Model, input_tokens: float, output_tokens: float) -> float:
    """Return the expected cost of one answer, in US dollars."""
    cost = model.cost
    return (
        cost.usd_per_request
        + cost.usd_per_1m_input_tokens * input_tokens * 1e-6
        + cost.usd_per_1m_output_tokens * output_tokens * 1e-6
    )


def _fallbacks(
    candidates: Sequence[Candidate], chosen: str, within: Collection[str]
) -> tuple[str, ...]:
    """Return the other candidates in service within the limits: feasible first, then by quality."""
    others = [c for c in candidates if c.model != chosen and not c.broken and c.model in within]
    if len(others) > 1:
        others.sort(key=lambda c: (not c.feasible, -c.prediction.quality))
    return tuple([c.model for c in others])
