"""Decide whether a candidate may serve: its measurements against the catalog's gate. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runners.optimize.accuracy import Judgement
    from turnout.catalog import Gate


@dataclass(frozen=True, slots=True)
class Measurements:
    """The costs of a candidate and of the reference, measured in the same run.

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
    """One condition of the gate, and whether it holds.

    Attributes:
        what: the name of the measured number, in words.
        found: the measured number.
        bound: the limit, in words.
        passed: whether the number keeps the limit.
    """

    what: str
    found: float
    bound: str
    passed: bool


def checks(gate: Gate, inputs: int, judged: Judgement, measured: Measurements) -> list[Check]:
    """Return every condition of the gate, those that hold and those that do not.

    Args:
        gate: the declared tolerance.
        inputs: independent inputs that were judged.
        judged: the comparison on those inputs.
        measured: the costs on this machine.
    """
    speedup = measured.latency[min(measured.latency)]["speedup"]
    results = [
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
        agreement = judged.agreement.value
        name = f"agreement on {judged.agreeing_on}"
        passed = agreement >= gate.min_agreement
        results.append(Check(name, agreement, f"at least {gate.min_agreement:g}", passed))
    if gate.max_memory_ratio is not None:
        ratio = measured.memory_bytes / max(measured.reference_memory_bytes, 1)
        results.append(_most("memory by the reference's", ratio, gate.max_memory_ratio))
    if gate.max_start_ratio is not None:
        ratio = measured.start_ms / max(measured.reference_start_ms, 1e-9)
        results.append(_most("start by the reference's", ratio, gate.max_start_ratio))
    return results


def why_not(results: list[Check]) -> list[str]:
    """Return one clause for each failed condition; empty when the candidate may serve."""
    return [
        f"{check.what} is {check.found:.4g}, the gate requires {check.bound}"
        for check in results
        if not check.passed
    ]


def _most(name: str, value: float, bound: float) -> Check:
    return Check(name, value, f"at most {bound:g}", bool(value <= bound))


def verdict(results: list[Check]) -> dict[str, Any]:
    """Return the gate's outcome as the store keeps it."""
    why = why_not(results)
    return {"passed": not why, "why": why}
