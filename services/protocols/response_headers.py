"""Headers of every answer: the model that answered, the decision, and its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from services.http.messages import Headers

if TYPE_CHECKING:
    from services.dataplane.answer import Answer, Stream


def decision_headers(answer: Answer | Stream) -> Headers:
    """Return ``x-turnout-model``, ``x-turnout-decision`` and ``x-turnout-reason``."""
    decision, model = answer.decision, answer.model
    reason = decision.reason
    if answer.escalated:
        reason = f"{decision.model} was unsure, so {model} answered too: {reason}"
    elif model != decision.model:
        reason = f"{model} stood in for {decision.model}, which failed: {reason}"
    text = reason if reason.isascii() else quote(reason, safe=" %,.:;()<>=/")
    return [
        (b"x-turnout-model", model.encode()),
        (b"x-turnout-decision", decision.id.encode()),
        (b"x-turnout-reason", text.replace("\n", " ").encode()),
    ]
