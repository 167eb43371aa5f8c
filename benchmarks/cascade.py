"""Measure a cascade of two image models on labelled pictures: escalations and accuracy.

    python -m benchmarks.cascade --images DIR --json FILE

The catalog's two EfficientNet models under ONNX Runtime. For each measure of the cheap model's
confidence: the threshold that escalates at most a share of one half of the pictures, shown on the
other half, and the other way round; beside always-cheap, always-large, and sending on as many
pictures at random. Then the threshold with a bound on the loss (``turnout cascade choose
--max-loss``). ``--repeat`` more random halvings say how much of it is the luck of the split.

``DIR/labels.json`` maps a file's name to its ImageNet class index.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.images import labelled
from benchmarks.provenance import save
from routing.evaluation.cascade_threshold import Recorded, at, bounded, for_share
from runners.tasks.image import ImageTask
from services.artifacts.store import resolve
from turnout.catalog import load

_CATALOG = Path(__file__).parents[1] / "catalog" / "default.yaml"
_CHEAP, _LARGE = "efficientnet-lite0", "efficientnet-lite2"
_BATCH = 16
_SERVED = "best against second"


def logits_of(folder: Path, pictures: Sequence[Path]) -> np.ndarray:
    """Return the logits of an artefact under ONNX Runtime, shape (n, classes)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    task = ImageTask.load(folder)
    parts: list[np.ndarray] = []
    for first in range(0, len(pictures), _BATCH):
        batch = pictures[first : first + _BATCH]
        rows = np.empty(len(batch), dtype=object)
        rows[:] = [path.read_bytes() for path in batch]
        parts.append(np.asarray(session.run(["logits"], task.prepare({"image": rows}))[0]))
    return np.concatenate(parts)


def _shares(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    scaled = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return np.sort(scaled / scaled.sum(axis=1, keepdims=True), axis=1)


def _entropy(logits: np.ndarray) -> np.ndarray:
    shares = _shares(logits)
    return 1.0 + (shares * np.log(shares + 1e-12)).sum(axis=1) / np.log(shares.shape[1])


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    _SERVED: lambda z: (s := _shares(z))[:, -1] / (s[:, -1] + s[:, -2]),
    "top-1 probability": lambda z: _shares(z)[:, -1],
    "top-1, temperature 0.5": lambda z: _shares(z, 0.5)[:, -1],
    "top-1, temperature 2": lambda z: _shares(z, 2.0)[:, -1],
    "margin": lambda z: (s := _shares(z))[:, -1] - s[:, -2],
    "one less entropy": _entropy,
}


def halves(recorded: Recorded, share: float, seed: int) -> list[dict[str, float]]:
    """Evaluate each half's threshold on the other half."""
    order = np.random.default_rng(seed).permutation(len(recorded.confidence))
    middle = len(order) // 2
    found: list[dict[str, float]] = []
    for chosen, shown in ((order[:middle], order[middle:]), (order[middle:], order[:middle])):
        threshold = for_share(recorded.take(chosen), share)
        on = at(recorded.take(shown), threshold)
        found.append({
            "threshold": round(threshold, 4),
            "escalated": round(on.escalated, 4),
            "cascade": round(on.quality, 4),
            "cheap": round(on.cheap, 4),
            "large": round(on.large, 4),
            "at_random": round(on.cheap + on.escalated * (on.large - on.cheap), 4),
        })  # fmt: skip
    return found


def measure(recorded: Recorded, share: float, repeat: int) -> dict[str, Any]:
    """Evaluate one measure of confidence, in seed 0's halves and averaged over more splits."""
    many = [row for seed in range(repeat) for row in halves(recorded, share, seed)]
    whole = at(recorded, for_share(recorded, share))
    return {
        "all_pictures": {
            "escalated": round(whole.escalated, 4),
            "cascade": round(whole.quality, 4),
        },
        "halves": halves(recorded, share, 0),
        "mean_of_halvings": {
            "escalated": round(float(np.mean([row["escalated"] for row in many])), 4),
            "cascade_less_large": round(
                float(np.mean([row["cascade"] - row["large"] for row in many])), 4
            ),
        },
    }


def main() -> None:
    """Measure, print, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.19, help="escalated at most")
    parser.add_argument("--max-loss", type=float, default=0.02)
    parser.add_argument("--repeat", type=int, default=100, help="random halvings")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    pictures, classes = labelled(given.images)
    models = load(_CATALOG).models
    logits = {
        name: logits_of(resolve(artifact), pictures)
        for name in (_CHEAP, _LARGE)
        if (artifact := models[name].artifact) is not None
    }
    right = {name: (z.argmax(axis=1) == classes).astype(np.float64) for name, z in logits.items()}
    result: dict[str, Any] = {"pictures": len(pictures), "share": given.share, "measures": {}}
    for name, confidence in MEASURES.items():
        recorded = Recorded(
            confidence(logits[_CHEAP].astype(np.float64)), right[_CHEAP], right[_LARGE]
        )
        found = result["measures"][name] = measure(recorded, given.share, given.repeat)
        shown = "; ".join(
            f"{row['cascade']:.3f} at {row['escalated']:.1%} (large {row['large']:.3f})"
            for row in found["halves"]
        )
        mean = found["mean_of_halvings"]
        print(f"{name:<24} {shown}; halvings: {mean['cascade_less_large']:+.4f} against large")
        if name == _SERVED:
            threshold = bounded(recorded, given.max_loss)
            on = at(recorded, threshold)
            result["bounded"] = {
                "max_loss": given.max_loss, "delta": 0.1, "threshold": round(threshold, 4),
                "escalated": round(on.escalated, 4), "cascade": round(on.quality, 4),
            }  # fmt: skip
    print(f"with a bound: {result['bounded']}")
    save(given.json, result)


if __name__ == "__main__":
    main()
