"""From a request to its decision: policy, session, chance, then versions, with the knobs held.

``Router`` answers for one moment. What lasts longer than a request is here: what equal requests
were given a moment ago, each route's controllers, a session's model, and the draws of chance.
Still no clock and no I/O: the time is the request's arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from routing.decision.budget_control import BudgetController, Steer
from routing.decision.constraints import keeps_limits
from routing.decision.decision_cache import DecisionCache
from routing.decision.exploration import Draws, Exploration, explore
from routing.decision.policy import Choice
from routing.decision.request_view import RequestAnalyzer, View
from routing.decision.router import ModelState, Question, Router, decision_of
from routing.decision.sessions import Sessions
from routing.latency import ModelLatency
from routing.rollout.traffic_split import Rollout, VersionDraw, swapped
from turnout.catalog import Catalog, Route
from turnout.types import Decision, Request, Task

_ON_TRIAL = "on trial: only its draw chooses it"


@dataclass(slots=True)
class Decided:
    """A decision and what it was decided on, as far as it is not in the decision.

    Attributes:
        decision: the decision.
        view: the request as the router saw it.
        steer: what the route's controllers asked for; None where there are none.
        exploration: what chance had to do with it; None where nothing.
        route: the route that decided; None when the model was named directly.
        drawn: which version chance drew, of a model with a canary; None where there is none.
    """

    decision: Decision
    view: View
    steer: Steer | None = None
    exploration: Exploration | None = None
    route: Route | None = None
    drawn: VersionDraw | None = None


class Decider:
    """Decides over one catalog.

    Args:
        catalog: the fleet.
        latencies: the latency model of each catalog model, by name; learned from outside.
        judge: looks at requests.
        seed: of exploration's draws.
        rollouts: the canaries on trial, by the model of their production version.
        former: who decided before; controllers of routes that are the same, and sessions, go on.
    """

    def __init__(
        self,
        catalog: Catalog,
        latencies: Mapping[str, ModelLatency],
        judge: RequestAnalyzer,
        seed: bytes = b"",
        rollouts: Mapping[str, Rollout] | None = None,
        former: Decider | None = None,
    ) -> None:
        self._routes = catalog.routes
        self._judge = judge
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
        """Decide.

        Args:
            request: the request.
            state_of: what the router must know of a model now.
            trial: nothing is run after it: no chance, and no controller or session hears of it.

        Raises:
            TurnoutError: see ``Router.decide``.
        """
        name, models = self._router.candidates(request)
        view = self._judge.look(request, models)
        state = {model: state_of(model) for model in models}
        control = self.controls.get(name)
        now_s = request.arrived_s
        steer = None if control is None else control.steer(request.latency_class, now_s)
        decision = self._policy(request, view, state, control, steer)
        route = self._routes.get(name)
        if route is None:
            decided = Decided(decision, view)
            return self._versioned(decided, request, state, state_of, trial=trial)
        session = request.session if request.task is Task.CHAT else None
        stuck = None if session is None else self._stick(decision, session, route, steer, now_s)
        exploration = None
        if stuck is not None:
            decision = stuck
        elif route.explore is not None and not trial:
            decision, exploration = self._explore(decision, route)
        if not trial:
            if session is not None:
                self._sessions.remember(name, session, decision.model, now_s)
            if control is not None and steer is not None:
                _tell(control, decision, steer, now_s)
        decided = Decided(decision, view, steer, exploration, route)
        return self._versioned(decided, request, state, state_of, trial=trial)

    def scored(self, decision: Decision, model: str, score: float) -> None:
        """Feedback on an answer of ``model``, in [0, 1]."""
        control = self.controls.get(decision.route)
        told = next((c.prediction for c in decision.candidates if c.model == model), None)
        if control is not None and told is not None:
            control.scored(model, told.quality, score)

    def escalated(self, decision: Decision, rows: int, of: int, usd: float) -> None:
        """A cascade sent ``rows`` of ``of`` rows on, for ``usd`` more."""
        control = self.controls.get(decision.route)
        if control is not None:
            control.escalated(rows, of, usd)

    def cost_was(self, decision: Decision, expected_usd: float, actual_usd: float) -> None:
        """An answer cost something else than what was expected of it."""
        control = self.controls.get(decision.route)
        if control is not None:
            control.cost_was(expected_usd, actual_usd)

    def _inherited(self, name: str, former: Decider | None) -> BudgetController | None:
        """The controller of a route that is as it was."""
        if former is None or former._routes.get(name) != self._routes[name]:
            return None
        names = self._routes[name].candidates
        same = all(former._strength.get(each) == self._strength[each] for each in names)
        return former.controls.get(name) if same else None

    def _versioned(
        self,
        decided: Decided,
        request: Request,
        state: Mapping[str, ModelState],
        state_of: Callable[[str], ModelState],
        *,
        trial: bool,
    ) -> Decided:
        """Let a canary have its share of what production was chosen for."""
        if not self._rollouts or trial:
            return decided
        decision = decided.decision
        rollout = self._rollouts.get(decision.model)
        if rollout is None or decision.route not in rollout.targets:
            return decided
        if rollout.trial.worse is not None:
            return decided
        draw = rollout.draw(request.session or request.id)
        if draw >= rollout.share:
            cold = state[decision.model].busy.load_in_s > 0
            decided.drawn = VersionDraw(rollout, "production", draw, cold=cold)
            decided.decision = swapped(decision, decided.drawn, None)
            return decided
        busy = state_of(rollout.canary)
        cold = busy.busy.load_in_s > 0
        decided.drawn = drawn = VersionDraw(rollout, "canary", draw, cold=cold)
        view = decided.view
        learned = view.router is not None  # of the name that both versions share
        told = view.quality[decision.model] if learned else self._strength[rollout.canary]
        question = Question(request, view.demand, view.input_tokens, {rollout.canary: told})
        candidate, bounds = self._router.alone(rollout.canary, question, busy, decision.route)
        patient = self._infeasible[request.latency_class] == "queue"
        if candidate.broken:
            drawn.why_not, drawn.fault = f"is out of service: {candidate.why_not}", "failed"
        elif not keeps_limits(candidate, bounds):
            drawn.why_not = "breaks a limit of the request"
        elif not patient and self._router.surely_late(candidate, bounds) and not cold:
            drawn.why_not, drawn.fault = "would be late", "late"
        on_trial = replace(candidate, feasible=False, why_not=candidate.why_not or _ON_TRIAL)
        decided.decision = swapped(decision, drawn, on_trial)
        return decided

    def _policy(
        self,
        request: Request,
        view: View,
        state: Mapping[str, ModelState],
        control: BudgetController | None,
        steer: Steer | None,
    ) -> Decision:
        """The policy's own choice; a moment's memory where requests look alike."""
        key = None
        if not view.by_content and (control is None or not control.active):
            key = _sameness(request, view, state)
            known = self._recent.recall(key, request.id, request.arrived_s)
            if known is not None:
                return known
        quality = view.quality if control is None else control.corrected(view.quality)
        question = Question(request, view.demand, view.input_tokens, quality)
        decision = self._router.decide(question, state, steer)
        if key is not None:
            self._recent.remember(key, decision, request.arrived_s)
        return decision

    def _stick(
        self, decision: Decision, session: str, route: Route, steer: Steer | None, now_s: float
    ) -> Decision | None:
        """Keep a session's model while it is feasible and good enough."""
        model = self._sessions.recall(decision.route, session, now_s)
        feasible = [c for c in decision.candidates if c.feasible]
        kept = next((c for c in feasible if c.model == model), None)
        if kept is None:
            return None
        target = route.target_for(decision.latency_class) if steer is None else steer.target
        needed = target * max(c.prediction.quality for c in feasible)
        if kept.prediction.quality < needed:
            return None
        reason = (
            f"the session stays with {kept.model}: {kept.prediction.quality:.0%} expected, "
            f"{needed:.0%} needed"
        )
        return _instead(decision, Choice(kept, "session", reason))

    def _explore(self, decision: Decision, route: Route) -> tuple[Decision, Exploration | None]:
        """Give chance its share among the feasible candidates."""
        told = route.explore
        if told is None or not told.covers(decision.latency_class):
            return decision, None
        feasible = [c.model for c in decision.candidates if c.feasible]
        found = explore(told.share, self._draws.draw(decision.id), decision.model, feasible)
        if found is None:
            return decision, None
        propensity = found.propensity(found.model)
        chosen = next(c for c in decision.candidates if c.model == found.model)
        if not found.by_chance:
            choice = Choice(chosen, decision.rule, decision.reason)
        else:
            reason = (
                f"explores: {found.model} was drawn among {len(feasible)} feasible candidates "
                f"({told.share:.0%} of requests are); the policy would take {decision.model}"
            )
            choice = Choice(chosen, "explore", reason)
        return _instead(decision, choice, propensity), found


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


def _tell(control: BudgetController, decision: Decision, steer: Steer, now_s: float) -> None:
    chosen = next(c for c in decision.candidates if c.model == decision.model)
    feasible = [c for c in decision.candidates if c.feasible]
    control.chose(decision.latency_class, chosen, feasible, steer, now_s)


def _sameness(request: Request, view: View, state: Mapping[str, ModelState]) -> tuple[object, ...]:
    """What two requests have in common when they deserve the same decision."""
    return (
        request.target,
        request.task,
        request.latency_class,
        round(request.deadline_in_s, 6),
        request.own_deadline,
        request.limits,
        view.demand.units,
        *[
            (one.busy.queued_units, one.busy.running, one.busy.load_in_s > 0, one.broken)
            for one in state.values()
        ],
    )
