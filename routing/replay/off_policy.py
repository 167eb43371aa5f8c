"""Off-policy estimates: the mean reward of another policy, from the log of this one.

For every logged request: the action taken, the probability p with which it was taken, its reward
(r), the other policy's action, and the prediction for every candidate (m).

    direct   mean of m(x, new)
    IPS      mean of w r                     w = 1[taken = new] / p
    SNIPS    sum of w r / sum of w
    DR       mean of m(x, new) + w (r - m(x, taken))

IPS is unbiased where the log explores and noisy where it does so rarely; DR stays right when either
the predictions or the propensities are. The effective sample size (sum w)^2 / sum w^2 says how many
requests the estimate rests on. Intervals are percentile bootstraps over requests.

Sources: Horvitz & Thompson (1952); Swaminathan & Joachims, NIPS 2015 (SNIPS); Dudik, Langford & Li,
ICML 2011 (DR); Kong, JASA 1994 (effective sample size).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.errors import DataError

Floats = NDArray[np.float64]
_FEW = 50.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Logged requests, one an element; all of shape (n,).

    Attributes:
        same: whether the other policy takes the action that was taken.
        propensity: probability of the action taken, in (0, 1].
        support: probability with which the log takes the other policy's action; 0 is never.
        reward: reward of the action taken.
        predicted_taken: predicted reward of the action taken.
        predicted_new: predicted reward of the other policy's action.
    """

    same: NDArray[np.bool_]
    propensity: Floats
    support: Floats
    reward: Floats
    predicted_taken: Floats
    predicted_new: Floats


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimates:
    """One reward under the other policy.

    Attributes:
        requests: number of requests that the estimates rest on.
        logged: mean under the logging policy.
        by: estimate by name: ``direct``, ``ips``, ``snips``, ``dr``.
        effective: effective sample size.
        unsupported: share of requests whose new action the log never takes there.
        warning: the problem of the overlap; None when it is large enough.
    """

    requests: int
    logged: Estimate
    by: dict[str, Estimate]
    effective: float
    unsupported: float
    warning: str | None


def estimate(evidence: Evidence, *, rounds: int = 500, seed: int = 0) -> Estimates:
    """Estimate the mean reward of the other policy.

    Args:
        evidence: at least one request.
        rounds: bootstrap resamples.
        seed: of the resampling.

    Raises:
        DataError: no request, or a propensity outside (0, 1].
    """
    n = len(evidence.reward)
    if n == 0:
        raise DataError("no request to estimate from")
    if not ((evidence.propensity > 0.0) & (evidence.propensity <= 1.0)).all():
        raise DataError("a propensity is not in (0, 1]; the log cannot be used")
    weight = evidence.same / evidence.propensity
    parts = np.stack(
        [
            evidence.reward,
            evidence.predicted_new,
            weight * evidence.reward,
            weight,
            evidence.predicted_new + weight * (evidence.reward - evidence.predicted_taken),
        ]
    )
    rng = np.random.default_rng(seed)
    means = parts.mean(axis=1)
    resampled = np.array([parts[:, rng.integers(n, size=n)].mean(axis=1) for _ in range(rounds)])
    square = float((weight**2).sum())
    effective = float(weight.sum()) ** 2 / square if square > 0.0 else 0.0
    unsupported = float((evidence.support <= 0.0).mean())
    values, samples = _named(means[None, :]), _named(resampled)
    by_name = {name: _interval(float(values[name][0]), samples[name]) for name in values}
    logged = by_name.pop("logged")
    warning = _warning(n, effective, unsupported)
    return Estimates(n, logged, by_name, effective, unsupported, warning)


def _named(means: Floats) -> dict[str, Floats]:
    """Return the estimates by name from the means of the five parts, shape (k, 5)."""
    logged, direct, ips, weights, dr = means.T
    with np.errstate(invalid="ignore", divide="ignore"):
        snips = np.where(weights > 0.0, ips / weights, np.nan)
    return {"logged": logged, "direct": direct, "ips": ips, "snips": snips, "dr": dr}


def _interval(value: float, samples: Floats) -> Estimate:
    defined = samples[~np.isnan(samples)]
    if not len(defined):
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.quantile(defined, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def _warning(n: int, effective: float, unsupported: float) -> str | None:
    if unsupported > 0.01:
        return (
            f"{unsupported:.0%} of the requests would go to a model that the logging policy never "
            "chose for them: ips and snips say nothing of those, dr and direct only what was "
            "predicted. Give the route `explore: {share: 0.02}` and log some more"
        )
    if effective < _FEW:
        why = "the two policies rarely agree" if effective < n / 2 else "the log is short"
        return (
            f"{why}: {n} requests count like {effective:.0f}. Believe the intervals, not the "
            "values; log more, or explore more"
        )
    return None
