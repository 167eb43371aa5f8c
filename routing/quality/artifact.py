"""A router on disk: ``router.json`` beside two archives of plain arrays, hashed, never pickled.

    router.json   format, origin, licences, model names, feature names, SHA-256 of the archives
    encoder.npz   words, vectors, rarity, means, pretrained factors
    heads.npz     weights of every head, cold start, novelty, hashes of the questions trained on

This is the only module of ``routing.quality`` that touches files.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from routing.features.text import NAMES
from routing.quality.archive import (
    Arrays,
    pack_encoder,
    pack_heads,
    unpack_cold_start,
    unpack_encoder,
    unpack_heads,
)
from routing.quality.cold_start import Novelty
from routing.quality.encoder import Encoder
from routing.quality.learned import LearnedQuality
from turnout.errors import ArtifactInvalid

DEFAULT_ROUTER: Final = Path(__file__).parents[1] / "default_router"
"""The folder of the router that ships."""
FORMAT: Final = 7
_REMEDY: Final = (
    "train it again with `turnout router train`, or point to routing/default_router, "
    "the router that ships with Turnout"
)


def load_router(directory: str | Path) -> LearnedQuality:
    """Read a router saved by ``save_router``.

    Raises:
        ArtifactInvalid: a file is missing, corrupt, of another format, or not of its hash.
    """
    folder = Path(directory)
    card = _card(folder)
    encoder = _arrays(folder, "encoder.npz", card)
    heads = _arrays(folder, "heads.npz", card)
    try:
        return LearnedQuality(
            encoder=unpack_encoder(encoder),
            heads=unpack_heads(heads, card["models"]),
            cold_start=unpack_cold_start(heads),
            novelty=Novelty(usual=float(heads["novelty_usual"])),
            trained_on=heads["trained_on"],
            origin=str(card.get("origin", "")),
        )
    except KeyError as error:
        raise _invalid(folder, f"has no {error.args[0]!r}") from None


def load_encoder(directory: str | Path) -> Encoder:
    """Read the encoder of a router alone; its heads may be of another format.

    Raises:
        ArtifactInvalid: the archive is missing or corrupt.
    """
    folder = Path(directory)
    try:
        with np.load(folder / "encoder.npz", allow_pickle=False) as archive:
            return unpack_encoder({key: archive[key] for key in archive.files})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _invalid(folder, f"encoder.npz cannot be read ({error})") from None


def save_router(router: LearnedQuality, directory: str | Path, card: Mapping[str, Any]) -> None:
    """Write a router. ``card`` adds facts for people: origin, licences, settings."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    archives = {
        "encoder.npz": pack_encoder(router.encoder),
        "heads.npz": pack_heads(router.heads, router.cold_start, router.novelty)
        | {"trained_on": router.trained_on},
    }
    hashes: dict[str, str] = {}
    for name, arrays in archives.items():
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        (folder / name).write_bytes(buffer.getvalue())
        hashes[name] = hashlib.sha256(buffer.getvalue()).hexdigest()
    text = {
        **card,
        "format": FORMAT,
        "origin": router.origin,
        "models": list(router.heads.models),
        "form_features": list(NAMES),
        "sha256": hashes,
    }
    (folder / "router.json").write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")


def _invalid(folder: Path, problem: str) -> ArtifactInvalid:
    return ArtifactInvalid(f"router {folder}: {problem}; {_REMEDY}")


def _card(folder: Path) -> dict[str, Any]:
    path = folder / "router.json"
    try:
        parsed: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _invalid(folder, "there is no router.json") from None
    except (OSError, ValueError) as error:
        raise _invalid(folder, f"router.json cannot be read ({error})") from None
    card = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
    if "kind" in card:
        raise ArtifactInvalid(
            f"router {folder}: is one of rows or pictures, not of prompts; set "
            f"TURNOUT_FEATURE_ROUTERS=ROUTE={folder}"
        )
    if card.get("format") != FORMAT:
        raise _invalid(folder, f"router.json is not of format {FORMAT}")
    if tuple(card.get("form_features", ())) != NAMES:
        raise _invalid(folder, "was trained with other features than this version computes")
    return card


def _arrays(folder: Path, name: str, card: Mapping[str, Any]) -> Arrays:
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise _invalid(folder, f"{name} cannot be read ({error.strerror})") from None
    if hashlib.sha256(data).hexdigest() != card.get("sha256", {}).get(name):
        raise _invalid(folder, f"{name} is not the file that router.json describes")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise _invalid(folder, f"{name} is corrupt ({error})") from None
