"""Which model's runs make the process grow. Pure.

Many models share one process, so growth cannot be attributed directly. Each period has a growth
that no load explains, and a number of runs of each model. For each model alone, Bayesian linear
regression estimates how much of the growth its runs explain, beside what any run leaves behind (a
row of a log, say). Models are tested one at a time because a leak belongs to one model: with all
of them at once, correlated traffic would have each explain a little. The influence of one period
is bounded, and old periods are forgotten.

The result is a suspicion. The owner of the models closes the suspect, checks whether its memory
comes back, and reports the outcome here.

Source: Bishop, "Pattern Recognition and Machine Learning" (2006), 3.3; Huber, "Robust Estimation
of a Location Parameter" (1964), for the bound on what one period may say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

_KIB = 1024.0
_KEEP = 0.998  # of the evidence, a period: half is forgotten after 350
_PRIOR_KIB, _COMMON_KIB = 512.0, 3.0  # deviations of what a run of one model, of any, may gain
_NOISE_KIB = 32.0  # of a period, at least
_LEVEL_RATE, _NOISE_RATE = 0.05, 0.02
_BOUND = 4.0  # times the noise
_SURE = 3.5  # standard errors
_LEAST_RUNS = 30

_Array: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"


class Suspect(NamedTuple):
    """A model that seems to leak, and the growth attributed to it."""

    name: str
    a_run_bytes: float
    gained_bytes: float


class Leaks:
    """Estimates the growth a run of each model.

    Args:
        least_bytes: what a model must have gained since its load to be suspected.
    """

    def __init__(self, least_bytes: int) -> None:
        self._least_bytes = least_bytes
        self._noise_kib = _NOISE_KIB
        self._level_kib = 0.0
        self._cleared: dict[str, int] = {}
        self.start_over()

    def start_over(self) -> None:
        """Forget all growth: its cause is gone."""
        self._at: dict[str, int] = {}  # place 0 is what any run gains
        self._runs: dict[str, int] = {}
        self._products: _Array = np.zeros((1, 1))
        self._gains: _Array = np.zeros(1)

    def observe(
        self, runs: Mapping[str, int], gained_bytes: float, unsure_bytes: float = 0.0
    ) -> None:
        """Learn from one period.

        Args:
            runs: of each model in it; those that did not run may be left out.
            gained_bytes: growth that no load or close explains; may be negative.
            unsure_bytes: how far that may be wrong, because models were loaded or closed.
        """
        if not sum(runs.values()):
            return
        row = self._row(runs)
        blur = float(np.hypot(1.0, unsure_bytes / _KIB / self._noise_kib))
        bound = _BOUND * self._noise_kib * blur
        error = min(max(gained_bytes / _KIB - self._level_kib, -bound), bound)
        gained = self._level_kib + error
        self._level_kib += _LEVEL_RATE * error / blur**2
        usual = max(1.25 * abs(error) / blur, _NOISE_KIB)
        self._noise_kib += _NOISE_RATE * (usual - self._noise_kib)
        self._products = _KEEP * self._products + np.outer(row, row) / blur**2
        self._gains = _KEEP * self._gains + gained * row / blur**2

    def suspect(self, sizes: Mapping[str, int]) -> Suspect | None:
        """Return the model that explains the growth best; None when none has surely gained much.

        Much is more than twice its size, and the least that counts.

        Args:
            sizes: bytes that each model takes after its load; others are not looked at.
        """
        mean, deviation, explained = self._alone()
        best: tuple[float, Suspect] | None = None
        for name, size in sizes.items():
            place, runs = self._at.get(name), self._runs.get(name, 0)
            if place is None or runs < max(_LEAST_RUNS, self._cleared.get(name, 0)):
                continue
            a_run = float(mean[place]) * _KIB
            if mean[place] < _SURE * deviation[place]:
                continue
            if a_run * runs < max(self._least_bytes, 2 * size):
                continue
            if best is None or explained[place] > best[0]:
                best = float(explained[place]), Suspect(name, a_run, a_run * runs)
        return None if best is None else best[1]

    def clear(self, name: str) -> None:
        """Clear a model of suspicion until it has run twice as often."""
        self._cleared[name] = 2 * self._runs.get(name, 0)

    def _row(self, runs: Mapping[str, int]) -> _Array:
        for name in runs:
            self._at.setdefault(name, len(self._at) + 1)
        more = len(self._at) + 1 - len(self._gains)
        if more:
            self._products = np.pad(self._products, (0, more))
            self._gains = np.pad(self._gains, (0, more))
        row = np.zeros(len(self._gains))
        row[0] = sum(runs.values())
        for name, count in runs.items():
            row[self._at[name]] = count
            self._runs[name] = self._runs.get(name, 0) + count
        return row

    def _alone(self) -> tuple[_Array, _Array, _Array]:
        """Each model beside the common gain: mean and deviation of its gain a run, in KiB.

        The third says how much of the growth the two explain; larger is better.
        """
        noise = self._noise_kib**2
        any_any = self._products[0, 0] / noise + _COMMON_KIB**-2
        one_any = self._products[0] / noise
        one_one = np.diag(self._products) / noise + _PRIOR_KIB**-2
        any_gain, one_gain = self._gains[0] / noise, self._gains / noise
        determinant = np.maximum(any_any * one_one - one_any**2, 1e-30)
        common = (one_one * any_gain - one_any * one_gain) / determinant
        mean = (any_any * one_gain - one_any * any_gain) / determinant
        explained = common * any_gain + mean * one_gain - np.log(determinant)
        return mean, np.sqrt(any_any / determinant), explained
