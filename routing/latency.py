"""How long each model will take: learned while serving, from conservative priors.

For each model, the time of one run is ``base + per_unit x units`` (units: rows of the batch, or
tokens of a prompt), fitted by recursive least squares with forgetting. The time to an answer is
that plus the wait behind what is already queued. Its spread is tracked as quantiles of the log
ratio between what a request really took and what was predicted for it, so that a predicted
p95 holds for 95 % of requests whatever the model leaves out.

Sources: Ljung & Soderstrom, Theory and Practice of Recursive Identification (1983), for the
recursion; Robbins & Monro (1951) for quantiles by stochastic approximation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_FORGET = 0.98
_QUANTILES = (0.5, 0.95, 0.99)
_PRIOR_LOG_RATIO = (0.0, math.log(2.0), math.log(3.0))
_STEP = 0.05
_MIN_RUN_S = 1e-6
_MAX_RATIO = 100.0
_MAX_LOG_RATIO = math.log(_MAX_RATIO)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request asks of an engine.

    Attributes:
        units: rows of a tensor request, or prompt tokens of a generation.
        output_tokens: tokens expected to be written; 0 for tensors.
    """

    units: float = 1.0
    output_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Busy:
    """What is ahead of a new request in one model.

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


@dataclass(frozen=True, slots=True)
class Spread:
    """Predicted seconds to the answer (generation: to the first token)."""

    p50_s: float
    p95_s: float
    p99_s: float

    def at(self, percentile: float) -> float:
        """The tracked quantile that is at least ``percentile``; p99 beyond it."""
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
        self._log_ratio = list(_PRIOR_LOG_RATIO)
        self._seen = 0

    @property
    def observations(self) -> int:
        """How many answers the quantiles have seen."""
        return self._seen

    def run_s(self, units: float) -> float:
        """Expected seconds of one run of ``units``, ``units`` >= 1."""
        first, more = self._units[0] * self._theta[0], self._units[1] * self._theta[1]
        return max(first + more * (units - 1.0), _MIN_RUN_S)

    @property
    def token_s(self) -> float:
        """Expected seconds between two written tokens."""
        return self._token_s

    def predict(self, demand: Demand, busy: Busy) -> Spread:
        """Predict the time to the answer of a request that arrives now."""
        median = self._median_s(demand, busy)
        low, mid, high = self._log_ratio
        p50 = median * math.exp(low)
        p95 = max(p50, median * math.exp(mid))
        return Spread(p50, p95, max(p95, median * math.exp(high)))

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
        # Forget along each direction only up to the prior: a direction without news (every run of
        # one row, say) must not wind up, nor keep the other from forgetting.
        grow_a = _FORGET**-0.5 if a < 1.0 else 1.0
        grow_c = _FORGET**-0.5 if c < 1.0 else 1.0
        self._cov = (a * grow_a**2, b * grow_a * grow_c, c * grow_c**2)

    def observe_token(self, token_s: float) -> None:
        """Learn from the mean time between written tokens of one answer."""
        if token_s > 0 and math.isfinite(token_s):
            self._token_s += 0.1 * (token_s - self._token_s)

    def observe_answer(self, predicted_p50_s: float, actual_s: float) -> None:
        """Learn the spread: what was predicted for a request, and what it took.

        Both are seconds to the answer; ``predicted_p50_s`` is ``Spread.p50_s`` as predicted at
        arrival.
        """
        if not (predicted_p50_s > 0 and actual_s > 0):
            return
        seen = math.log(actual_s / predicted_p50_s) + self._log_ratio[0]
        seen = min(max(seen, -_MAX_LOG_RATIO), _MAX_LOG_RATIO)
        self._seen += 1
        step = max(_STEP, 1.0 / math.sqrt(self._seen))
        for index, quantile in enumerate(_QUANTILES):
            below = seen < self._log_ratio[index]
            move = step * ((quantile - 1.0) if below else quantile)
            self._log_ratio[index] += move

    def _median_s(self, demand: Demand, busy: Busy) -> float:
        own = self.run_s(demand.units)
        wait = busy.load_in_s
        if self._token_s > 0:
            ahead = busy.queued_units + max(busy.running - busy.lanes + 1, 0)
            turn = self.run_s(1.0) + self._token_s * max(demand.output_tokens, 1.0)
            return wait + own + ahead * turn / busy.lanes
        if busy.queued_units > 0:
            full = math.ceil(busy.queued_units / busy.batch_units)
            wait += full * self.run_s(min(busy.queued_units, busy.batch_units)) / busy.lanes
        if busy.running >= busy.lanes:
            wait += 0.5 * own
        return wait + own
