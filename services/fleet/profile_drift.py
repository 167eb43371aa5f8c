"""Whether models still run as fast as their stored profiles say; profiles that don't are renewed.

A profile is the latency a fleet begins with, so a wrong one costs the first requests after each
start. Serving measures the same thing all the time: when what it has learned lies beyond a factor
of the stored for a while, or nothing is stored, the learned line is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from routing.latency import ModelLatency
from services.fleet.fleet import Fleet
from services.fleet.member import Member
from services.fleet.profiles import Profile, Profiles, made
from services.metrics.metrics import Metrics

logger = logging.getLogger("turnout.profiles")

BOUND = 2.0
_PATIENCE_S = 60.0
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
        profiles: what is stored.
        metrics: where the ratio is shown.
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
        """Look at every model; those whose profile should be written anew."""
        return [member for member in self._settled() if self._look(member)]

    def renew(self, members: list[Member]) -> None:
        """Write what was learned of these models. Blocks on the disk: call it off the loop."""
        for member in members:
            latency = member.latency
            base_s = latency.run_s(1.0)
            learned = made(
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

    def _settled(self) -> Iterator[Member]:
        for member in self._fleet.members.values():
            inline = member.model.placement == "inline"
            if inline and member.ready.is_set() and member.broken is None:
                yield member

    def _look(self, member: Member) -> bool:
        watched = self._watched.get(member.name)
        if watched is None:
            stored = self._profiles.of(member.name, member.model)
            watched = self._watched[member.name] = _Watched(stored, 0)
        now_s, answers = self._clock(), member.latency.observations
        if watched.stored is None:
            return answers >= _MIN_ANSWERS and made(member.model, 1, 0, 0, "served") is not None
        ratio = ratio_of(member.latency, watched.stored)
        self._metrics.profile_ratio.labels(member.name).set(ratio)
        if answers - watched.answers < _MIN_ANSWERS or 1 / BOUND <= ratio <= BOUND:
            watched.beyond_since_s = None
            return False
        if watched.beyond_since_s is None:
            watched.beyond_since_s = now_s
        return now_s - watched.beyond_since_s >= _PATIENCE_S


def ratio_of(learned: ModelLatency, stored: Profile) -> float:
    """Learned time by stored time: between tokens for text, of one unit else."""
    if stored.per_token_ms > 0 and learned.token_s > 0:
        return learned.token_s * 1e3 / stored.per_token_ms
    return learned.run_s(1.0) * 1e3 / max(stored.base_ms, 1e-6)
