"""Draw an analog clock: a test picture free of rights, with a known class."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

CLASS_ID = 409
"""ImageNet's "analog clock"."""

_WIDTH, _HEIGHT, _RADIUS = 500, 375, 150
_CENTRE = (_WIDTH // 2, _HEIGHT // 2)
_DARK, _FACE = (20, 20, 20), (245, 240, 228)


def draw(path: Path) -> Path:
    """Write the picture as a JPEG of about 30 kB, the size of a photograph for the web."""
    image = Image.new("RGB", (_WIDTH, _HEIGHT), (150, 120, 90))
    pen = ImageDraw.Draw(image)
    for x in range(0, _WIDTH, 4):
        pen.line((x, 0, x, _HEIGHT), fill=(140 + x * 7 % 25, 112 + x * 5 % 20, 84))
    pen.circle(_CENTRE, _RADIUS + 14, fill=(40, 30, 25))
    pen.circle(_CENTRE, _RADIUS, fill=_FACE)
    for minute in range(60):
        long = minute % 5 == 0
        ends = (_at(minute, _RADIUS - 6), _at(minute, _RADIUS - (24 if long else 14)))
        pen.line(ends, fill=_DARK, width=5 if long else 2)
    font = ImageFont.load_default(26)
    for hour in range(12):
        text = str(hour or 12)
        pen.text(_at(hour * 5, _RADIUS - 42), text, fill=_DARK, font=font, anchor="mm")
    for minute, length, width in ((50.7, 80, 9), (8.7, 112, 6)):
        pen.line((_CENTRE, _at(minute, length)), fill=_DARK, width=width)
    pen.circle(_CENTRE, 8, fill=_DARK)
    image.filter(ImageFilter.GaussianBlur(0.6)).save(path, quality=90)
    return path


def _at(minute: float, radius: float) -> tuple[float, float]:
    angle = minute * math.pi / 30
    return _CENTRE[0] + radius * math.sin(angle), _CENTRE[1] - radius * math.cos(angle)
