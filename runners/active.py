"""What a runner reports once it is loaded.

A module of its own: a cold start imports only this part of ``runners.protocol``, and defining
the other dataclasses and protocols there takes 3 ms.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ActiveEngine:
    """The engine that really runs, as opposed to the one requested.

    Attributes:
        engine: its name in the catalog, e.g. ``tensorrt``.
        requested: provider or kernel requested, e.g. ``TensorrtExecutionProvider``.
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
