"""Answer an image as soon as possible after the start of a process.

    python -m services.cold_start --image cat.jpg
    python -m services.cold_start --serve 8080
    python -m services.cold_start --prepare

The first prints one line of JSON and exits; the second serves the Open Inference Protocol in
any container; the third saves the model's graph as optimised for this machine, which the first
also does after its answer. None imports BentoML, pydantic, torch or transformers.
The measurements and choices are in ``docs/cold-start.md``.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from services.coldstart.classifier import Classifier
    from services.coldstart.phases import Phases

MODEL = "efficientnet-lite0"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    started_s = time.monotonic()
    begin()
    options = _parse_arguments(arguments)

    from services.coldstart.artifact import artifact_folder
    from services.coldstart.classifier import Classifier
    from services.coldstart.phases import Phases
    from turnout.errors import TurnoutError

    phases = Phases(started_s)
    try:
        folder = artifact_folder(options.model)
        classifier = Classifier(options.model, folder, options.threads, phases)
        if options.where:
            sys.stdout.write(f"{folder}\n")
            return 0
        if options.prepare:
            classifier.save_graph()
            return 0
        if options.serve is not None:
            from services.coldstart.server import serve

            return serve(classifier, options.host, options.serve)
        return _print_answer(classifier, options, phases)
    except (TurnoutError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def begin() -> None:
    """Prepare the process before numpy is imported."""
    from services.process.preload import leave_out_docstrings, preload

    gc.disable()  # objects made while starting are not garbage
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy does no linear algebra here
    leave_out_docstrings()
    preload()


def _print_answer(classifier: Classifier, options: Namespace, phases: Phases) -> int:
    import json
    from pathlib import Path

    classifier.start()
    from services.coldstart.endpoints import first_row

    answer = first_row(classifier, Path(options.image).read_bytes())
    if options.phases:
        answer["phases"] = phases.as_json()
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    if not classifier.graph_saved:
        _save_quietly(classifier)
    return 0


def _save_quietly(classifier: Classifier) -> None:
    """Save the graph for faster starts; a failure is reported and does not fail this one."""
    from turnout.errors import TurnoutError

    try:
        classifier.save_graph()
    except (TurnoutError, OSError) as error:
        sys.stderr.write(f"note: the optimised graph was not saved: {error}\n")


def _parse_arguments(arguments: Sequence[str] | None) -> Namespace:
    import argparse

    parser = argparse.ArgumentParser(prog="python -m services.cold_start")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--image", metavar="FILE", help="print this picture's class and exit")
    mode.add_argument("--serve", metavar="PORT", type=int, help="serve until SIGTERM")
    mode.add_argument("--where", action="store_true", help="print the model's folder")
    mode.add_argument("--prepare", action="store_true", help="save the graph for this machine")
    parser.add_argument("--model", default=MODEL, help="its name in the model store")
    parser.add_argument("--phases", action="store_true", help="print when each part ended")
    parser.add_argument("--json", action="store_true", help="print JSON (the only format)")
    parser.add_argument("--host", default="0.0.0.0", help="address to serve on")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="threads of one run"
    )
    return parser.parse_args(arguments)


def run() -> NoReturn:
    """Run the command and end this process."""
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # tearing down numpy and onnxruntime would take 50 ms


if __name__ == "__main__":
    run()
