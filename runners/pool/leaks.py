"""Which model's runs make the process grow. Pure.

Many models share one process, so growth has no name on it. Each period tells how much was gained
that no load explains, and how often each model ran; the gain a run is estimated from that by the
normalised least-mean-squares rule, kept at zero or above.

Source: Widrow & Hoff, "Adaptive switching circuits" (1960); Nagumo & Noda (1967) for the
normalised step.
"""

from __future__ import annotations

from collections.abc import Mapping

_STEP = 0.1
_MOST_A_RUN = 4 * 1024**2  # more at once is an arena that grew, not a leak
_LEAST_RUNS = 30


class Leaks:
    """Growth a run of each model.

    Args:
        least_bytes: what a model must have gained since its load to be called leaking.
    """

    def __init__(self, least_bytes: int) -> None:
        self._least_bytes = least_bytes
        self._a_run: dict[str, float] = {}
        self._gained: dict[str, float] = {}
        self._runs: dict[str, int] = {}
        self._grown: dict[str, float] = {}

    def observe(self, runs: Mapping[str, int], gained_bytes: float) -> None:
        """Learn from one period.

        Args:
            runs: of each model in it; those that did not run may be left out.
            gained_bytes: growth that no load or close explains; may be negative.
        """
        norm = sum(count * count for count in runs.values())
        if not norm:
            return
        gained_bytes = min(gained_bytes, _MOST_A_RUN * sum(runs.values()))
        expected = sum(self._a_run.get(name, 0.0) * count for name, count in runs.items())
        step = _STEP * (gained_bytes - expected) / norm
        for name, count in runs.items():
            a_run = max(self._a_run.get(name, 0.0) + step * count, 0.0)
            self._a_run[name] = a_run
            self._runs[name] = self._runs.get(name, 0) + count
            self._gained[name] = self._gained.get(name, 0.0) + a_run * count
            self._grown[name] = self._grown.get(name, 0.0) + gained_bytes

    def leaking(self, name: str, size_bytes: int) -> float | None:
        """Bytes a run of a model that leaks; None when it does not.

        It leaks once it has gained more than twice its size (and the least that counts), and its
        latest runs still gain at a rate that would get there again in as many runs. Of several
        only the worst is named: what little is laid to its neighbours goes once it is reloaded.
        """
        runs = self._runs.get(name, 0)
        # Not more than the process has grown in all: what comes and goes is no leak.
        gained = min(self._gained.get(name, 0.0), self._grown.get(name, 0.0))
        limit = max(self._least_bytes, 2 * size_bytes)
        a_run = self._a_run.get(name, 0.0)
        if a_run < 0.5 * max(self._a_run.values(), default=0.0):
            return None
        if runs < _LEAST_RUNS or gained < limit or a_run * runs < 0.5 * limit:
            return None
        return a_run

    def forget(self, name: str) -> None:
        """Start over with a model that is loaded afresh."""
        for known in (self._a_run, self._gained, self._runs, self._grown):
            known.pop(name, None)
