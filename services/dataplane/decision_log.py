"""Log of decisions: the latest by id, and one JSON line each, see ``decision.log_schema``.

Feedback comes later and has its own lines: ``{"decision_id", "feedback", "at"}``.

A line is encoded when its request ends and written by a thread every ``_FLUSH_S``. Encoding it on
that thread would slow requests down: the event loop releases the interpreter lock in every run of a
model and would wait for the thread to release it again.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from services.dataplane.decision_record import DecisionRecord
from turnout.types import Outcome

logger = logging.getLogger("turnout.decisions")

_FLUSH_S = 0.5
_MOST_FEEDBACK = 16


class DecisionLog:
    """Keeps the last ``keep`` decisions in memory and, given a file, appends each to it.

    Args:
        path: the log file; None keeps none.
        keep: number of decisions that stay readable by id.
        prompts: whether chat prompts are kept and written.
        features: whether requests of one row are kept and written: the row, or the features of a
            picture's header. Nothing else of an input ever is.
    """

    def __init__(
        self,
        path: Path | None = None,
        keep: int = 5_000,
        *,
        prompts: bool = False,
        features: bool = False,
    ) -> None:
        self.prompts = prompts
        self.features = features
        self._records: OrderedDict[str, DecisionRecord] = OrderedDict()
        self._keep = keep
        self._path = path
        self._pending: deque[bytes] = deque()
        self._stopping = threading.Event()
        self._writer: threading.Thread | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = threading.Thread(target=self._write, name="decision-log", daemon=True)
            self._writer.start()

    def add(self, record: DecisionRecord) -> None:
        """Remember a decision."""
        self._records[record.decision.id] = record
        if len(self._records) > self._keep:
            self._records.popitem(last=False)

    def end(self, record: DecisionRecord, outcome: Outcome) -> None:
        """Attach the outcome and write the line."""
        record.outcome = outcome
        if self._path is not None:
            self._write_line(record)

    def feedback(self, decision_id: str, feedback: dict[str, Any]) -> DecisionRecord | None:
        """Attach feedback, the newest if there is much; None for an unknown decision."""
        record = self._records.get(decision_id)
        if record is None:
            return None
        record.feedback = [*(record.feedback or []), feedback][-_MOST_FEEDBACK:]
        self._append(record, "feedback", feedback)
        return record

    def shadowed(self, record: DecisionRecord, decision: dict[str, Any]) -> None:
        """Attach the decision of the shadow router."""
        record.shadow = decision
        if record.outcome is not None:
            self._append(record, "shadow", decision)

    def _append(self, record: DecisionRecord, key: str, value: dict[str, Any]) -> None:
        """Write a later line about a record."""
        if self._path is not None:
            at = datetime.now(UTC).isoformat()
            self._write_line({"decision_id": record.decision.id, key: value, "at": at})

    def _write_line(self, item: DecisionRecord | dict[str, Any]) -> None:
        """Hand a line to the writer; leave out and report one that cannot be encoded."""
        try:
            line = item.log_line() if isinstance(item, DecisionRecord) else item
            self._pending.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        except Exception:
            logger.exception("a line of the decision log could not be encoded and is left out")

    def get(self, decision_id: str) -> DecisionRecord | None:
        """Return the decision with this id, while it is remembered."""
        return self._records.get(decision_id)

    def close(self) -> None:
        """Write the pending lines and stop the writer."""
        self._stopping.set()
        if self._writer is not None:
            self._writer.join()

    def _write(self) -> None:
        path = self._path
        if path is None:
            return
        # Unbuffered: one write a flush, so that the lines of several workers don't mix.
        with path.open("ab", buffering=0) as file:
            while True:
                stopping = self._stopping.wait(_FLUSH_S)
                lines = [self._pending.popleft() for _ in range(len(self._pending))]
                try:
                    file.write(b"".join(lines))
                except OSError as error:
                    logger.error("%d lines of the decision log are lost: %s", len(lines), error)
                if stopping:
                    return
