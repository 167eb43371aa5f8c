"""Conversion of a router to plain arrays by name, and back, for an artifact's archives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing.quality.cold_start import ColdStart, Novelty
from routing.quality.encoder import Encoder, Vocabulary
from routing.quality.factors import Factors
from routing.quality.forest import Forest
from routing.quality.heads import Calibration, GramHeads, Heads
from routing.quality.kernel import KernelHeads, Landmarks
from routing.quality.memory import Memory
from routing.quality.response import ResponseCurves

Arrays = dict[str, NDArray[Any]]
_CURVES = ("shares", "ability", "slopes")


def pack_encoder(encoder: Encoder) -> Arrays:
    """Return the arrays of an encoder; words joined by newlines as bytes."""
    arrays: Arrays = {
        "words": _bytes("\n".join(encoder.index)),
        "vectors": encoder.vectors,
        "scale": encoder.scale,
        "rarity": encoder.rarity.astype(np.float16),
        "mean": encoder.mean,
        "inverse_std": encoder.inverse_std,
    }
    if (factors := encoder.factors) is not None:
        arrays |= _pack_landmarks("factor", factors.landmarks) | {
            "factor_mean": factors.mean,
            "factor_inverse_std": factors.inverse_std,
            "factor_weights": factors.weights,
            "factor_bias": factors.bias,
            "factor_leading": np.array(factors.leading),
            "factor_models": _bytes("\n\n".join(map("\n".join, factors.models))),
            "memory_keys": factors.memory.keys,
            "memory_surplus": factors.memory.surplus,
        }
    return arrays


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _pack_landmarks(prefix: str, landmarks: Landmarks) -> Arrays:
    return {
        f"{prefix}_form": landmarks.form.astype(np.float16),
        f"{prefix}_meaning": landmarks.meaning.astype(np.float16),
        f"{prefix}_emphasis": np.array(landmarks.emphasis, dtype=np.float32),
        f"{prefix}_width": np.array(landmarks.width, dtype=np.float32),
    }


def _unpack_landmarks(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Landmarks:
    return Landmarks.at(
        arrays[f"{prefix}_form"].astype(np.float32),
        arrays[f"{prefix}_meaning"].astype(np.float32),
        arrays[f"{prefix}_emphasis"].tolist(),
        arrays[f"{prefix}_width"].tolist(),
    )


def _pack_kernel(prefix: str, heads: KernelHeads) -> Arrays:
    arrays: Arrays = {
        f"{prefix}_weights": heads.weights,
        f"{prefix}_factors": heads.factor_weights,
        f"{prefix}_bias": heads.bias,
    }
    if (curves := heads.curves) is not None:
        arrays |= {f"{prefix}_curve_{name}": getattr(curves, name) for name in _CURVES}
    return arrays | _pack_landmarks(prefix, heads.landmarks)


def _unpack_kernel(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> KernelHeads:
    return KernelHeads(
        _unpack_landmarks(prefix, arrays),
        arrays[f"{prefix}_weights"],
        arrays[f"{prefix}_factors"],
        arrays[f"{prefix}_bias"],
        None
        if f"{prefix}_curve_shares" not in arrays
        else ResponseCurves(**{name: arrays[f"{prefix}_curve_{name}"] for name in _CURVES}),
    )


def unpack_encoder(arrays: Mapping[str, NDArray[Any]]) -> Encoder:
    """Return the encoder of ``pack_encoder``. Raises KeyError for a missing array."""
    words = arrays["words"].tobytes().decode().split("\n")
    factors = None
    if "factor_bias" in arrays:
        models = arrays["factor_models"].tobytes().decode()
        factors = Factors(
            mean=arrays["factor_mean"],
            inverse_std=arrays["factor_inverse_std"],
            landmarks=_unpack_landmarks("factor", arrays),
            weights=arrays["factor_weights"],
            bias=arrays["factor_bias"],
            leading=tuple(arrays["factor_leading"].tolist()),
            models=tuple(tuple(table.split("\n")) for table in models.split("\n\n")),
            memory=Memory(arrays["memory_keys"], arrays["memory_surplus"]),
        )
    return Encoder(
        index=Vocabulary(words),
        vectors=arrays["vectors"],
        scale=arrays["scale"],
        rarity=arrays["rarity"].astype(np.float32),
        mean=arrays["mean"],
        inverse_std=arrays["inverse_std"],
        factors=factors,
    )


def pack_heads(heads: Heads, cold: ColdStart, novelty: Novelty) -> Arrays:
    """Return the arrays of heads, cold start and novelty."""
    arrays: Arrays = {
        "base_rate": heads.base_rate,
        "weights": np.array(heads.weights, dtype=np.float32),
        "calibration": np.stack(
            [heads.fast.slope, heads.fast.shift, heads.full.slope, heads.full.shift]
        ),
        "cold_weights": cold.weights,
        "cold_bias": np.array(cold.bias, dtype=np.float32),
        "cold_grid_prior": cold.grid_prior,
        "cold_grid_ability": cold.grid_ability,
        "novelty_usual": np.array(novelty.usual, dtype=np.float32),
    } | _pack_kernel("kernel", heads.kernel)
    if heads.exact is not None:
        arrays |= _pack_kernel("exact", heads.exact)
    if (forest := heads.forest) is not None:
        arrays |= {f"forest_{name}": getattr(forest, name) for name in _FOREST}
        arrays["forest_depth"] = np.array(forest.depth)
    if (grams := heads.grams) is not None:
        arrays |= {f"grams_{name}": getattr(grams, name) for name in _GRAMS}
    return arrays


_GRAMS = ("idf", "weights", "bias")
_FOREST = (
    "feature",
    "threshold",
    "left",
    "right",
    "value",
    "roots",
    "factor",
    "loadings",
    "bias",
)


def unpack_heads(arrays: Mapping[str, NDArray[Any]], models: Sequence[str]) -> Heads:
    """Return the heads of ``pack_heads``. Raises KeyError for a missing array.

    Trees, n-grams and exact kernel are stored together or not at all.
    """
    forest = grams = None
    if "forest_depth" in arrays:
        trees = {name: arrays[f"forest_{name}"] for name in _FOREST}
        forest = Forest(depth=int(arrays["forest_depth"]), **trees)
        grams = GramHeads(**{name: arrays[f"grams_{name}"] for name in _GRAMS})
    kernel, forest_weight, gram_weight, exact = arrays["weights"].tolist()
    calibration = arrays["calibration"]
    return Heads(
        models=tuple(models),
        base_rate=arrays["base_rate"],
        kernel=_unpack_kernel("kernel", arrays),
        forest=forest,
        grams=grams,
        exact=_unpack_kernel("exact", arrays) if forest is not None else None,
        weights=(kernel, forest_weight, gram_weight, exact),
        fast=Calibration(calibration[0], calibration[1]),
        full=Calibration(calibration[2], calibration[3]),
    )


def unpack_cold_start(arrays: Mapping[str, NDArray[Any]]) -> ColdStart:
    """Return the cold start of ``pack_heads``. Raises KeyError for a missing array."""
    return ColdStart(
        weights=arrays["cold_weights"],
        bias=float(arrays["cold_bias"]),
        grid_prior=arrays["cold_grid_prior"],
        grid_ability=arrays["cold_grid_ability"],
    )
