"""Decisions over time: policy, session, exploration, then versions, under feedback control.

``Router`` decides for one moment. ``Decider`` holds the state that outlives a request: the recent
decisions for equal requests, each route's controllers, each session's model, and the draws. It has
no clock and does no I/O: the time is the request's arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from routing.decision.budget_control import BudgetController, Steer
from routing.decision.constraints import keeps_limits
from routing.decision.decision_cache import DecisionCache
from routing.decision.exploration import Exploration, explore
from routing.decision.policy import Choice
from routing.decision.request_view import RequestAnalyzer, View
from routing.decision.router import ModelState, Question, Router, Target, decision_of
from routing.decision.sessions import Sessions
from routing.draws import Draws
from routing.latency import ModelLatency
from routing.rollout.traffic_split import Rollout, VersionDraw, swapped
from turnout.catalog import Catalog, Route
from turnout.types import Decision, Request, Task

_ON_TRIAL = "on trial: only its draw chooses it"


class Decided(NamedTuple):
    """A decision and the inputs it was based on, as far as they are not in the decision.

    Attributes:
        decision: the decision.
        view: the request as the router saw it.
        steer: target and prices of the route's controllers; None where there are none.
        exploration: the random draw; None where there was none.
        route: the route that decided; None when the model was named directly.
        drawn: the version drawn, of a model with a canary; None where there is none.
    """

    decision: Decision
    view: View
    steer: Steer | None = None
    exploration: Exploration | None = None
    route: Route | None = None
    drawn: VersionDraw | None = None


class Decider:
    """Decides which model answers, over one catalog.

    Args:
        catalog: the fleet.
        latencies: the latency model of each catalog model, by name; learned from outside.
        analyzer: turns a request into a ``View``.
        seed: of exploration's draws.
        rollouts: the canaries on trial, by the model of their production version.
        former: the decider before; sessions, and controllers of unchanged routes, are taken over.
    """

    def __init__(
        self,
        catalog: Catalog,
        latencies: Mapping[str, ModelLatency],
        analyzer: RequestAnalyzer,
        seed: bytes = b"",
        rollouts: Mapping[str, Rollout] | None = None,
        former: Decider | None = None,
    ) -> None:
        self._routes = catalog.routes
        self._analyzer = analyzer
        self._rollouts = rollouts or {}
        self._infeasible = {name: c.infeasible for name, c in catalog.classes.items()}
        self._router = Router(catalog, latencies)
        self._recent = DecisionCache()
        self._sessions = Sessions() if former is None else former._sessions
        self._draws = Draws(seed)
        self._strength = {name: model.quality.prior for name, model in catalog.models.items()}
        self.controls: dict[str, BudgetController] = {
            name: self._inherited(name, former)
            or BudgetController(route, self._strength, workers=catalog.gateway.workers)
            for name, route in catalog.routes.items()
            if route.steered
        }

    def decide(
        self, request: Request, state_of: Callable[[str], ModelState], *, trial: bool = False
    ) -> Decided:
        """Decide which model answers a request.

        Args:
            request: the request.
            state_of: the state of a model now, by name.
            trial: whether nothing is run after it: no exploration, and controllers, sessions and
                canaries are left alone.

        Raises:
            TurnoutError: see ``Router.decide``.
        """
        target = self._router.resolve(request)
        view = self._analyzer.look(request, target.models)
        state = {model: state_of(model) for model in target.models}
        control = self.controls.get(target.name)
        now_s = request.arrived_s
        steer = None if control is None else control.steer(request.latency_class, now_s)
        decision = self._policy(request, target, view, state, control, steer)
        route, exploration = target.route, None
        if route is not None:
            session = request.session if request.task is Task.CHAT else None
            stuck = None if session is None else self._stick(decision, session, route, steer, now_s)
            if stuck is not None:
                decision = stuck
            elif route.explore is not None and not trial:
                decision, exploration = self._explore(decision, route)
            if not trial:
                if session is not None:
                    self._sessions.remember(target.name, session, decision.model, now_s)
                if control is not None and steer is not None:
                    _count(control, decision, steer, now_s)
        if self._rollouts and not trial:
            rollout = self._rollouts.get(decision.model)
            if rollout is not None and rollout.takes(decision.route):
                decided = Decided(decision, view, steer, exploration, route)
                return self._draw_version(decided, rollout, request, state, state_of)
        return Decided(decision, view, steer, exploration, route)

    def resolve(self, request: Request) -> Target:
        """Return the deciding route and its candidates; see ``Router.resolve``."""
        return self._router.resolve(request)

    def scored(self, decision: Decision, model: str, score: float) -> None:
        """Correct a model's expected quality by the score of an answer, in [0, 1]."""
        control = self.controls.get(decision.route)
        expected = next((c.prediction for c in decision.candidates if c.model == model), None)
        if control is not None and expected is not None:
            control.scored(model, expected.quality, score)

    def escalated(self, decision: Decision, rows: int, of: int, usd: float) -> None:
        """Charge a cascade that sent ``rows`` of ``of`` rows on, for ``usd`` more."""
        control = self.controls.get(decision.route)
        if control is not None:
            control.escalated(rows, of, usd)

    def cost_was(self, decision: Decision, expected_usd: float, actual_usd: float) -> None:
        """Charge the difference between an answer's actual and expected cost."""
        control = self.controls.get(decision.route)
        if control is not None:
            control.cost_was(expected_usd, actual_usd)

    def _inherited(self, name: str, former: Decider | None) -> BudgetController | None:
        """Return the former controller of a route that has not changed; None otherwise."""
        if former is None or former._routes.get(name) != self._routes[name]:
            return None
        names = self._routes[name].candidates
        same = all(former._strength.get(name) == self._strength[name] for name in names)
        return former.controls.get(name) if same else None

    def _draw_version(
        self,
        decided: Decided,
        rollout: Rollout,
        request: Request,
        state: Mapping[str, ModelState],
        state_of: Callable[[str], ModelState],
    ) -> Decided:
        """Draw the version that answers in place of the chosen production version."""
        draw = rollout.draw(request.session or request.id)
        if draw < rollout.share:
            return self._draw_canary(decided, rollout, draw, request, state_of(rollout.canary))
        cold = state[decided.decision.model].busy.load_in_s > 0
        drawn = VersionDraw(rollout, "production", draw, cold=cold)
        return decided._replace(decision=swapped(decided.decision, drawn, None), drawn=drawn)

    def _draw_canary(
        self, decided: Decided, rollout: Rollout, draw: float, request: Request, state: ModelState
    ) -> Decided:
        """Give a request to the canary, unless that is out of service, late or over a limit."""
        view, name = decided.view, rollout.canary
        learned = view.router is not None  # for the name that both versions share
        quality = view.quality[rollout.production] if learned else self._strength[name]
        question = Question(request, view.demand, view.input_tokens, {name: quality})
        candidate, bounds = self._router.alone(name, question, state, decided.route)
        cold = state.busy.load_in_s > 0
        patient = self._infeasible[request.latency_class] == "queue"
        why_not, fault = None, None
        if candidate.broken:
            why_not, fault = f"is out of service: {candidate.why_not}", "failed"
        elif not keeps_limits(candidate, bounds):
            why_not = "breaks a limit of the request"
        elif not (patient or cold) and self._router.surely_late(candidate, bounds):
            why_not, fault = "would be late", "late"
        drawn = VersionDraw(rollout, "canary", draw, why_not, fault, cold)
        on_trial = replace(candidate, feasible=False, why_not=candidate.why_not or _ON_TRIAL)
        return decided._replace(decision=swapped(decided.decision, drawn, on_trial), drawn=drawn)

    def _policy(
        self,
        request: Request,
        target: Target,
        view: View,
        state: Mapping[str, ModelState],
        control: BudgetController | None,
        steer: Steer | None,
    ) -> Decision:
        """Decide by the policy, or from the cache where an equal request was just decided."""
        key = None
        if not view.by_content and (control is None or not control.active):
            key = _cache_key(request, view, state)
            recent = self._recent.recall(key, request.id, request.arrived_s)
            if recent is not None:
                return recent
        quality = view.quality if control is None else control.corrected(view.quality)
        question = Question(request, view.demand, view.input_tokens, quality)
        decision = self._router.decide(question, target, state, steer)
        if key is not None:
            self._recent.remember(key, decision, request.arrived_s)
        return decision

    def _stick(
        self, decision: Decision, session: str, route: Route, steer: Steer | None, now_s: float
    ) -> Decision | None:
        """Keep a session's model while it is feasible and good enough."""
        model = self._sessions.recall(decision.route, session, now_s)
        feasible = [c for c in decision.candidates if c.feasible]
        sticky = next((c for c in feasible if c.model == model), None)
        if sticky is None:
            return None
        target = route.target_for(decision.latency_class) if steer is None else steer.target
        needed = target * max(c.prediction.quality for c in feasible)
        if sticky.prediction.quality < needed:
            return None
        reason = (
            f"the session stays with {sticky.model}: {sticky.prediction.quality:.0%} expected, "
            f"{needed:.0%} needed"
        )
        return _instead(decision, Choice(sticky, "session", reason))

    def _explore(self, decision: Decision, route: Route) -> tuple[Decision, Exploration | None]:
        """Replace the choice by a random draw for the configured share of requests."""
        settings = route.explore
        if settings is None or not settings.covers(decision.latency_class):
            return decision, None
        feasible = [c.model for c in decision.candidates if c.feasible]
        draw = self._draws.draw(decision.id)
        exploration = explore(settings.share, draw, decision.model, feasible)
        if exploration is None:
            return decision, None
        propensity = exploration.propensity(exploration.model)
        chosen = next(c for c in decision.candidates if c.model == exploration.model)
        if not exploration.by_chance:
            choice = Choice(chosen, decision.rule, decision.reason)
        else:
            reason = (
                f"explores: {chosen.model} was drawn among {len(feasible)} feasible candidates "
                f"({settings.share:.0%} of requests are); the policy would take {decision.model}"
            )
            choice = Choice(chosen, "explore", reason)
        return _instead(decision, choice, propensity), exploration


def _instead(decision: Decision, choice: Choice, propensity: float = 1.0) -> Decision:
    return decision_of(
        decision.id,
        decision.route,
        decision.latency_class,
        decision.candidates,
        choice,
        (decision.model, *decision.fallbacks),
        propensity,
    )


def _count(control: BudgetController, decision: Decision, steer: Steer, now_s: float) -> None:
    """Charge a decision to the route's controllers."""
    chosen = next(c for c in decision.candidates if c.model == decision.model)
    feasible = [c for c in decision.candidates if c.feasible]
    control.chose(decision.latency_class, chosen, feasible, steer, now_s)


def _cache_key(request: Request, view: View, state: Mapping[str, ModelState]) -> tuple[object, ...]:
    """Return a key that is equal for two requests with the same decision."""
    return (
        request.target,
        request.task,
        request.latency_class,
        round(request.deadline_in_s, 6),
        request.own_deadline,
        request.limits,
        view.demand.units,
        *[
            (model.busy.queued_units, model.busy.running, model.busy.load_in_s > 0, model.broken)
            for model in state.values()
        ],
    )
