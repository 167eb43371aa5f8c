"""The headers that every answer carries: who answered, by which decision, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from services.http.messages import Headers

if TYPE_CHECKING:
    from services.dataplane.answer import Answer, Stream


def decision_headers(made: Answer | Stream) -> Headers:
    """``x-turnout-model``, ``x-turnout-decision`` and ``x-turnout-reason``."""
    decision, model = made.decision, made.model
    reason = decision.reason
    if made.escalated:
        reason = f"{decision.model} was unsure, so {model} answered too: {reason}"
    elif model != decision.model:
        reason = f"{model} stood in for {decision.model}, which failed: {reason}"
    text = reason if reason.isascii() else quote(reason, safe=" %,.:;()<>=/")
    return [
        (b"x-turnout-model", model.encode()),
        (b"x-turnout-decision", decision.id.encode()),
        (b"x-turnout-reason", text.replace("\n", " ").encode()),
    ]
