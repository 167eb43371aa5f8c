"""Feedback control of a route's limits: its share of strong answers, its budget, its target.

Each is a limit on a long-run average, held by a *virtual queue*: what the answers so far have
taken over the limit. The longer the queue, the higher the price of taking more:

    Z(t+1) = max(Z(t) + k (taken(t) - limit), 0)          price(t) = Z(t)

and of the candidates no dearer than the policy's own choice the one with the highest
``quality - price x what it takes`` answers. That is the drift-plus-penalty rule: the best mean
quality under the limits, without knowing the traffic. Because a queue can only grow by what was
taken over the limit, the average over any n decisions is at most ``limit + (1 + k) / (k n)``,
whatever the traffic; ``tests/routing/decision/test_budget_control.py`` checks the bound on
arbitrary streams.

Anti-windup: a queue does not grow on a decision without a choice (one feasible candidate only),
no further than the price at which it forbids everything, and never below empty: quiet times are not
saved up. Time is an argument.

Sources: Neely, Stochastic Network Optimization (2010), ch. 4, for the queues; Gibbs & Candes,
Adaptive Conformal Inference (NeurIPS 2021), for the same bound; Astrom & Hagglund, Advanced PID
Control (2006), ch. 3, for conditional integration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from turnout.catalog import Route
from turnout.types import Candidate

_SHARE_STEP = 0.05
_TARGET_STEP = 0.05
_FEEDBACK_STEP = 0.01
_MOST_CORRECTION = 0.3
_BUDGET_HORIZON_S = 36.0
_MOST_PRICE = 5.0
_MOST_DEBT = 2.0
_COST_RATE = 0.01


@dataclass(frozen=True, slots=True)
class Steer:
    """The target and prices that the controllers set for the next decision.

    Attributes:
        target: share of the best quality that is good enough now.
        route_target: the share that the route is configured for.
        strongest: the model whose share is limited.
        share_price: expected quality that the strongest model must bring more.
        usd_price: expected quality that each dollar must bring.
    """

    target: float
    route_target: float
    strongest: str = ""
    share_price: float = 0.0
    usd_price: float = 0.0

    @property
    def free(self) -> bool:
        """Whether both prices are zero, so that only quality counts."""
        return self.share_price == 0.0 and self.usd_price == 0.0

    def worth(self, candidate: Candidate) -> float:
        """Return the expected quality less the price of this candidate."""
        prediction = candidate.prediction
        strong = self.share_price if candidate.model == self.strongest else 0.0
        return prediction.quality - strong - self.usd_price * prediction.cost_usd


class BudgetController:
    """The controllers of one route.

    Args:
        route: the route, with its limits.
        strength: the prior quality of its candidates, by name; the highest is the strongest.
        workers: processes that share the budget equally.
    """

    def __init__(self, route: Route, strength: Mapping[str, float], workers: int = 1) -> None:
        budget = route.budget_usd_per_hour
        part = None if budget is None else budget / workers
        self._route = route.model_copy(update={"budget_usd_per_hour": part})
        self._strongest = max(route.candidates, key=lambda name: strength[name])
        self._share_debt = 0.0
        self._budget_debt_usd = 0.0
        self._cost_scale_usd = 0.0
        self._updated_s: float | None = None
        self._trim: dict[str, float] = {}
        self._correction: dict[str, float] = {}
        self.decided = 0
        self.strong = 0
        self.spent_usd = 0.0

    @property
    def active(self) -> bool:
        """Whether a decision changes the controllers' state."""
        route = self._route
        return (
            route.max_strong_share is not None
            or route.budget_usd_per_hour is not None
            or route.target_holds == "average"
        )

    @property
    def strongest(self) -> str:
        """The model whose share ``max_strong_share`` limits."""
        return self._strongest

    def steer(self, latency_class: str, now_s: float) -> Steer:
        """Return target and prices for the next decision of this class."""
        base = self._route.target_for(latency_class)
        target = min(max(base + self._trim.get(latency_class, 0.0), 0.0), 1.0)
        return Steer(target, base, self._strongest, self._share_debt, self._usd_price(now_s))

    def corrected(self, quality: Mapping[str, float]) -> Mapping[str, float]:
        """Return the expected quality of each model, corrected by the feedback so far."""
        if not self._correction:
            return quality
        return {
            name: min(max(value + self._correction.get(name, 0.0), 0.0), 1.0)
            for name, value in quality.items()
        }

    def chose(
        self,
        latency_class: str,
        chosen: Candidate,
        feasible: Sequence[Candidate],
        steer: Steer,
        now_s: float,
    ) -> None:
        """Charge a decision to the controllers.

        Args:
            latency_class: of the request.
            chosen: the candidate that answers.
            feasible: the feasible candidates; empty when none could answer in time.
            steer: target and prices that the decision was made with.
            now_s: monotonic seconds.
        """
        self.decided += 1
        strong = chosen.model == self._strongest
        self.strong += strong
        self._charge(chosen.prediction.cost_usd, feasible, now_s)
        if len(feasible) < 2:
            return
        if self._route.policy_for(latency_class) != "cascade":
            self._hold_share(int(strong), 1)
        if self._route.target_holds == "average":
            self._hold_average(latency_class, chosen, feasible, steer)

    def escalated(self, rows: int, of: int, usd: float) -> None:
        """Charge a cascade that sent ``rows`` of its ``of`` rows on, for ``usd`` more."""
        self.strong += rows
        self.decided += of - 1
        self.spent_usd += usd
        self._owe(usd)
        self._hold_share(rows, of)

    def cost_was(self, expected_usd: float, actual_usd: float) -> None:
        """Charge the difference between an answer's actual and expected cost."""
        self.spent_usd += actual_usd - expected_usd
        self._owe(actual_usd - expected_usd)

    def scored(self, model: str, expected: float, score: float) -> None:
        """Correct a model's expected quality by the score of an answer, within limits.

        The correction integrates the error, so that a model's mean expected quality comes to equal
        its mean score.

        Args:
            model: the model that answered.
            expected: its expected quality, as corrected at that time, in [0, 1].
            score: the score, in [0, 1].
        """
        if self._route.learn_from_feedback:
            moved = self._correction.get(model, 0.0) + _FEEDBACK_STEP * (score - expected)
            self._correction[model] = min(max(moved, -_MOST_CORRECTION), _MOST_CORRECTION)

    def state(self, now_s: float) -> dict[str, float]:
        """Return the present state, by name, for metrics and for a person."""
        state: dict[str, float] = {}
        if self._route.max_strong_share is not None:
            state["share_price"] = self._share_debt
        if self._route.budget_usd_per_hour is not None:
            self._pay(now_s)
            state["budget_debt_usd"] = self._budget_debt_usd
            state["budget_price"] = self._price()
        for name, trim in self._trim.items():
            state[f"target_trim_{name}"] = trim
        for name, correction in self._correction.items():
            state[f"correction_{name}"] = correction
        return state

    def _hold_share(self, strong: int, of: int) -> None:
        limit = self._route.max_strong_share
        if limit is not None:
            debt = self._share_debt + _SHARE_STEP * (strong - limit * of)
            self._share_debt = min(max(debt, 0.0), _MOST_DEBT)

    def _hold_average(
        self, latency_class: str, chosen: Candidate, feasible: Sequence[Candidate], steer: Steer
    ) -> None:
        top = max(candidate.prediction.quality for candidate in feasible)
        missing = steer.route_target * top - chosen.prediction.quality
        cheapest = min(candidate.prediction.cost_usd for candidate in feasible)
        at_bottom = missing < 0.0 and chosen.prediction.cost_usd <= cheapest
        overruled = missing > 0.0 and not steer.free
        if at_bottom or overruled:
            return
        trim = self._trim.get(latency_class, 0.0) + _TARGET_STEP * missing
        self._trim[latency_class] = max(trim, -steer.route_target)

    def _charge(self, cost_usd: float, feasible: Sequence[Candidate], now_s: float) -> None:
        self.spent_usd += cost_usd
        if self._route.budget_usd_per_hour is None:
            return
        dearest = max((c.prediction.cost_usd for c in feasible), default=cost_usd)
        if self._cost_scale_usd == 0.0:
            self._cost_scale_usd = dearest
        self._cost_scale_usd += _COST_RATE * (dearest - self._cost_scale_usd)
        self._pay(now_s)
        self._owe(cost_usd)

    def _pay(self, now_s: float) -> None:
        """Reduce the debt by the budget of the time that has passed."""
        budget = self._route.budget_usd_per_hour
        if budget is not None and self._updated_s is not None:
            paid_usd = budget * max(now_s - self._updated_s, 0.0) / 3600.0
            self._budget_debt_usd = max(self._budget_debt_usd - paid_usd, 0.0)
        self._updated_s = now_s

    def _owe(self, usd: float) -> None:
        """Add to the debt, up to that at which the price is highest."""
        budget = self._route.budget_usd_per_hour
        if budget is not None:
            most_usd = _MOST_PRICE * budget * _BUDGET_HORIZON_S / 3600.0
            self._budget_debt_usd = min(max(self._budget_debt_usd + usd, 0.0), most_usd)

    def _price(self) -> float:
        """Return the quality the dearest answer must add: 1 at ``_BUDGET_HORIZON_S`` of debt."""
        budget = self._route.budget_usd_per_hour
        if budget is None:
            return 0.0
        return self._budget_debt_usd / (budget * _BUDGET_HORIZON_S / 3600.0)

    def _usd_price(self, now_s: float) -> float:
        if self._route.budget_usd_per_hour is None or self._cost_scale_usd <= 0.0:
            return 0.0
        self._pay(now_s)
        return self._price() / self._cost_scale_usd
