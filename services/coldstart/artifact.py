"""Find a model's folder by the file system alone.

A cold start serves one built model; only the gateway matches files to a catalog (see
``services.artifacts.store``).
"""

from __future__ import annotations

import os
from pathlib import Path

from turnout.errors import ArtifactInvalid

FOLDER = "TURNOUT_ARTIFACT"
FILES = ("model.onnx", "labels.json", "preprocess.json")


def artifact_folder(model: str) -> Path:
    """Return the folder of an image model's files.

    ``$TURNOUT_ARTIFACT`` when set; else the latest version beside this source in a built Bento,
    or in the BentoML model store (``$BENTOML_HOME/models/MODEL``; its file ``latest`` holds the
    version).

    Raises:
        ArtifactInvalid: no folder exists, or a file is missing.
    """
    configured = os.environ.get(FOLDER)
    folder = Path(configured) if configured else _latest(model)
    for name in FILES:
        if not (folder / name).is_file():
            raise ArtifactInvalid(
                f"{folder / name} is missing; run `turnout models build`, or point ${FOLDER} "
                f"at a folder with {', '.join(FILES)}"
            )
    return folder


def _latest(model: str) -> Path:
    bentoml_home = os.environ.get("BENTOML_HOME")
    home = Path(bentoml_home).expanduser() if bentoml_home else Path.home() / "bentoml"
    for root in (Path(__file__).parents[3], home):
        versions = root / "models" / model
        try:
            return versions / (versions / "latest").read_text("utf-8").strip()
        except OSError:
            continue
    raise ArtifactInvalid(
        f"model files {model!r} are not in {home / 'models'}; run `turnout models build`, set "
        f"$BENTOML_HOME to the store, or ${FOLDER} to a folder with {', '.join(FILES)}"
    )
