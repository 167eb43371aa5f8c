from __future__ import annotations

import pytest

from services.batch_api import files
from services.batch_api.schema import ExpiresAfter
from services.database.connection import Database
from tests.services.batch_api.conftest import Clock
from turnout.errors import InvalidRequest


def upload(database: Database, clock: Clock, kept_s: float | None) -> files.File:
    def work(connection: object) -> files.File:
        file_id = files.begin(connection, clock())  # type: ignore[arg-type]
        files.append(connection, file_id, 0, b"content")  # type: ignore[arg-type]
        return files.end(connection, file_id, "a", "batch", kept_s)  # type: ignore[arg-type]

    return database.write_now(work)


def test_a_file_is_kept_as_long_as_it_was_told(database: Database, clock: Clock) -> None:
    kept, told = upload(database, clock, None), upload(database, clock, 3600.0)
    assert kept.expires_at is None
    assert told.expires_at == clock() + 3600.0
    clock.now_s += 3599
    assert database.write_now(lambda c: files.remove_stale(c, clock())) == 0
    clock.now_s += 2
    assert database.write_now(lambda c: files.remove_stale(c, clock())) == 1
    assert database.read_now(lambda c: files.find(c, told.id)) is None
    assert database.read_now(lambda c: files.chunk_after(c, told.id, None)) is None
    assert database.read_now(lambda c: files.find(c, kept.id)) == kept


def test_an_upload_that_was_given_up_is_deleted(database: Database, clock: Clock) -> None:
    database.write_now(lambda c: files.begin(c, clock()))
    clock.now_s += 25 * 3600
    assert database.write_now(lambda c: files.remove_stale(c, clock())) == 1


@pytest.mark.parametrize(
    ("anchor", "seconds"),
    [("created_at", None), (None, 3600), ("now", 3600), ("created_at", 3599),
     ("created_at", 2_592_001), ("created_at", "x"), ("created_at", True), ("created_at", 3600.5)],
)  # fmt: skip
def test_an_expiry_that_cannot_be_is_refused(anchor: object, seconds: object) -> None:
    with pytest.raises(InvalidRequest, match="expires_after") as refused:
        ExpiresAfter.read({"anchor": anchor, "seconds": seconds}, within="expires_after")
    assert refused.value.param == "expires_after"


def test_an_expiry_may_come_as_text_in_a_form() -> None:
    assert ExpiresAfter.read({"anchor": "created_at", "seconds": "7200"}).seconds == 7200
