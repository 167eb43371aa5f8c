"""Answers of the data plane, as the protocols write them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from turnout.types import Decision, Piece, Tensors


@dataclass(slots=True)
class Answer:
    """Tensors that came back, who made them, and the decision behind them.

    ``escalated`` says that this model answered what the decision's was unsure of.
    """

    decision: Decision
    model: str
    tensors: Tensors
    escalated: bool = False


@dataclass(slots=True)
class Stream:
    """A generated answer: the decision, who writes it, and its pieces.

    ``escalated`` says that this model writes because the decision's was unsure.
    """

    decision: Decision
    model: str
    pieces: AsyncGenerator[Piece, None]
    escalated: bool = False
