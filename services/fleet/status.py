"""What is said of one model: its state, what really runs, and what the pool knows of it."""

from __future__ import annotations

from typing import Any

from runners.pool import Slot
from services.fleet.fleet import Fleet
from services.fleet.member import Member
from services.rollouts.controller import RolloutController
from turnout.catalog import split


def status(fleet: Fleet, name: str) -> dict[str, Any]:
    """The state of a model: ``ready``, ``cold`` (loads on demand), ``loading``, or why it is not.

    ``slow`` says why a model that serves is slower than it was.
    """
    member = fleet.members[name]
    found: dict[str, Any] = {"state": _state(fleet, member)}
    active = member.backend.active
    if active is not None:
        found |= {
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
        found["slow"] = slow
    if member.slot is not None:
        found |= _pooled(member.slot)
    return found


def version_status(rollouts: RolloutController, model: str) -> dict[str, Any]:
    """What a version is to its model: its alias and share, and how its trial stands."""
    name, version = split(model)
    known = rollouts.state(name)
    canary = known["canary"]
    found: dict[str, Any] = {"version": version, "alias": "", "versions": known}
    if version == known["production"]:
        found |= {"alias": "production", "share": 1.0 - (canary["share"] if canary else 0.0)}
    elif canary is not None and version == canary["version"]:
        trial = known["trial"]
        found |= {"alias": "canary", "share": canary["share"]}
        found |= {"verdict": trial["verdict"], "verdict_why": trial["why"]}
    elif version == known["taken_back"]:
        found |= {"verdict": "taken back", "verdict_why": known["taken_back_why"]}
    return found


def _state(fleet: Fleet, member: Member) -> str:
    broken = fleet.broken(member)
    if broken is not None:
        return broken
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
