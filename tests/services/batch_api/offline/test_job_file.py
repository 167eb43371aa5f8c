from __future__ import annotations

from pathlib import Path

import pytest

from services.batch_api.offline import job_file
from tests.services.batch_api.conftest import URL, lines_of
from turnout.errors import DataError


def write(folder: Path, content: bytes) -> Path:
    path = folder / "job.jsonl"
    path.write_bytes(content)
    return path


def test_a_job_file_is_cut_into_portions(tmp_path: Path) -> None:
    content = lines_of(list(range(10)))
    job = job_file.read(write(tmp_path, content + b"\n"))
    assert (job.rows, job.endpoint) == (10, URL)
    portions = list(job.portions(4))
    assert [(each.first_row, each.rows) for each in portions] == [(0, 4), (4, 4), (8, 2)]
    assert b"\n".join(each.input for each in portions) + b"\n" == content


def test_what_names_the_results_follows_from_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    one, same, other = (
        job_file.read(write(folder, lines_of(rows))).batch_id
        for folder, rows in ((tmp_path, [1]), (tmp_path / "a", [1]), (tmp_path, [2]))
    )
    assert one == same != other


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no requests"),
        (b"{\n", r"job\.jsonl:1: this line is not valid JSON"),
        (b"[]\n", r"job\.jsonl:1: this line is not a JSON object"),
        (lines_of([1, 1]), r"job\.jsonl:2: custom_id 'id-1' was used by line 1"),
        (lines_of([1]) + lines_of([2]).replace(b"square", b"cube"), r"job\.jsonl:2: url"),
        (b"{}\n" * 30, "and 10 more"),
    ],
)
def test_a_malformed_job_file_is_refused_line_by_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        job_file.read(write(tmp_path, content))


def test_a_job_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        job_file.read(tmp_path / "none")
