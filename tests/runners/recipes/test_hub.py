from __future__ import annotations

from pathlib import Path

import pytest

from runners.recipes import hub
from turnout.errors import ArtifactInvalid


def snapshot(tmp_path: Path, *names: str) -> tuple[Path, Path]:
    folder, out = tmp_path / "0123abcd", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    for name in names:
        (folder / name).write_text(name)
    return folder, out


def test_a_snapshot_is_taken_with_its_commit(tmp_path: Path) -> None:
    folder, out = snapshot(tmp_path, "model.safetensors", "config.json", "tokenizer.json")
    origin = hub.take(folder, out, "hf:a/b@main")
    assert sorted(file.name for file in out.iterdir()) == [
        "config.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert origin.sources[0].sha256 == "0123abcd"


@pytest.mark.parametrize(
    ("names", "said"),
    [(("pytorch_model.bin", "config.json"), "pickled"), (("model.safetensors",), "config.json")],
)
def test_what_cannot_serve_is_refused(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    folder, out = snapshot(tmp_path, *names)
    with pytest.raises(ArtifactInvalid, match=said):
        hub.take(folder, out, "hf:a/b@main")


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ArtifactInvalid, match="revision"):
        hub.build({"repo": "a/b"}, tmp_path, lambda line: None)
