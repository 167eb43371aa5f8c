from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batch_api.leases import Results
from services.batch_api.offline.job_file import JobFile
from services.batch_api.offline.parts import Parts
from turnout.errors import DataError

JOB = JobFile(Path("job"), "ab" * 32, "/v1/embeddings", 9)


def parts(folder: Path, job: JobFile = JOB, portion_rows: int = 3) -> Parts:
    return Parts(job, portion_rows, folder / "out.jsonl", folder / "bad.jsonl")


def results(first: int, failing: frozenset[int]) -> Results:
    rows = range(first, first + 3)
    good = [b"good %d\n" % row for row in rows if row not in failing]
    bad = [b"bad %d\n" % row for row in rows if row in failing]
    return Results(b"".join(good), b"".join(bad), len(good), len(bad))


@given(
    order=st.permutations([0, 3, 6]),
    stops=st.lists(st.integers(0, 2), max_size=3),
    failing=st.frozensets(st.integers(0, 8)),
)
def test_whatever_the_order_and_the_interruptions_the_files_are_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    order: list[int],
    stops: list[int],
    failing: frozenset[int],
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    made = parts(folder)
    for index, first in enumerate(order):
        assert not made.has(first)
        made.add(first, results(first, failing))
        if index in stops:
            made = parts(folder)  # another process goes on
        assert made.has(first)
    assert made.rows == (9 - len(failing), len(failing))
    made.finish()
    good = [b"good %d" % row for row in range(9) if row not in failing]
    assert (folder / "out.jsonl").read_bytes().splitlines() == good
    bad = [b"bad %d" % row for row in sorted(failing)]
    found = (folder / "bad.jsonl").read_bytes().splitlines() if failing else []
    assert found == bad
    assert sorted(each.name for each in folder.iterdir()) == (
        ["bad.jsonl", "out.jsonl"] if failing else ["out.jsonl"]
    )


def test_a_portion_that_was_half_written_does_not_count(tmp_path: Path) -> None:
    parts(tmp_path)
    (tmp_path / "out.jsonl.parts" / ".000000000-3-0.part.new").write_bytes(b"good 0\n")
    assert not parts(tmp_path).has(0)


@pytest.mark.parametrize(
    ("job", "portion_rows"),
    [(JobFile(Path("job"), "cd" * 32, "/v1/embeddings", 9), 3), (JOB, 4)],
)
def test_the_parts_of_another_job_are_not_taken_for_this_one_s(
    tmp_path: Path, job: JobFile, portion_rows: int
) -> None:
    parts(tmp_path).add(0, results(0, frozenset()))
    with pytest.raises(DataError, match="another job"):
        parts(tmp_path, job, portion_rows)


@pytest.mark.parametrize("name", ["out.jsonl", "bad.jsonl"])
def test_what_exists_is_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=f"{name} exists already"):
        parts(tmp_path)
