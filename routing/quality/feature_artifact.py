"""A router for rows of numbers on disk: ``router.json`` beside ``heads.npz``, hashed, no pickle."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from routing.quality.boosted_pairs import BoostedPairs
from routing.quality.feature_quality import FeatureQuality
from turnout.errors import ArtifactInvalid

KIND: Final = "features"
FORMAT: Final = 1
FILES: Final = ("router.json", "heads.npz")
_TREES: Final = ("feature", "threshold", "weights", "bias")
_REST: Final = ("base_rate", "centre", "inverse_scale", "least", "most")


def is_feature_router(directory: str | Path) -> bool:
    """Return whether a folder's ``router.json`` names this kind; loading checks the rest."""
    try:
        return json.loads((Path(directory) / "router.json").read_text("utf-8"))["kind"] == KIND
    except (OSError, ValueError, KeyError, TypeError):
        return False


def save_feature_router(
    router: FeatureQuality, directory: str | Path, card: Mapping[str, Any]
) -> None:
    """Write a router. ``card`` adds facts for people: settings, sizes."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: getattr(router, name) for name in _REST}
    arrays |= _pack("trees", router.trees)
    for number, trees in enumerate(router.after.values()):
        arrays |= _pack(f"after_{number}", trees)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, allow_pickle=False, usual=np.array(router.usual, np.float32), **arrays
    )
    (folder / "heads.npz").write_bytes(buffer.getvalue())
    text = {
        **card,
        "kind": KIND,
        "format": FORMAT,
        "origin": router.origin,
        "models": list(router.models),
        "features": list(router.names),
        "after": list(router.after),
        "sha256": {"heads.npz": hashlib.sha256(buffer.getvalue()).hexdigest()},
    }
    (folder / "router.json").write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")


def load_feature_router(directory: str | Path) -> FeatureQuality:
    """Read a router saved by ``save_feature_router``.

    Raises:
        ArtifactInvalid: a file is missing, corrupt, of another kind, or not of its hash.
    """
    folder = Path(directory)
    card = _card(folder)
    try:
        data = (folder / "heads.npz").read_bytes()
    except OSError as error:
        raise _invalid(folder, f"heads.npz cannot be read ({error.strerror})") from None
    try:
        if hashlib.sha256(data).hexdigest() != card["sha256"]["heads.npz"]:
            raise _invalid(folder, "heads.npz is not the file that router.json describes")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return FeatureQuality(
                models=tuple(card["models"]),
                names=tuple(card["features"]),
                trees=_unpack("trees", archive),
                after={
                    name: _unpack(f"after_{number}", archive)
                    for number, name in enumerate(card.get("after", ()))
                },
                usual=float(archive["usual"]),
                origin=str(card.get("origin", "")),
                **{name: archive[name] for name in _REST},
            )
    except KeyError as error:
        raise _invalid(folder, f"has no {error.args[0]!r}") from None
    except (ValueError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise _invalid(folder, f"heads.npz is corrupt ({error})") from None


def _pack(prefix: str, trees: BoostedPairs) -> dict[str, Any]:
    return {f"{prefix}_{name}": getattr(trees, name) for name in _TREES}


def _unpack(prefix: str, archive: Mapping[str, Any]) -> BoostedPairs:
    return BoostedPairs(**{name: archive[f"{prefix}_{name}"] for name in _TREES})


def _card(folder: Path) -> dict[str, Any]:
    try:
        parsed: object = json.loads((folder / "router.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _invalid(folder, "there is no router.json") from None
    except (OSError, ValueError) as error:
        raise _invalid(folder, f"router.json cannot be read ({error})") from None
    card = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
    if card.get("kind") != KIND:
        raise _invalid(folder, "was trained on prompts, not on features")
    if card.get("format") != FORMAT:
        raise _invalid(folder, f"router.json is not of format {FORMAT}")
    return card


def _invalid(folder: Path, problem: str) -> ArtifactInvalid:
    return ArtifactInvalid(
        f"router {folder}: {problem}; train one with `turnout router train` on features"
    )
