"""Answers of the data plane, which the protocols encode."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from turnout.types import Decision, Piece, Tensors


@dataclass(slots=True)
class Answer:
    """An answer of tensors: the decision, the model that answered, and its tensors.

    ``escalated`` says that this model answered rows that the decision's model was unsure of.
    """

    decision: Decision
    model: str
    tensors: Tensors
    escalated: bool = False


@dataclass(slots=True)
class Stream:
    """A generated answer: the decision, the model that writes it, and its pieces.

    ``escalated`` says that this model writes because the decision's model was unsure.
    """

    decision: Decision
    model: str
    pieces: AsyncGenerator[Piece, None]
    escalated: bool = False
