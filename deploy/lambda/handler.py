"""The AWS Lambda handler; run by ``python -m awslambdaric handler.handler``.

Lambda imports this module in its init phase, so the model opens here: a handler that opened it
on the first event would make that caller wait for all of it.
"""

from __future__ import annotations

import gc
import os
import time
from typing import Any

from services.cold_start import MODEL, begin

_STARTED_S = time.monotonic()
begin()

from services.coldstart.artifact import artifact_folder  # noqa: E402
from services.coldstart.classifier import Classifier  # noqa: E402
from services.coldstart.events import answer_event  # noqa: E402
from services.coldstart.phases import Phases  # noqa: E402


def _started() -> Classifier:
    name = os.environ.get("TURNOUT_MODEL", MODEL)
    threads = len(os.sched_getaffinity(0))
    classifier = Classifier(name, artifact_folder(name), threads, Phases(_STARTED_S))
    classifier.start()
    gc.freeze()
    gc.enable()
    return classifier


_CLASSIFIER = _started()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one event; see ``services.coldstart.events``."""
    del context
    return answer_event(event, _CLASSIFIER)
