from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from services.database.connection import Database
from tests.services.database import postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    postgres.need()
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/turnout.db"
    server_url: str = request.getfixturevalue("postgres_url")
    database = Database(server_url)
    database.write_now(
        lambda c: c.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    )
    database.close()
    return server_url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    database.open()
    yield database
    database.close()
