"""``turnout bulk`` as a person runs it: job files without a gateway, and the commands for one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.batches import CHAT, EMBED, FRAUD, IMAGE, body_of, line
from tests.e2e.conftest import serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
FAKES = Path(__file__).parent / "fakes.yaml"
TURNOUT = str(Path(sys.executable).parent / "turnout")
RAY = importlib.util.find_spec("ray") is not None


def job(folder: Path, endpoint: str, rows: int) -> Path:
    path = folder / "job.jsonl"
    path.write_bytes(b"".join(line(endpoint, n) + b"\n" for n in range(rows)))
    return path


def run(file: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [TURNOUT, "bulk", "run", str(file), "--out", str(out), "--catalog", str(FAKES)]
    return subprocess.run([*command, *more], capture_output=True, text=True, check=False)


def bodies(path: Path) -> dict[str, Any]:
    """The answer to each row; what names the run (decision, time) left out."""
    found = {}
    for each in path.read_text().splitlines():
        row = json.loads(each)
        body = {k: v for k, v in row["response"]["body"].items() if k not in ("id", "created")}
        assert row["custom_id"] not in found
        found[row["custom_id"]] = (row["id"], row["response"]["status_code"], body)
    return found


@pytest.mark.parametrize("endpoint", [CHAT, EMBED, IMAGE, FRAUD])
def test_a_job_file_runs_without_a_gateway(tmp_path: Path, endpoint: str) -> None:
    done = run(job(tmp_path, endpoint, 100), tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert "100 of 100 rows" in done.stderr
    found = bodies(tmp_path / "out.jsonl")
    assert list(found) == [f"row-{n}" for n in range(100)]
    assert {status for _, status, _ in found.values()} == {200}


def test_rows_that_fail_are_beside_the_output_and_in_the_exit_code(tmp_path: Path) -> None:
    file = job(tmp_path, FRAUD, 3)
    wrong = line(FRAUD, 3, {"inputs": []})
    file.write_bytes(file.read_bytes() + wrong + b"\n")
    done = run(file, tmp_path / "out.jsonl")
    assert done.returncode == 1
    assert "1 rows failed" in done.stderr
    assert list(bodies(tmp_path / "out.errors.jsonl")) == ["row-3"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--catalog", "none.yaml"], "none.yaml"),
        (["--engine", "warp"], "warp"),
        (["--out", "job.jsonl"], "exists already"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(tmp_path: Path, more: list[str], said: str) -> None:
    file = job(tmp_path, FRAUD, 1)
    command = [TURNOUT, "bulk", "run", file.name, "--catalog", str(FAKES), "--out", "out", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def interrupted(file: Path, out: Path, engine: str) -> None:
    """Run until some portions are finished, then kill every process of it."""
    command = [TURNOUT, "bulk", "run", str(file), "--out", str(out), "--catalog", str(FAKES),
               "--engine", engine]  # fmt: skip
    with out.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            while len(list(out.parent.glob("out.jsonl.parts/*.part"))) < 2:
                assert process.poll() is None, out.with_suffix(".log").read_text()
                only_on_loopback(process.pid)
        finally:
            family = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait()
            for each in family:
                if each.is_running():
                    each.kill()


def only_on_loopback(pid: int) -> None:
    """Whatever a process and its children listen on is reachable from this machine only."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for process in family:
            for each in process.net_connections("inet"):
                if each.status == psutil.CONN_LISTEN:
                    ip = each.laddr.ip.removeprefix("::ffff:")
                    assert ip in ("127.0.0.1", "::1"), (process.cmdline(), each)
    except psutil.Error:
        return  # one has ended meanwhile


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine",
    ["local", pytest.param("ray", marks=pytest.mark.skipif(
        not RAY and os.environ.get("TURNOUT_TESTS_NEED") != "everything",
        reason="Ray is not installed (pip install turnout[ray])"))],
)  # fmt: skip
def test_a_rerun_goes_on_where_it_was_and_the_result_is_the_same(
    tmp_path: Path, engine: str
) -> None:
    slow = "/v2/models/slow-classifier/infer"
    file = tmp_path / "job.jsonl"
    file.write_bytes(b"".join(line(slow, n, body_of(IMAGE, n)) + b"\n" for n in range(500)))
    expected = tmp_path / "expected.jsonl"
    assert run(file, expected).returncode == 0
    out = tmp_path / "out.jsonl"
    interrupted(file, out, engine)
    kept = {each.name for each in (tmp_path / "out.jsonl.parts").glob("*.part")}
    assert len(kept) >= 2
    again = run(file, out, "--engine", engine)
    assert again.returncode == 0, again.stderr
    assert "were finished by an earlier run" in again.stderr
    assert bodies(out) == bodies(expected)
    assert list(bodies(out)) == [f"row-{n}" for n in range(500)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    with serving(
        BENTOML_HOME=str(home),
        TURNOUT_CATALOG=str(FAKES),
        TURNOUT_DATABASE_URL=f"sqlite:///{home}/bulk.db",
    ) as url:
        yield url


def bulk(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TURNOUT, "bulk", *arguments],
        capture_output=True, text=True, check=False, env=os.environ | {"TURNOUT_URL": address},
    )  # fmt: skip


def test_submit_watch_list_and_fetch(tmp_path: Path, address: str) -> None:
    file = job(tmp_path, FRAUD, 50)
    submitted = bulk(address, "submit", str(file), "--metadata", "night=1", "--watch")
    assert submitted.returncode == 0, submitted.stderr
    assert "completed: 50 of 50 rows, 0 failed" in submitted.stderr
    batch_id = submitted.stdout.strip()
    shown = json.loads(bulk(address, "show", batch_id).stdout)
    assert shown["metadata"] == {"night": "1"}
    listed = json.loads(bulk(address, "list", "--json").stdout)
    assert [each["id"] for each in listed] == [batch_id]
    assert batch_id in bulk(address, "list").stdout
    out = tmp_path / "out.jsonl"
    assert bulk(address, "fetch", batch_id, "--out", str(out)).returncode == 0
    assert list(bodies(out)) == [f"row-{n}" for n in range(50)]
    late = bulk(address, "cancel", batch_id)
    assert late.returncode == 2
    assert "can't be cancelled" in late.stderr


def test_a_gateway_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    done = bulk("http://127.0.0.1:9", "submit", str(job(tmp_path, FRAUD, 1)))
    assert done.returncode == 2
    assert "no answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_cannot_load_is_said_before_anything_runs(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(FAKES.read_text().replace(
        "scorer: {task: tabular, runner: {engine: fake}",
        "scorer: {task: tabular, runner: {engine: fake, fail: load}"))  # fmt: skip
    done = run(job(tmp_path, FRAUD, 10), tmp_path / "out.jsonl", "--catalog", str(broken))
    assert done.returncode == 2
    assert "the catalog says fail: load" in done.stderr
    assert "Traceback" not in done.stderr
