"""Image classification: encoded pictures in, class and score out."""

from __future__ import annotations

import binascii
import io
import json
import re
import struct
import zlib
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from runners.tasks.outputs import OutputMismatch, table
from runners.tasks.rows import byte_rows
from turnout.errors import ArtifactInvalid, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from turnout.types import Tensors

MAX_ROWS = 256
MAX_PIXELS = 50_000_000
MAX_REQUEST_PIXELS = 200_000_000
_FILES = {
    b"\xff\xd8\xff": ("PIL.JpegImagePlugin", "JpegImageFile"),
    b"\x89PNG\r\n\x1a\n": ("PIL.PngImagePlugin", "PngImageFile"),
}
"""Pillow's classes by a file's first bytes; ``Image.open`` would import five formats."""
_BASE64 = (b"/9j/", b"iVBORw0KGgo")
"""The first characters of the same files in base64."""
_DATA_URL = re.compile(rb"data:image/[a-z]+;base64,")
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Preprocess:
    """The parameters of an image model's preprocessing.

    Attributes:
        size: side of the model's input, in pixels.
        crop: side of the centre crop, as a share of the shorter side.
        mean: subtracted from each 0..255 value.
        scale: the divisor of the difference.
    """

    size: int
    crop: float
    mean: float
    scale: float


class ImageTask:
    """Converts ``image`` BYTES [n] to ``class_id``, ``class_name`` and ``score``, each [n].

    A row is a JPEG or PNG file, or base64 of one (JSON cannot carry bytes), plain or as a data URL.
    ``class_id`` is INT64, ``class_name`` BYTES and ``score`` FP32.

    A further output for cascades, not for callers, is ``confidence`` FP32 [n]: the probability of
    the best class against the second, p1 / (p1 + p2).

    Args:
        labels: the classes' names, in index order.
        preprocess: the parameters of the preprocessing.
    """

    def __init__(self, labels: Sequence[str], preprocess: Preprocess) -> None:
        self._names = np.array([label.encode() for label in labels], dtype=object)
        self._preprocess = preprocess

    @classmethod
    def load(cls, folder: Path) -> ImageTask:
        """Read ``labels.json`` and ``preprocess.json``."""
        try:
            labels = json.loads((folder / "labels.json").read_text("utf-8"))
            settings = json.loads((folder / "preprocess.json").read_text("utf-8"))
            return cls(labels, Preprocess(**settings))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ArtifactInvalid(
                f"{folder} holds no readable labels.json and preprocess.json ({error}); "
                "build the model again"
            ) from error

    def prepare(self, tensors: Tensors) -> Tensors:
        """See ``TensorTask.prepare``; gives ``image`` FP32 [n, 3, s, s]."""
        rows = byte_rows(tensors, "image", MAX_ROWS)
        size = self._preprocess.size
        batch = np.empty((len(rows), 3, size, size), np.float32)
        left = MAX_REQUEST_PIXELS
        for index, row in enumerate(rows):
            try:
                image, pixels = _open(row, min(MAX_PIXELS, left))
                batch[index] = pixels_of(image, self._preprocess)
            except (Image.DecompressionBombError, Image.DecompressionBombWarning):
                raise _refused(index, f"has over {MAX_PIXELS} pixels; scale it down") from None
            except InvalidRequest as error:
                raise _refused(index, str(error)) from None
            except _UNREADABLE as error:
                raise _refused(index, f"cannot be decoded as JPEG or PNG: {error}") from None
            left -= pixels
        return {"image": batch}

    def collate(self, requests: Sequence[Tensors]) -> Tensors:
        """See ``TensorTask.collate``."""
        if len(requests) == 1:
            return requests[0]
        return {"image": np.concatenate([request["image"] for request in requests])}

    def finish(self, outputs: Tensors) -> Tensors:
        """See ``TensorTask.finish``; takes ``logits`` FP32 [n, classes].

        There may be more classes than labels, but none of these may be the best.
        """
        shares = _softmax(table(outputs, "logits"))
        best = shares.argmax(axis=1)
        if shares.shape[1] < len(self._names) or best.max(initial=0) >= len(self._names):
            raise OutputMismatch(
                f"output 'logits' has {shares.shape[1]} classes, and the best of a row is class "
                f"{best.max()}; labels.json names {len(self._names)}"
            )
        top = np.partition(shares, -2, axis=1)[:, -2:]
        return {
            "class_id": best.astype(np.int64),
            "class_name": self._names[best],
            "score": top[:, 1],
            "confidence": top[:, 1] / (top[:, 0] + top[:, 1]),
        }

    def example(self, rows: int) -> Tensors:
        """See ``TensorTask.example``; a grey picture."""
        size = self._preprocess.size
        return {"image": np.zeros((rows, 3, size, size), np.float32)}


def pixels_of(image: Image.Image, preprocess: Preprocess) -> np.ndarray[Any, Any]:
    """Crop, resize and scale an opened picture to FP32 [3, s, s].

    Source: the EfficientNet-Lite reference (centre crop of s/(s+32) of the shorter side, bicubic).
    """
    image = ImageOps.exif_transpose(_as_rgb(image))
    width, height = image.size
    side = max(1, int(min(width, height) * preprocess.crop))
    left, top = (width - side) // 2, (height - side) // 2
    size = (preprocess.size, preprocess.size)
    image = image.crop((left, top, left + side, top + side)).resize(size, Image.Resampling.BICUBIC)
    values = np.asarray(image, np.float32).transpose(2, 0, 1)
    return (values - preprocess.mean) / preprocess.scale


def _open(row: bytes, max_pixels: int) -> tuple[Image.Image, int]:
    """Open a picture by its header and count its pixels; refuse too large ones undecoded."""
    image = _file_of(row)
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise InvalidRequest(
            f"has {image.width} x {image.height} pixels; at most {MAX_PIXELS} an image and "
            f"{MAX_REQUEST_PIXELS} a request are decoded"
        )
    return image, pixels


def _file_of(row: bytes) -> Image.Image:
    if row.startswith(b"data:") and (head := _DATA_URL.match(row)):
        row = row[head.end() :]
    if row.startswith(_BASE64):
        row = binascii.a2b_base64(row, strict_mode=True)
    for start, (module, name) in _FILES.items():
        if row.startswith(start):
            return getattr(import_module(module), name)(io.BytesIO(row))
    raise SyntaxError("it starts like neither")


def _as_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB; 16-bit grey is scaled, transparency is dropped."""
    if image.mode.startswith("I"):
        grey = (np.asarray(image, np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    return image.convert("RGB")


def _softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float32)
    return shares / shares.sum(axis=1, keepdims=True)


def _refused(index: int, fault: str) -> InvalidRequest:
    return InvalidRequest(f"image row {index} {fault}", param="image")
