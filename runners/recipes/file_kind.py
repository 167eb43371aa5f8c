"""Accept or refuse downloaded files by name and by content.

Formats of plain numbers and text are accepted. A pickle can run code when it is read, so it is
refused before anything reads it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from turnout.errors import ArtifactInvalid

_PICKLES = frozenset(
    {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin", ".ckpt", ".npy", ".npz", ".pt2", ".h5"}
)
_MAX_HEADER_BYTES = 100_000_000  # as the safetensors format itself limits it
_MAX_TEXT_BYTES = 64 * 1024**2

_REMEDY = (
    "only safetensors, ONNX and GGUF (with json and txt beside them) are accepted. Convert it once "
    "where you trust it: safetensors.torch.save_file(model.state_dict(), 'model.safetensors') or "
    "torch.onnx.export(model, inputs, 'model.onnx', dynamo=True)"
)


def check_name(name: str, address: str) -> None:
    """Refuse a file by its name.

    Raises:
        ArtifactInvalid: its kind may run code, or is not known.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _PICKLES:
        raise ArtifactInvalid(
            f"{address}: {name} is a pickle or may hold one, and reading it may run code; {_REMEDY}"
        )
    if suffix not in _CHECKS:
        raise ArtifactInvalid(f"{address}: files named *{suffix} are not accepted; {_REMEDY}")


def check_content(path: Path, address: str) -> None:
    """Refuse a file whose content does not match its name.

    Raises:
        ArtifactInvalid: it is a pickle or an archive under another name, or damaged.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if start[:1] == b"\x80" and start[1:2] <= b"\x05":
        fault = "is a pickle, whatever its name says, and reading it may run code"
    elif start.startswith((b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"7z\xbc\xaf", b"\xfd7zXZ")):
        fault = "is an archive (a torch file is one, with a pickle in it), whatever its name says"
    else:
        mismatch = _CHECKS[path.suffix.lower()](path)
        if mismatch is None:
            return
        fault = mismatch
    raise ArtifactInvalid(f"{address}: {path.name} {fault}; {_REMEDY}")


def _onnx(path: Path) -> str | None:
    import onnx  # `turnout serve` builds nothing from an address and starts without it

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # noqa: BLE001 - protobuf raises classes of its own
        return f"cannot be read as ONNX ({type(error).__name__})"
    if not model.graph.node or not model.graph.output:
        return "is an ONNX file without a graph"
    outside = [
        t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL
    ]
    if outside:
        return f"keeps {len(outside)} tensors in another file; save it as one file"
    return None


def _safetensors(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(8)
        size = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= size <= min(_MAX_HEADER_BYTES, path.stat().st_size - 8):
            return "has no safetensors header: it is damaged or of another format"
        try:
            entries = json.loads(file.read(size))
        except ValueError:
            return "has a damaged safetensors header"
    ends = [value["data_offsets"][1] for name, value in entries.items() if name != "__metadata__"]
    if max(ends, default=0) + 8 + size != path.stat().st_size:
        return "is shorter or longer than its safetensors header says: fetch it again"
    return None


def _gguf(path: Path) -> str | None:
    with path.open("rb") as file:
        return None if file.read(4) == b"GGUF" else "does not begin as a GGUF file"


def _json(path: Path) -> str | None:
    try:
        json.loads(path.read_text("utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        return f"is not JSON: {error}"
    return None


def _text(path: Path) -> str | None:
    if path.stat().st_size > _MAX_TEXT_BYTES:
        return "is too large for a text file"
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        return f"is not UTF-8 text: {error}"
    return "holds zero bytes, so it is not text" if "\0" in text else None


_CHECKS: Mapping[str, Callable[[Path], str | None]] = {
    ".onnx": _onnx,
    ".safetensors": _safetensors,
    ".gguf": _gguf,
    ".json": _json,
    ".txt": _text,
}
