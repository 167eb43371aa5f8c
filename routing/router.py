"""The decision: for each candidate a prediction, then constraints, then the policy.

``Router`` is pure: what it knows of the world (load, readiness, the quality of each candidate
for this request) comes in as arguments, and one call gives one ``Decision``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from routing.latency import Busy, Demand, ModelLatency, Spread
from routing.policy import POLICIES, Choice, fastest
from turnout.catalog import Catalog, LatencyClass, Model, Route
from turnout.errors import DeadlineUnreachable, LoadFailed, UnknownClass, UnknownModel
from turnout.types import Candidate, Decision, Prediction, Request

_MIN_RETRY_S = 0.05


@dataclass(slots=True)
class ModelState:
    """What the router must know of a model now.

    Attributes:
        busy: what is ahead of a new request.
        broken: why it cannot serve; None when it can.
    """

    busy: Busy
    broken: str | None = None


@dataclass(slots=True)
class Question:
    """A request as the router sees it.

    Attributes:
        request: the request.
        demand: what it asks of an engine.
        input_tokens: tokens of the prompt, for cost.
        quality: calibrated P(good answer) of each candidate by model name.
    """

    request: Request
    demand: Demand
    input_tokens: float
    quality: Mapping[str, float]


class Router:
    """Decides over one catalog.

    Args:
        catalog: the fleet.
        latency: the latency model of each catalog model, by name; learned from outside.
    """

    def __init__(self, catalog: Catalog, latency: Mapping[str, ModelLatency]) -> None:
        self._catalog = catalog
        self._latency = latency

    def candidates(self, request: Request) -> tuple[str, tuple[str, ...]]:
        """The route that decides and its candidates; a model named directly is its own route.

        Raises:
            UnknownModel: the target is neither ``auto``, a route, nor a model of the right task.
        """
        target = request.target
        if target == "auto":
            target = self._catalog.route_for(request.task) or target
        route = self._catalog.routes.get(target)
        if route is not None and route.task == request.task:
            return target, route.candidates
        model = self._catalog.models.get(target)
        if model is not None and model.task == request.task:
            return target, (target,)
        raise UnknownModel(request.target, self._names(request))

    def decide(self, question: Question, state: Mapping[str, ModelState]) -> Decision:
        """Choose a model.

        Raises:
            UnknownModel, UnknownClass: a name means nothing here.
            LoadFailed: every candidate is out of service.
            DeadlineUnreachable: none is feasible and the class says to refuse.
        """
        request = question.request
        name, models = self.candidates(request)
        latency_class = self._catalog.classes.get(request.latency_class)
        if latency_class is None:
            raise UnknownClass(request.latency_class, tuple(self._catalog.classes))
        route = self._catalog.routes.get(name)
        floor = max(request.limits.min_quality or 0.0, route.min_quality if route else 0.0)
        judged = [
            self._judge(model, question, state[model], latency_class, floor) for model in models
        ]
        candidates = tuple(candidate for candidate, _ in judged)
        feasible = [candidate for candidate in candidates if candidate.feasible]
        if feasible:
            choice = self._choose(route, request.latency_class, feasible)
        else:
            choice = self._when_none(request, latency_class, judged, state)
        chosen = choice.candidate.model
        return Decision(
            id=request.id,
            route=name,
            model=chosen,
            fallbacks=_fallbacks(candidates, chosen, state),
            reason=choice.reason,
            rule=choice.rule,
            latency_class=request.latency_class,
            candidates=candidates,
        )

    def _judge(
        self,
        name: str,
        question: Question,
        state: ModelState,
        latency_class: LatencyClass,
        floor: float,
    ) -> tuple[Candidate, Spread]:
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
        why_not = state.broken or _why_not(
            prediction, spread, question.request, latency_class, floor
        )
        return Candidate(name, prediction, why_not is None, why_not), spread

    def _choose(
        self, route: Route | None, latency_class: str, feasible: Sequence[Candidate]
    ) -> Choice:
        if route is None:
            return Choice(feasible[0], "named", "the request names this model")
        return POLICIES[route.policy](feasible, route.target_for(latency_class))

    def _when_none(
        self,
        request: Request,
        latency_class: LatencyClass,
        judged: Sequence[tuple[Candidate, Spread]],
        state: Mapping[str, ModelState],
    ) -> Choice:
        able = [c for c, _ in judged if state[c.model].broken is None]
        if not able:
            first = judged[0][0]
            raise LoadFailed(first.model, first.why_not or "out of service")
        within = [c for c in able if _keeps_limits(c, request)]
        if not within:
            why = "; ".join(f"{c.model}: {c.why_not}" for c in able)
            raise DeadlineUnreachable(
                f"no candidate keeps the request's own limits ({why}); relax max_cost_usd, "
                "min_quality or the deadline",
                retry_after_s=1.0,
            )
        if latency_class.infeasible == "refuse":
            soonest = min(spread.p50_s for c, spread in judged if c in within)
            late_s = max(soonest - request.deadline_in_s, _MIN_RETRY_S)
            why = "; ".join(f"{c.model}: {c.why_not}" for c in within)
            raise DeadlineUnreachable(
                f"no candidate can answer in time ({why}); retry in {late_s:.2g} s or allow a "
                "longer deadline",
                retry_after_s=late_s,
            )
        if latency_class.infeasible == "queue":
            choice = POLICIES["best"](within, 1.0)
            return Choice(
                choice.candidate,
                "queued",
                f"no candidate is sure to hold the deadline; this class waits: {choice.reason}",
            )
        choice = fastest(within, 1.0)
        return Choice(
            choice.candidate,
            "fastest_infeasible",
            f"no candidate is sure to hold the deadline; fastest instead: {choice.reason}",
        )

    def _names(self, request: Request) -> tuple[str, ...]:
        routes = [n for n, r in self._catalog.routes.items() if r.task == request.task]
        models = [n for n, m in self._catalog.models.items() if m.task == request.task]
        return ("auto", *routes, *models)


def cost_usd(model: Model, input_tokens: float, output_tokens: float) -> float:
    """Expected cost of one answer, in US dollars."""
    cost = model.cost
    return (
        cost.usd_per_request
        + cost.usd_per_1m_input_tokens * input_tokens * 1e-6
        + cost.usd_per_1m_output_tokens * output_tokens * 1e-6
    )


def _why_not(
    prediction: Prediction,
    spread: Spread,
    request: Request,
    latency_class: LatencyClass,
    floor: float,
) -> str | None:
    needed_s = spread.at(latency_class.percentile)
    if needed_s > request.deadline_in_s:
        return (
            f"predicted p{latency_class.percentile * 100:g} of {needed_s * 1e3:.3g} ms is over the "
            f"deadline of {request.deadline_in_s * 1e3:.3g} ms"
        )
    limit = request.limits.max_cost_usd
    if limit is not None and prediction.cost_usd > limit:
        return f"cost of {prediction.cost_usd:.3g} USD is over the limit of {limit:.3g} USD"
    if prediction.quality < floor:
        return f"expected quality {prediction.quality:.2f} is under the floor of {floor:.2f}"
    return None


def _keeps_limits(candidate: Candidate, request: Request) -> bool:
    limits, prediction = request.limits, candidate.prediction
    cheap = limits.max_cost_usd is None or prediction.cost_usd <= limits.max_cost_usd
    good = limits.min_quality is None or prediction.quality >= limits.min_quality
    return cheap and good


def _fallbacks(
    candidates: Sequence[Candidate], chosen: str, state: Mapping[str, ModelState]
) -> tuple[str, ...]:
    """The other candidates that are in service: feasible first, then by quality."""
    others = [c for c in candidates if c.model != chosen and state[c.model].broken is None]
    others.sort(key=lambda c: (not c.feasible, -c.prediction.quality))
    return tuple(c.model for c in others)
