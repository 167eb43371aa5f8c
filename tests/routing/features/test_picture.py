"""What is read of a picture's header, against the decoder that reads all of it."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from routing.features.picture import NAMES, picture_features


def file_of(size: tuple[int, int], form: str = "JPEG", mode: str = "RGB", **how: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(out, form, **how)
    return out.getvalue()


def named(file: bytes) -> dict[str, float]:
    return dict(zip(NAMES, picture_features(file).tolist(), strict=True))


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(1, 1), (320, 200), (17, 400)])
def test_size_and_shape_are_the_pictures(form: str, size: tuple[int, int]) -> None:
    file = file_of(size, form)
    found = named(file)
    pixels = size[0] * size[1]
    assert found["log_pixels"] == pytest.approx(math.log(pixels), abs=1e-5)
    assert found["log_aspect"] == pytest.approx(math.log(size[0] / size[1]), abs=1e-5)
    assert found["log_bytes_per_pixel"] == pytest.approx(math.log(len(file) / pixels), abs=1e-4)
    assert found["png"] == float(form == "PNG")
    assert found["components"] == 3.0


def test_a_jpegs_compression_is_read() -> None:
    fine, coarse = (named(file_of((64, 64), quality=quality)) for quality in (95, 20))
    assert coarse["log_quantisation"] > fine["log_quantisation"] + 1.0
    assert named(file_of((64, 64), progressive=True))["progressive"] == 1.0
    assert named(file_of((64, 64), subsampling=0))["chroma_halved"] == 0.0
    assert named(file_of((64, 64), subsampling=2))["chroma_halved"] == 1.0
    assert named(file_of((64, 64), mode="L"))["components"] == 1.0


def test_base64_is_the_same_picture() -> None:
    file = file_of((50, 40))
    text = base64.b64encode(file)
    for same in (text, b"data:image/jpeg;base64," + text):
        np.testing.assert_array_equal(picture_features(same), picture_features(file))


@given(st.binary(max_size=40), st.integers(0, 700))
def test_what_is_no_picture_is_zeros_not_an_error(junk: bytes, cut: int) -> None:
    whole = file_of((32, 32))
    for file in (junk, whole[:cut] + junk, b"\xff\xd8" + junk, b"\x89PNG\r\n\x1a\n" + junk):
        assert np.isfinite(picture_features(file)).all()


def test_of_a_long_base64_only_the_beginning_is_read() -> None:
    file = file_of((40, 30)) + bytes(1_000_000)
    np.testing.assert_allclose(
        picture_features(base64.b64encode(file)), picture_features(file), rtol=1e-5
    )
