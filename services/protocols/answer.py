"""The headers that every answer carries: who answered, by which decision, and why."""

from __future__ import annotations

from urllib.parse import quote

from services.http import Headers
from turnout.types import Decision


def decision_headers(decision: Decision, model: str) -> Headers:
    """``x-turnout-model``, ``x-turnout-decision`` and ``x-turnout-reason``."""
    reason = decision.reason
    if model != decision.model:
        reason = f"{model} stood in for {decision.model}: {reason}"
    text = reason if reason.isascii() else quote(reason, safe=" %,.:;()<>=/")
    return [
        (b"x-turnout-model", model.encode()),
        (b"x-turnout-decision", decision.id.encode()),
        (b"x-turnout-reason", text.replace("\n", " ").encode()),
    ]
