"""The reference of the cold start: EfficientNet-Lite0 by its package and torch.

    python benchmarks/torch_classifier.py --weights FILE.pth --image FILE

A script of its own that shares nothing with Turnout but the preprocessing's numbers.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

STARTED_S = time.monotonic()
SIZE = 224


def main() -> None:
    """Print the class of one picture, or of every picture in a folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", required=True)
    parser.add_argument("--image")
    parser.add_argument("--images", type=Path)
    options = parser.parse_args()

    import numpy as np
    import torch
    from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]
    from PIL import Image, ImageOps

    imported_s = time.monotonic()
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(options.weights, map_location="cpu", weights_only=True))
    model.eval()
    loaded_s = time.monotonic()

    def classify(path: str) -> tuple[int, float]:
        image = ImageOps.exif_transpose(Image.open(path).convert("RGB"))
        width, height = image.size
        side = int(min(width, height) * SIZE / (SIZE + 32))
        left, top = (width - side + 1) // 2, (height - side + 1) // 2
        image = image.crop((left, top, left + side, top + side))
        image = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        pixels = (np.asarray(image, np.float32).transpose(2, 0, 1) - 127.0) / 128.0
        with torch.inference_mode():
            shares = model(torch.from_numpy(pixels)[None]).softmax(1)[0]
        return int(shares.argmax()), float(shares.max())

    if options.images is not None:
        names = json.loads((options.images / "labels.json").read_text())
        print(json.dumps([classify(str(options.images / name))[0] for name in names]))
        return
    class_id, score = classify(options.image)
    phases = {
        "started_s": STARTED_S,
        "import_ms": (imported_s - STARTED_S) * 1e3,
        "load_ms": (loaded_s - STARTED_S) * 1e3,
        "run_ms": (time.monotonic() - STARTED_S) * 1e3,
    }
    print(json.dumps({"class_id": class_id, "score": score, "phases": phases}), flush=True)


if __name__ == "__main__":
    main()
