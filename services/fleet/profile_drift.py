"""Renewal of stored profiles that no longer fit how fast their models run.

A profile is the latency a fleet begins with, so a wrong one costs the first requests after each
start. Serving measures the same all the time: when the learned latency differs from the stored one
by more than a factor for a while, or nothing is stored, the learned latency is stored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from routing.latency import ModelLatency
from services.fleet.fleet import Fleet
from services.fleet.member import Member
from services.fleet.profiles import Profile, Profiles, key_of, new_profile
from services.metrics.metrics import Metrics

logger = logging.getLogger("turnout.profiles")

BOUND = 2.0
_MIN_BEYOND_S = 60.0
_MIN_ANSWERS = 200


@dataclass(slots=True)
class _Watched:
    stored: Profile | None
    answers: int = 0
    beyond_since_s: float | None = None


class ProfileWatch:
    """Compares the learned latency of each inline model with its stored profile.

    Args:
        fleet: the models.
        profiles: the stored ones.
        metrics: show the ratio.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        fleet: Fleet,
        profiles: Profiles,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._fleet = fleet
        self._profiles = profiles
        self._metrics = metrics
        self._clock = clock
        self._watched: dict[str, _Watched] = {}

    def due(self) -> list[Member]:
        """Compare every model; return those whose profile should be renewed."""
        return [member for member in self._ready() if self._is_due(member)]

    def renew(self, members: list[Member]) -> None:
        """Store the learned latency of these models. Blocks on the disk: call it off the loop."""
        for member in members:
            latency = member.latency
            base_s = latency.run_s(1.0)
            learned = new_profile(
                member.model,
                base_s * 1e3,
                max(latency.run_s(2.0) - base_s, 0.0) * 1e3,
                latency.token_s * 1e3,
                "served",
            )
            if learned is None:
                continue
            try:
                self._profiles.keep(member.name, learned)
            except OSError as error:
                logger.warning("the profile of model %s is not kept: %s", member.name, error)
                continue
            self._metrics.profile_renewed.labels(member.name).inc()
            logger.info(
                "model %s: profile renewed from what was served: %.3g ms, %.3g ms a further unit",
                member.name, learned.base_ms, learned.per_unit_ms,
            )  # fmt: skip
            self._watched[member.name] = _Watched(learned, latency.observations)

    def _ready(self) -> Iterator[Member]:
        for member in self._fleet.members.values():
            inline = member.model.placement == "inline"
            if inline and member.ready.is_set() and member.broken is None:
                yield member

    def _is_due(self, member: Member) -> bool:
        watched = self._watched.get(member.name)
        if watched is None:
            stored = self._profiles.of(member.name, member.model)
            watched = self._watched[member.name] = _Watched(stored, 0)
        now_s, answers = self._clock(), member.latency.observations
        if watched.stored is None:
            return answers >= _MIN_ANSWERS and key_of(member.model) is not None
        ratio = ratio_of(member.latency, watched.stored)
        self._metrics.profile_ratio.labels(member.name).set(ratio)
        if answers - watched.answers < _MIN_ANSWERS or 1 / BOUND <= ratio <= BOUND:
            watched.beyond_since_s = None
            return False
        if watched.beyond_since_s is None:
            watched.beyond_since_s = now_s
        return now_s - watched.beyond_since_s >= _MIN_BEYOND_S


def ratio_of(learned: ModelLatency, stored: Profile) -> float:
    """Learned by stored time: between tokens for text, of one unit for all else."""
    if stored.per_token_ms > 0 and learned.token_s > 0:
        return learned.token_s * 1e3 / stored.per_token_ms
    return learned.run_s(1.0) * 1e3 / max(stored.base_ms, 1e-6)
