"""Whether a candidate may serve: what was measured against what the catalog tolerates. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runners.optimize.accuracy import Judgement
    from turnout.catalog import Gate


@dataclass(frozen=True, slots=True)
class Measured:
    """What a candidate and the reference cost, in the same run.

    Attributes:
        latency: by batch: ``reference_ms``, ``candidate_ms``, ``speedup`` and their p95.
        start_ms, reference_start_ms: session open to first answer.
        memory_bytes, reference_memory_bytes: resident, added by loading and running.
        file_bytes, reference_file_bytes: on disk.
    """

    latency: Mapping[int, Mapping[str, float]]
    start_ms: float
    reference_start_ms: float
    memory_bytes: float
    reference_memory_bytes: float
    file_bytes: int
    reference_file_bytes: int


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the gate.

    Attributes:
        what: in words.
        found: the number.
        bound: what it was held against.
        passed: whether it held.
    """

    what: str
    found: float
    bound: str
    passed: bool


def checks(gate: Gate, inputs: int, judged: Judgement, measured: Measured) -> list[Check]:
    """Every line of the gate, those that hold and those that don't.

    Args:
        gate: the declared tolerance.
        inputs: independent inputs that were judged.
        judged: on them.
        measured: on this machine.
    """
    speedup = measured.latency[min(measured.latency)]["speedup"]
    found = [
        Check("inputs judged", inputs, f"at least {gate.min_inputs}", inputs >= gate.min_inputs),
        _most(f"loss ({judged.metric})", judged.loss.value, gate.max_loss),
        _most(
            f"loss at worst ({gate.confidence:.0%} interval)",
            judged.loss.high,
            gate.max_loss_at_worst,
        ),
        Check(
            "speed-up, one row", speedup, f"at least {gate.min_speedup:g}",
            speedup >= gate.min_speedup,
        ),
    ]  # fmt: skip
    if gate.min_agreement is not None:
        same = judged.agreement.value
        what = f"agreement on {judged.agreeing_on}"
        passed = same >= gate.min_agreement
        found.append(Check(what, same, f"at least {gate.min_agreement:g}", passed))
    if gate.max_memory_ratio is not None:
        ratio = measured.memory_bytes / max(measured.reference_memory_bytes, 1)
        found.append(_most("memory by the reference's", ratio, gate.max_memory_ratio))
    if gate.max_start_ratio is not None:
        ratio = measured.start_ms / max(measured.reference_start_ms, 1e-9)
        found.append(_most("start by the reference's", ratio, gate.max_start_ratio))
    return found


def why_not(found: list[Check]) -> list[str]:
    """One clause for each line that doesn't hold; empty when the candidate may serve."""
    return [
        f"{check.what} is {check.found:.4g}, the gate wants {check.bound}"
        for check in found
        if not check.passed
    ]


def _most(what: str, found: float, bound: float) -> Check:
    return Check(what, found, f"at most {bound:g}", bool(found <= bound))


def verdict(found: list[Check]) -> dict[str, Any]:
    """What the store keeps of a gate."""
    why = why_not(found)
    return {"passed": not why, "why": why}
