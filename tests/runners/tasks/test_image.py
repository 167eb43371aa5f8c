import base64
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runners.tasks import load_task
from runners.tasks.image import MAX_ROWS, ImageTask, Preprocess, pixels_of
from runners.tasks.outputs import OutputMismatch
from turnout.errors import ArtifactInvalid, InvalidRequest
from turnout.types import SIGNATURES, Task

_LABELS = [f"class {index}" for index in range(10)]
_PREPROCESS = Preprocess(size=32, crop=32 / 64, mean=127.0, scale=128.0)


@pytest.fixture
def task() -> ImageTask:
    return ImageTask(_LABELS, _PREPROCESS)


def _bytes(*rows: bytes) -> dict[str, np.ndarray]:
    tensor = np.empty(len(rows), dtype=object)
    tensor[:] = rows
    return {"image": tensor}


def _encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _noise(mode: str = "RGB", size: tuple[int, int] = (80, 64)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def _bomb(width: int, height: int) -> bytes:
    """A PNG that declares a size, with next to nothing behind it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"0"))


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("url", [False, True])
def test_base64_is_read_like_the_file_itself(task: ImageTask, kind: str, url: bool) -> None:
    file = _encoded(_noise(), kind)
    text = base64.b64encode(file)
    if url:
        text = b"data:image/" + kind.lower().encode() + b";base64," + text
    expected = task.prepare(_bytes(file))["image"]
    np.testing.assert_array_equal(task.prepare(_bytes(text))["image"], expected)


def test_broken_base64_is_refused(task: ImageTask) -> None:
    text = base64.b64encode(_encoded(_noise()))
    with pytest.raises(InvalidRequest, match="image row 0 cannot be decoded"):
        task.prepare(_bytes(text[:40] + b"!" + text[41:]))


def test_a_flat_picture_becomes_its_scaled_value(task: ImageTask) -> None:
    rows = _bytes(_encoded(Image.new("RGB", (100, 60), (127, 255, 0))))
    image = task.prepare(rows)["image"]
    assert image.shape == (1, 3, 32, 32)
    assert image.dtype == np.float32
    expected = np.array([0.0, 1.0, -127 / 128])[:, None, None]
    np.testing.assert_allclose(image[0], np.broadcast_to(expected, (3, 32, 32)), atol=1e-6)


def test_the_centre_is_what_is_seen(task: ImageTask) -> None:
    # a white square in the middle of black, as large as the crop (half of the shorter side)
    picture = Image.new("L", (120, 80))
    picture.paste(255, (40, 20, 80, 60))
    seen = task.prepare(_bytes(_encoded(picture)))["image"]
    assert (seen == 1.0).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1"])
def test_every_mode_of_png_is_read(task: ImageTask, mode: str) -> None:
    image = task.prepare(_bytes(_encoded(_noise(mode))))["image"]
    assert np.abs(image).max() <= 1.0


def test_sixteen_bit_grey_keeps_its_brightness() -> None:
    grey = Image.fromarray(np.full((64, 64), 40_000, np.uint16))
    np.testing.assert_allclose(pixels_of(grey, _PREPROCESS), (40_000 // 256 - 127) / 128)


def test_cmyk_jpeg_is_read(task: ImageTask) -> None:
    assert task.prepare(_bytes(_encoded(_noise("CMYK"), "JPEG")))["image"].shape[0] == 1


def test_a_camera_held_upright_is_turned(task: ImageTask) -> None:
    picture = _noise()
    exif = Image.Exif()
    exif[274] = 6  # stored rotated: turn by 90 degrees to view
    turned = picture.transpose(Image.Transpose.ROTATE_270)
    stored = task.prepare(_bytes(_encoded(picture, "PNG", exif=exif)))
    np.testing.assert_array_equal(stored["image"], task.prepare(_bytes(_encoded(turned)))["image"])


def test_requests_are_joined_in_order(task: ImageTask) -> None:
    black, white = (_encoded(Image.new("L", (64, 64), value)) for value in (0, 255))
    first, second = task.prepare(_bytes(black, white)), task.prepare(_bytes(white))
    batch = task.collate([first, second])["image"]
    assert [row.mean() > 0 for row in batch] == [False, True, True]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (b"hello", "cannot be decoded"),
        (_encoded(_noise(), "JPEG")[:600], "cannot be decoded"),
        (_encoded(_noise())[:2000], "cannot be decoded"),
        (_encoded(_noise(), "GIF"), "cannot be decoded"),
        (_bomb(60_000, 60_000), "pixels"),
        (_bomb(9_000, 9_000), "pixels"),
        (_bomb(100, 100), "cannot be decoded"),
        (b"", "empty"),
    ],
    ids=["text", "cut jpeg", "cut png", "gif", "bomb", "too large", "header only", "empty"],
)
def test_a_bad_row_is_refused_by_its_number(task: ImageTask, row: bytes, what: str) -> None:
    with pytest.raises(InvalidRequest, match=f"row 1.*{what}") as caught:
        task.prepare(_bytes(_encoded(_noise()), row))
    assert caught.value.param == "image"


def test_many_large_pictures_in_one_request_are_refused(task: ImageTask) -> None:
    # each is within the limit of one picture, together they are not within a request's
    large = _encoded(Image.new("1", (6_900, 7_000)))
    with pytest.raises(InvalidRequest, match="row 4 has 6900 x 7000 pixels"):
        task.prepare(_bytes(*[large] * 5))


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        ({}, "one input named 'image', got: none"),
        ({"picture": np.zeros(1)}, "got: picture"),
        ({"image": np.zeros((1, 3, 32, 32), np.float32)}, "must be BYTES of shape"),
        ({"image": np.array([["a"]], dtype=object)}, "must be BYTES of shape"),
        ({"image": np.array(["a"], dtype=object)}, "row 0 is not bytes"),
        ({"image": np.empty(0, dtype=object)}, "0 rows"),
        ({"image": np.full(MAX_ROWS + 1, b"x", dtype=object)}, "rows"),
    ],
)
def test_a_wrong_tensor_is_refused(
    task: ImageTask, tensors: dict[str, np.ndarray], what: str
) -> None:
    with pytest.raises(InvalidRequest, match=what):
        task.prepare(tensors)


def test_the_best_class_comes_out_with_its_share(task: ImageTask) -> None:
    logits = np.zeros((2, 10), np.float32)
    logits[0, 3], logits[1, 7] = 2.0, 900.0
    outputs = task.finish({"logits": logits})
    public = [spec.name for spec in SIGNATURES[Task.IMAGE].outputs]
    assert list(outputs) == [*public, "confidence"]
    assert outputs["class_id"].tolist() == [3, 7]
    assert outputs["class_id"].dtype == np.int64
    assert outputs["class_name"].tolist() == [b"class 3", b"class 7"]
    share = np.exp(2) / (np.exp(2) + 9)
    np.testing.assert_allclose(outputs["score"], [share, 1.0], rtol=1e-6)
    assert outputs["score"].dtype == np.float32


def test_the_confidence_is_the_best_class_against_the_second(task: ImageTask) -> None:
    logits = np.full((2, 10), -np.inf, np.float32)
    logits[:, :3] = np.log([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    confidence = task.finish({"logits": logits})["confidence"]
    np.testing.assert_allclose(confidence, [0.5 / 0.8, 0.8 / 0.9], rtol=1e-5)


def test_it_is_loaded_from_a_folder(tmp_path: Path) -> None:
    settings = {"size": 32, "crop": 0.5, "mean": 127.0, "scale": 128.0}
    (tmp_path / "labels.json").write_text(json.dumps(_LABELS))
    (tmp_path / "preprocess.json").write_text(json.dumps(settings))
    task = load_task(Task.IMAGE, tmp_path)
    assert task.prepare(_bytes(_encoded(_noise())))["image"].shape == (1, 3, 32, 32)


def test_a_folder_without_its_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactInvalid, match="build the model again"):
        load_task(Task.IMAGE, tmp_path)


def test_more_classes_than_labels_are_taken_while_none_of_them_is_the_best(task: ImageTask) -> None:
    logits = np.zeros((1, 12), np.float32)
    logits[0, 3] = 2.0
    assert task.finish({"logits": logits})["class_id"].tolist() == [3]
    logits[0, 11] = 9.0
    with pytest.raises(OutputMismatch, match="12 classes, and the best of a row is class 11"):
        task.finish({"logits": logits})
    with pytest.raises(OutputMismatch, match="9 classes"):
        task.finish({"logits": np.zeros((1, 9), np.float32)})
