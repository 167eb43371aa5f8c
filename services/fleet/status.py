"""The status of one model: its state, the engine that runs, and the pool's counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from runners.pool import Slot
from services.fleet.fleet import Fleet
from services.fleet.member import Member
from services.rollouts.controller import RolloutController
from turnout.catalog import split

State = Literal["ready", "cold", "loading", "broken"]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The state of one model.

    Attributes:
        state: ``cold`` loads on demand; ``broken`` is out of service.
        reason: why it is out of service.
        details: the engine that runs and the pool's counts, by name.
    """

    state: State
    reason: str | None
    details: dict[str, Any]

    @property
    def shown(self) -> str:
        """The state, or why the model is out of service, in one text."""
        return self.reason or self.state

    def as_json(self) -> dict[str, Any]:
        """Return plain values; ``state`` is ``shown``."""
        return {"state": self.shown, **self.details}


def status(fleet: Fleet, name: str) -> ModelStatus:
    """Return the status of a model; ``slow`` in its details says why it has become slower."""
    member = fleet.members[name]
    details: dict[str, Any] = {}
    active = member.backend.active
    if active is not None:
        details |= {
            "engine": active.engine,
            "requested": active.requested,
            "provider": active.provider,
            "precision": active.precision,
            "reason": active.reason,
            "latency_prior": member.prior,
            "load_s": round(active.load_s, 3),
            "memory_bytes": active.memory_bytes,
        }
    if slow := member.pace.slow_reason():
        details["slow"] = slow
    if member.slot is not None:
        details |= _pooled(member.slot)
    reason = fleet.broken(member)
    return ModelStatus(_state(member) if reason is None else "broken", reason, details)


def version_status(rollouts: RolloutController, model: str) -> dict[str, Any]:
    """Return the alias and share of a version of a model, and the state of its trial."""
    name, version = split(model)
    state = rollouts.state(name)
    canary = state["canary"]
    details: dict[str, Any] = {"version": version, "alias": "", "versions": state}
    if version == state["production"]:
        details |= {"alias": "production", "share": 1.0 - (canary["share"] if canary else 0.0)}
    elif canary is not None and version == canary["version"]:
        trial = state["trial"]
        details |= {"alias": "canary", "share": canary["share"]}
        details |= {"verdict": trial["verdict"], "verdict_why": trial["why"]}
    elif version == state["taken_back"]:
        details |= {"verdict": "taken back", "verdict_why": state["taken_back_why"]}
    return details


def _state(member: Member) -> State:
    """Return the state of a model that is not broken."""
    if member.slot is None:
        return "ready" if member.backend.active is not None else "loading"
    if member.slot.inner is not None:
        return "ready"
    return "cold" if member.tried and member.slot.state.value == "cold" else "loading"


def _pooled(slot: Slot) -> dict[str, Any]:
    return {
        "memory_bytes": slot.footprint.resident_bytes,
        "memory_measured": slot.measured,
        "pinned": slot.pinned or slot.warm,
        "loads": slot.loads,
        "evictions": slot.evictions,
        "hits": slot.hits,
        "misses": slot.misses,
        **({"trouble": slot.trouble} if slot.trouble else {}),
    }
