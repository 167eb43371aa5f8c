"""What the command line says: of job files, of a gateway that is not there, of long names."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from services.cli.main import main
from services.cli.models import _list_running
from tests.routing.tables import frame

LINE = '{"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {"input": "a"}}'


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "job.jsonl: is empty; give one request a line"),
        ("\n\n", "job.jsonl: is empty; give one request a line"),
        ("\nmodel: chat\n", "job.jsonl:2: is not JSON: Expecting value"),
        ("[1]", "job.jsonl:1: is not a JSON object; give"),
        ("{}", "job.jsonl:1: no url; give it there, or --endpoint for every line"),
    ],
)
def test_a_job_file_that_is_none_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, says: str
) -> None:
    file = tmp_path / "job.jsonl"
    file.write_text(content)
    assert says in told(capsys, "bulk", "submit", str(file), "--url", "http://127.0.0.1:9")


def test_a_gateway_that_is_not_there_is_called_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "job.jsonl"
    file.write_text(LINE)
    with socket.socket() as nobody:  # bound and not listening: connections are refused
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        assert f"turnout: gateway {url}: no answer:" in told(
            capsys, "bulk", "submit", str(file), "--url", url
        )


def test_no_name_is_cut_where_no_terminal_sets_the_width(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "efficientnet-lite2-with-a-name-longer-than-a-terminal-is-wide" * 3
    _list_running([{"model": name, "state": "ready", "reason": "because " * 40}], as_json=False)
    said = capsys.readouterr().out
    assert name in said
    assert "\N{HORIZONTAL ELLIPSIS}" not in said


def test_a_narrow_terminal_folds_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # counts as a terminal
    monkeypatch.setenv("COLUMNS", "80")
    row = {"model": "m" * 90, "engine": "e" * 90, "state": "ready", "reason": "r" * 90}
    _list_running([row], as_json=False)
    said = capsys.readouterr().out
    assert [said.count(letter) >= 90 for letter in "me"] == [True, True]
    assert "\N{HORIZONTAL ELLIPSIS}" not in said


def test_a_path_that_cannot_be_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, blocked = tmp_path / "table.parquet", tmp_path / "file"
    frame(30).to_parquet(table, index=False)
    blocked.write_text("a file, not a folder")
    said = told(capsys, "router", "train", "--outcomes", str(table), "--out", str(blocked))
    assert f"{blocked}: File exists; give another path" in said


def test_a_router_that_cannot_be_read_ends_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is built or started: the gateway would not come up without it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("TURNOUT_ROUTER", str(tmp_path / "nowhere"))
    said = told(capsys, "serve", "--port", str(port))
    assert f"router {tmp_path / 'nowhere'}: there is no router.json" in said
