"""A database of the first release, grown to a hundred thousand events, is brought to this one.

`first_release.sql` is what capi-console 0.1.0 left behind, tokens, dead and parked events and all.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Boolean, Engine, MetaData, Numeric, func, insert, select, text

from core.desk import queries
from core.sandbox.client import Sandbox
from core.services import watch
from core.services.delivery import deliver
from core.services.policy import Policy
from core.store import apps, database, migrate, platform
from core.store.schema import capi_case, capi_event, capi_outbox
from tests.world import DAY, World

STORED = Path(__file__).parent / "first_release.sql"
ROWS, AIM = 100_000, 10.0
# What came after it was taken, so that nothing in it is over.
TAKEN = datetime.fromisoformat("2026-11-26T13:04:00+00:00")

# Delivered events again and again, under names of their own.
_GROWN = """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :copies)
    INSERT INTO capi_event (id, app_id, pixel_id, event_name, event_id, source, order_id, value, currency, event_time,
        received_at, deadline_at, state, attempts, attempt_id, delivered_at, after_refresh)
    SELECT e.id + i * 64, app_id, pixel_id, event_name, event_id || '-' || i, source, order_id, value, currency,
        event_time, received_at, deadline_at, state, attempts, attempt_id, delivered_at, after_refresh
    FROM (SELECT row_number() OVER (ORDER BY id) AS id, app_id, pixel_id, event_name, event_id, source, order_id, value,
        currency, event_time, received_at, deadline_at, state, attempts, attempt_id, delivered_at, after_refresh
        FROM capi_event WHERE state = 'delivered') AS e, n
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """The database as the first release left it, with so many rows."""
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as conn:
        conn.executescript(STORED.read_text(encoding="utf-8"))
    conn.close()
    engine = database.open_engine(f"sqlite:///{path}")
    if request.param == "postgresql":
        file, engine = engine, database.open_engine(request.getfixturevalue("empty_postgres_url"))
        _copied(file, engine)
        file.dispose()
    with database.writing(engine) as conn:
        copies = ROWS // (conn.scalar(text("SELECT count(*) FROM capi_event WHERE state = 'delivered'")) or 0)
        conn.execute(text(_GROWN), {"copies": copies})
    yield engine
    engine.dispose()


def _copied(file: Engine, engine: Engine) -> None:
    """The same rows in a PostgreSQL database of that revision."""
    with database.writing(engine) as conn:
        platform.ensure(conn)
        command.upgrade(migrate.config(conn), "0001")
    stored, wanted = MetaData(), MetaData()
    wanted.reflect(engine)
    stored.reflect(file)
    with database.reading(file) as there, database.writing(engine) as here:
        for table in wanted.sorted_tables:
            if table.name not in stored.tables or table.name == migrate.VERSION_TABLE:
                continue
            names = ", ".join(f'"{column.name}"' for column in table.columns)
            rows = there.exec_driver_sql(f'SELECT {names} FROM "{table.name}"').mappings().all()
            if rows:
                made = [{c.name: _value(c.type, row[c.name]) for c in table.columns} for row in rows]
                here.execute(insert(table), made)


def _value(kind: Any, value: Any) -> Any:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(kind, Boolean):
        return bool(value)
    if isinstance(kind, Numeric):
        return Decimal(str(value))
    aware = getattr(kind, "timezone", None)
    if aware is None:
        return value
    moment = datetime.fromisoformat(value)
    return moment.replace(tzinfo=TAKEN.tzinfo) if aware else moment


def _counts(engine: Engine) -> tuple[dict[str, int], dict[str, int]]:
    with database.reading(engine) as conn:
        return tuple(  # type: ignore[return-value]
            {row[0]: row[1] for row in conn.execute(text(f"SELECT state, count(*) FROM {table} GROUP BY state"))}
            for table in ("capi_event", "capi_outbox")
        )


def test_it_is_migrated_in_seconds_with_every_row(old: Engine) -> None:
    before = _counts(old)
    assert sum(before[0].values()) > ROWS
    started = time.monotonic()
    migrate.migrate(old)
    seconds = time.monotonic() - started
    assert seconds < AIM, f"{seconds:.1f} s"
    assert _counts(old) == before
    with database.reading(old) as conn:
        assert migrate.current(conn) == migrate.newest()
        waiting = {state: before[0][state] for state in ("parked", "dead")}
        assert before[1] == waiting, "what waits stands in the outbox, and nothing else"
        assert conn.scalar(select(func.count()).where(capi_case.c.done_at.is_(None))) == 4
        counts = queries.health_counts(conn, now=TAKEN, soon=7 * DAY, window=30 * DAY)
        assert sum(counts.values()) == 60
        assert queries.failed_total(conn, queries.Filters(view="waiting"), now=TAKEN) == waiting["parked"]


def test_statistics_of_a_table_that_was_small_are_given_up(tmp_path: Path) -> None:
    engine = database.open_engine(f"sqlite:///{tmp_path / 'old.db'}")
    with database.writing(engine) as conn:
        platform.ensure(conn)
        command.upgrade(migrate.config(conn), "0008")
        conn.execute(text("INSERT INTO capi_schedule (task, due_at) VALUES ('snapshot', '2026-11-26 13:04:00.000000')"))
        conn.execute(text("ANALYZE"))
        assert conn.scalar(text("SELECT count(*) FROM sqlite_stat1 WHERE tbl = 'capi_schedule'"))
    migrate.migrate(engine)
    with database.reading(engine) as conn:
        assert conn.scalar(text("SELECT count(*) FROM sqlite_stat1")) == 0
    engine.dispose()


def test_what_waited_goes_out_once_its_token_is_mended(old: Engine, meta: Sandbox) -> None:
    migrate.migrate(old)
    migrate.prepare(old)
    world = World(old, meta, clock=lambda: TAKEN)
    with database.reading(old) as conn:
        waiting = conn.execute(
            select(capi_outbox.c.id, capi_outbox.c.app_id, capi_outbox.c.pixel_id).where(
                capi_outbox.c.state == "parked"
            )
        ).all()
    app_id = waiting[0].app_id
    mine = [row for row in waiting if row.app_id == app_id]
    token = meta.create_token(pixels=[mine[0].pixel_id])
    with database.writing(old) as conn:
        apps.write_token(conn, app_id, token, expires_at=TAKEN + 60 * DAY)
    watch.release_replaced(old, now=TAKEN)
    deliver(old, world.graph(), mine[0].pixel_id, policy=Policy(), by="worker-1", clock=world.clock)
    with database.reading(old) as conn:
        ids = [row.id for row in mine]
        states = set(conn.scalars(select(capi_event.c.state).where(capi_event.c.id.in_(ids))))
    assert states == {"delivered"}
    assert meta.count("events") >= 1
