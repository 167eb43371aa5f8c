"""Latency models, one for each model: learned while serving, from conservative priors.

For each model, the time of one run is ``base + per_unit x units`` (units: rows of the batch, or
tokens of a prompt), fitted by recursive least squares with forgetting. The time to an answer is
that plus the wait behind what is already queued. Its spread is tracked as quantiles of the log
ratio between the actual and the predicted time of a request, so that a predicted
p95 holds for 95 % of requests, whatever the linear model leaves out.

Sources: Ljung & Soderstrom, Theory and Practice of Recursive Identification (1983), for the
recursion; Gibbs & Candes, Adaptive Conformal Inference (NeurIPS 2021), for quantiles that hold
their share under drift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_FORGET = 0.98
_QUANTILES = (0.5, 0.95, 0.99)
_PRIOR_LOG_RATIO = (0.0, math.log(2.0), math.log(3.0))
_STEP = 0.05
_TURN_RATE = 0.02
_WAITING = 0.5
_MIN_RUN_S = 1e-6
_MAX_RATIO = 100.0
_MAX_LOG_RATIO = math.log(_MAX_RATIO)


@dataclass(slots=True)
class Demand:
    """The work that a request is for an engine.

    Attributes:
        units: rows of a tensor request, or prompt tokens of a generation.
        output_tokens: tokens expected to be written; 0 for tensors.
    """

    units: float = 1.0
    output_tokens: float = 0.0


@dataclass(slots=True)
class Busy:
    """The load ahead of a new request in one model.

    Attributes:
        queued_units: rows (or prompts) that wait and would be served first.
        running: runs (or sequences) in the engine now.
        lanes: runs the engine does at the same time.
        batch_units: the most rows one run takes.
        load_in_s: time until the model can run at all; 0 when it is resident.
    """

    queued_units: float = 0.0
    running: int = 0
    lanes: int = 1
    batch_units: float = 1.0
    load_in_s: float = 0.0


@dataclass(slots=True)
class Spread:
    """Predicted seconds to the answer (generation: to the first token).

    Attributes:
        median_s: the expectation before its spread was corrected.
        waited: whether most of it is waiting; such times have their own spread.
    """

    p50_s: float
    p95_s: float
    p99_s: float
    median_s: float = 0.0
    waited: bool = False

    def at(self, percentile: float) -> float:
        """Return the tracked quantile that is at least ``percentile``; p99 beyond it."""
        if percentile <= 0.5:
            return self.p50_s
        return self.p95_s if percentile <= 0.95 else self.p99_s


class ModelLatency:
    """The learned latency of one model on this host.

    Args:
        base_s: prior seconds of a run of one unit.
        per_unit_s: prior seconds of each further unit.
        per_token_s: prior seconds of each written token (generation).
    """

    def __init__(self, base_s: float, per_unit_s: float = 0.0, per_token_s: float = 0.0) -> None:
        self._units = (base_s, max(per_unit_s, 0.02 * base_s))
        self._theta = (1.0, per_unit_s / self._units[1])
        self._cov = (1.0, 0.0, 1.0)
        self._token_s = per_token_s
        self._turn_s: float | None = None
        self._spreads = (_LogRatios(), _LogRatios())

    @property
    def observations(self) -> int:
        """Number of answers that the quantiles were learned from."""
        return sum(spread.observations for spread in self._spreads)

    def run_s(self, units: float) -> float:
        """Return the expected seconds of one run of ``units``, ``units`` >= 1."""
        first, more = self._units[0] * self._theta[0], self._units[1] * self._theta[1]
        return max(first + more * (units - 1.0), _MIN_RUN_S)

    @property
    def token_s(self) -> float:
        """Expected seconds between two written tokens."""
        return self._token_s

    def predict(self, demand: Demand, busy: Busy) -> Spread:
        """Predict the time to the answer of a request that arrives now."""
        own = self.run_s(demand.units)
        wait = self._wait_s(demand, busy, own)
        waited = wait > _WAITING * own
        return self._spreads[1 if waited else 0].around(own + wait, waited)

    def observe_run(self, units: float, run_s: float) -> None:
        """Learn from one run of the engine: ``units`` together took ``run_s``.

        The error is taken relative to the expected time, so that long runs do not drown short
        ones.
        """
        if not (run_s > 0 and math.isfinite(run_s)):
            return
        expected = self.run_s(units)
        u, v = self._units[0] / expected, self._units[1] * (units - 1.0) / expected
        a, b, c = self._cov
        row_0, row_1 = a * u + b * v, b * u + c * v
        denominator = _FORGET + row_0 * u + row_1 * v
        gain_0, gain_1 = row_0 / denominator, row_1 / denominator
        error = min(run_s / expected, _MAX_RATIO) - 1.0
        self._theta = (
            max(self._theta[0] + gain_0 * error, 0.0),
            max(self._theta[1] + gain_1 * error, 0.0),
        )
        a, b, c = a - gain_0 * row_0, b - gain_0 * row_1, c - gain_1 * row_1
        # Forget along each direction only up to the prior: a direction without new data (if every
        # run has one row) must not wind up, nor keep the other from forgetting.
        grow_a = _FORGET**-0.5 if a < 1.0 else 1.0
        grow_c = _FORGET**-0.5 if c < 1.0 else 1.0
        self._cov = (a * grow_a**2, b * grow_a * grow_c, c * grow_c**2)

    def observe_token(self, token_s: float) -> None:
        """Learn from the mean time between written tokens of one answer."""
        if token_s > 0 and math.isfinite(token_s):
            self._token_s += 0.1 * (token_s - self._token_s)

    def observe_turn(self, turn_s: float) -> None:
        """Learn how long one generation holds its slot, prefill to last token."""
        if turn_s > 0 and math.isfinite(turn_s):
            mean_s = turn_s if self._turn_s is None else self._turn_s
            self._turn_s = mean_s + _TURN_RATE * (turn_s - mean_s)

    def observe_answer(self, predicted: Spread, actual_s: float) -> None:
        """Learn the spread from the prediction made at a request's arrival and the actual time.

        Both are times to the answer (generation: to the first token).
        """
        if predicted.median_s > 0 and actual_s > 0:
            self._spreads[1 if predicted.waited else 0].observe(predicted, actual_s)

    def _wait_s(self, demand: Demand, busy: Busy, own_s: float) -> float:
        wait = busy.load_in_s
        if self._token_s > 0:
            ahead = busy.queued_units + max(busy.running - busy.lanes + 1, 0)
            turn = self._turn_s
            if turn is None:
                turn = own_s + self._token_s * max(demand.output_tokens, 1.0)
            return wait + ahead * turn / busy.lanes
        if busy.queued_units > 0:
            full = math.ceil(busy.queued_units / busy.batch_units)
            wait += full * self.run_s(min(busy.queued_units, busy.batch_units)) / busy.lanes
        if busy.running >= busy.lanes:
            wait += 0.5 * own_s
        return wait


class _LogRatios:
    """Quantiles of log(actual / expected), tracked online."""

    def __init__(self) -> None:
        self._at = list(_PRIOR_LOG_RATIO)
        self._factor = [math.exp(value) for value in self._at]
        self.observations = 0

    def around(self, median_s: float, waited: bool) -> Spread:
        """Return the quantiles of a time expected to be ``median_s``."""
        low, mid, high = self._factor
        p50 = median_s * low
        p95 = max(p50, median_s * mid)
        return Spread(p50, p95, max(p95, median_s * high), median_s, waited)

    def observe(self, predicted: Spread, actual_s: float) -> None:
        """Widen after a miss, narrow after a hit, so that each quantile holds its share.

        The answer is compared with the prediction made *at its arrival*, which may be many
        answers ago: this makes the long-run share exact under delayed feedback.
        """
        self.observations += 1
        step = max(_STEP, 1.0 / math.sqrt(self.observations))
        bounds = (predicted.p50_s, predicted.p95_s, predicted.p99_s)
        for index, quantile in enumerate(_QUANTILES):
            moved = self._at[index] + step * (quantile - (actual_s <= bounds[index]))
            self._at[index] = min(max(moved, -_MAX_LOG_RATIO), _MAX_LOG_RATIO)
            self._factor[index] = math.exp(self._at[index])
