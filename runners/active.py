"""What a runner says of itself once it is loaded.

A file of its own: a cold start needs this word of ``runners.protocol`` and no other.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ActiveEngine:
    """What really runs, as opposed to what was asked for.

    Attributes:
        engine: the catalog's word, e.g. ``tensorrt``.
        requested: provider or kernel asked for, e.g. ``TensorrtExecutionProvider``.
        provider: the one that runs, e.g. ``CPUExecutionProvider``.
        precision: of weights, e.g. ``float32`` or ``int4``.
        reason: why they differ; None when they don't.
        memory_bytes: resident memory the load added, as measured; 0 if unknown.
        load_s: seconds the load took.
    """

    engine: str
    requested: str
    provider: str
    precision: str = "float32"
    reason: str | None = None
    memory_bytes: int = 0
    load_s: float = 0.0
