from __future__ import annotations

import asyncio
import threading
from importlib.resources import files
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, select, text

from services.database.connection import HEAD, Database
from services.database.tables import inputs, metadata, portions
from turnout.errors import ConfigError


def test_migrations_make_the_tables_that_the_code_uses(database: Database) -> None:
    options = {"version_table": "bulk_schema"}
    found = database.read_now(
        lambda c: (
            compare_metadata(MigrationContext.configure(c, opts=options), metadata),
            MigrationContext.configure(c, opts=options).get_current_revision(),
        )
    )
    assert found == ([], HEAD)


def test_several_processes_may_open_a_new_database_at_once(url: str) -> None:
    made = [Database(url) for _ in range(4)]
    problems: list[BaseException] = []

    def open_one(database: Database) -> None:
        try:
            database.open()
        except BaseException as error:  # noqa: BLE001 - carried to the test's own thread
            problems.append(error)

    threads = [threading.Thread(target=open_one, args=(each,)) for each in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in made:
        each.close()
    assert problems == []


def test_sqlite_keeps_what_it_committed(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/deep/er/t.db")
    database.open()
    pragmas = database.read_now(
        lambda c: [
            c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        ]
    )
    database.close()
    assert pragmas == ["wal", 2]  # 2 is FULL


@pytest.mark.parametrize("url", ["nonsense", "postgresql+nodriver://x/y"])
def test_a_url_that_can_t_be_used_is_refused_with_its_variable(url: str) -> None:
    with pytest.raises(ConfigError, match="TURNOUT_DATABASE_URL"):
        Database(url)


async def test_closing_waits_for_nothing_that_hangs(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/t.db")
    begun, gate, ended = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        gate.wait(60.0)
        ended.set()

    hanging = asyncio.ensure_future(database.apart(hang))
    await asyncio.to_thread(begun.wait)
    database.close()
    assert not ended.is_set()
    gate.set()
    await hanging


def test_what_waits_in_a_database_of_an_earlier_version_is_kept(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    migrations = Path(str(files("services.database") / "migrations"))
    engine = create_engine(url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(migrations))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        for first, state, content in ((0, "done", None), (2, "leased", b"c\nd")):
            connection.execute(
                text(
                    "INSERT INTO bulk_portions (batch_id, first_row, rows, state, lost, input, "
                    "completed, failed) VALUES ('b', :first, 2, :state, 0, :content, 0, 0)"
                ),
                {"first": first, "state": state, "content": content},
            )
    engine.dispose()
    database = Database(url)
    database.open()
    found = database.read_now(lambda c: c.execute(select(inputs)).all())
    held = database.read_now(lambda c: c.execute(select(portions.c.state)).scalars().all())
    database.close()
    assert found == [("b", 2, b"c\nd")]
    assert held == ["done", "leased"]
