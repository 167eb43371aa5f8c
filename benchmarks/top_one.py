"""Compare the top-1 accuracy of torch and of the cold-start classifier on labelled pictures."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.servers import PROJECT
from services.cold_start import MODEL
from services.coldstart.artifact import artifact_folder
from services.coldstart.classifier import Classifier
from services.coldstart.endpoints import first_row
from services.coldstart.phases import Phases


def top_one(
    folder: Path, torch: Sequence[str], environment: Mapping[str, str]
) -> dict[str, float | int]:
    """Return each one's accuracy, and the share of equal answers.

    Args:
        folder: pictures, and ``labels.json`` with their class by name.
        torch: the reference's command; the folder is its last argument.
        environment: what it needs beside this process's own.
    """
    labels: dict[str, int] = json.loads((folder / "labels.json").read_text())
    done = subprocess.run(
        [*torch, str(folder)],
        cwd=PROJECT,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"} | dict(environment),
        capture_output=True,
        text=True,
        check=True,
    )
    theirs: list[int] = json.loads(done.stdout)
    ours = _classes([folder / name for name in labels])
    truth = list(labels.values())
    return {
        "images": len(truth),
        "torch": _share(theirs, truth),
        "turnout": _share(ours, truth),
        "same_answer": sum(a == b for a, b in zip(ours, theirs, strict=True)),
    }


def _classes(paths: Sequence[Path]) -> list[int]:
    classifier = Classifier(MODEL, artifact_folder(MODEL), os.cpu_count() or 1, Phases(0.0))
    classifier.start()
    return [first_row(classifier, path.read_bytes())["class_id"] for path in paths]


def _share(answers: Sequence[Any], truth: Sequence[Any]) -> float:
    return round(sum(a == b for a, b in zip(answers, truth, strict=True)) / len(truth), 4)
