"""Read the pictures that image models are calibrated and judged on.

The user names a folder of JPEG and PNG files, with ``labels.json`` (class index by file name) if
the right answers are known. Without a folder, the photographs in two registry packages are used,
each whole and in four parts. They are few: a strict gate needs a folder of the user's.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from runners.optimize.input_types import Inputs, bytes_column
from runners.optimize.optimization import Report
from runners.recipes.address import fetch_pinned
from turnout.errors import DataError

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_LABELS = "labels.json"
_PACKAGE = "pypi:scikit-image==0.26.0#skimage/data/"
_PHOTOGRAPHS: Mapping[str, str] = {
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "coins.png": "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
    "grass.png": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    "gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
    "hubble_deep_field.jpg": "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
    "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "page.png": "341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3",
    "retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
    "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
}
"""Files of scikit-image and their SHA-256; their sources and licences are in its
``skimage/data/README.txt``."""
_MORE = ("china.jpg", "flower.jpg")


def read(place: Path) -> Inputs:
    """Return every picture of a folder, or the one picture of a file."""
    paths = [place] if place.is_file() else sorted(place.iterdir())
    paths = [path for path in paths if path.suffix.lower() in _SUFFIXES]
    if not paths:
        raise DataError(f"{place} holds no .jpg or .png file; name a folder of pictures")
    labels = _labels(place, paths)
    if labels is not None:
        paths = [path for path in paths if path.name in labels]
    for path in paths:
        _check(path)
    return Inputs(
        {"image": bytes_column([path.read_bytes() for path in paths])},
        None if labels is None else np.array([labels[path.name] for path in paths], np.int64),
        np.arange(len(paths)),
        f"{len(paths)} pictures given by the user",
    )


def default(report: Report) -> Inputs:
    """Return the photographs of scikit-image and scikit-learn, whole and in parts."""
    rows: list[bytes] = []
    groups: list[int] = []
    for group, photograph in enumerate(_photographs(report)):
        views = list(_views(photograph))
        rows += views
        groups += [group] * len(views)
    return Inputs(
        {"image": bytes_column(rows)},
        None,
        np.array(groups, np.int64),
        f"{len(set(groups))} photographs of scikit-image and scikit-learn, {len(rows)} views",
    )


def _photographs(report: Report) -> Iterator[Image.Image]:
    for name, sha256 in _PHOTOGRAPHS.items():
        yield Image.open(fetch_pinned(_PACKAGE + name, sha256, report)).convert("RGB")
    images = files("sklearn.datasets").joinpath("images")
    for name in _MORE:
        yield Image.open(io.BytesIO(images.joinpath(name).read_bytes())).convert("RGB")


def _views(photograph: Image.Image) -> Iterator[bytes]:
    """Yield the whole picture and four overlapping parts, three quarters of each side long."""
    width, height = photograph.size
    part_width, part_height = 3 * width // 4, 3 * height // 4
    corners = [(x, y) for x in (0, width - part_width) for y in (0, height - part_height)]
    boxes = [(0, 0, width, height)]
    boxes += [(x, y, x + part_width, y + part_height) for x, y in corners]
    for box in boxes:
        out = io.BytesIO()
        photograph.crop(box).save(out, "PNG")
        yield out.getvalue()


def _labels(place: Path, paths: list[Path]) -> Mapping[str, int] | None:
    path = (place if place.is_dir() else place.parent) / _LABELS
    if not path.is_file():
        return None
    try:
        labels = json.loads(path.read_text("utf-8"))
        index_by_name = {str(name): int(index) for name, index in labels.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"{path} must be a JSON object from file names to class indices: {error}"
        ) from error
    if not any(picture.name in index_by_name for picture in paths):
        raise DataError(
            f"{path} names none of the pictures in its folder; its keys must be their file names"
        )
    return index_by_name


def _check(path: Path) -> None:
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a picture: {error}; remove it") from error
