"""A router on disk: ``router.json`` beside two archives of plain arrays, hashed, never pickled.

    router.json   format, origin, licences, model names, feature names, SHA-256 of the archives
    encoder.npz   words, vectors, idf, latents, means
    heads.npz     weights of every head, cold start, novelty

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
from numpy.typing import NDArray

from routing.features.text import NAMES
from routing.quality.cold_start import ColdStart
from routing.quality.encoder import Encoder
from routing.quality.heads import Heads
from routing.quality.learned import LearnedQuality
from routing.quality.novelty import Novelty
from turnout.errors import ArtifactInvalid

FORMAT: Final = 1
_WAY_OUT: Final = (
    "train it again with `turnout router train`, or point to routing/default_router, "
    "the router that ships with Turnout"
)
Arrays = dict[str, NDArray[Any]]


def load_router(directory: str | Path) -> LearnedQuality:
    """Read a router saved by ``save_router``.

    Raises:
        ArtifactInvalid: a file is missing, corrupt, of another format, or not what its hash says.
    """
    folder = Path(directory)
    card = _card(folder)
    encoder = _arrays(folder, "encoder.npz", card)
    heads = _arrays(folder, "heads.npz", card)
    try:
        return LearnedQuality(
            encoder=_encoder(encoder, card),
            heads=_heads(heads, card),
            cold_start=ColdStart(
                weights=heads["cold_weights"],
                bias=float(heads["cold_bias"]),
                grid_prior=heads["cold_grid_prior"],
                grid_ability=heads["cold_grid_ability"],
            ),
            novelty=Novelty(usual=float(heads["novelty_usual"])),
            origin=str(card.get("origin", "")),
        )
    except KeyError as error:
        raise _invalid(folder, f"has no {error.args[0]!r}") from None


def save_router(router: LearnedQuality, directory: str | Path, card: Mapping[str, Any]) -> None:
    """Write a router. ``card`` adds what people should know: origin, licences, settings."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    encoder, heads, cold = router.encoder, router.heads, router.cold_start
    words = "\n".join(encoder.index).encode()
    archives: dict[str, Arrays] = {
        "encoder.npz": {
            "words": np.frombuffer(words, dtype=np.uint8),
            "vectors": encoder.vectors,
            "scale": encoder.scale,
            "word_weight": encoder.word_weight.astype(np.float16),
            "idf": encoder.idf.astype(np.float16),
            "latent_dense": encoder.latent_dense,
            "latent_terms": encoder.latent_terms,
            "mean": encoder.mean,
            "inverse_std": encoder.inverse_std,
        },
        "heads.npz": {
            "weights": heads.weights,
            "bias": heads.bias,
            "term_weights": heads.term_weights,
            "base_rate": heads.base_rate,
            "cold_weights": cold.weights,
            "cold_bias": np.array(cold.bias, dtype=np.float32),
            "cold_grid_prior": cold.grid_prior,
            "cold_grid_ability": cold.grid_ability,
            "novelty_usual": np.array(router.novelty.usual, dtype=np.float32),
        },
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
        "models": list(heads.models),
        "form_features": list(NAMES),
        "latents": list(encoder.latent_names),
        "sha256": hashes,
    }
    (folder / "router.json").write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")


def _invalid(folder: Path, what: str) -> ArtifactInvalid:
    return ArtifactInvalid(f"router {folder}: {what}; {_WAY_OUT}")


def _card(folder: Path) -> dict[str, Any]:
    path = folder / "router.json"
    try:
        parsed: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _invalid(folder, "there is no router.json") from None
    except (OSError, ValueError) as error:
        raise _invalid(folder, f"router.json cannot be read ({error})") from None
    card = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
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


def _encoder(arrays: Arrays, card: Mapping[str, Any]) -> Encoder:
    words = arrays["words"].tobytes().decode().split("\n")
    return Encoder(
        index={word: row for row, word in enumerate(words)},
        vectors=arrays["vectors"],
        scale=arrays["scale"],
        word_weight=arrays["word_weight"].astype(np.float32),
        idf=arrays["idf"].astype(np.float32),
        latent_dense=arrays["latent_dense"],
        latent_terms=arrays["latent_terms"],
        latent_names=tuple(card["latents"]),
        mean=arrays["mean"],
        inverse_std=arrays["inverse_std"],
    )


def _heads(arrays: Arrays, card: Mapping[str, Any]) -> Heads:
    return Heads(
        models=tuple(card["models"]),
        weights=arrays["weights"],
        bias=arrays["bias"],
        term_weights=arrays["term_weights"],
        base_rate=arrays["base_rate"],
    )
