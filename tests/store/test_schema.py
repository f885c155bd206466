"""What the migrations build is what the schema declares, and a database that lacks something says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, select, text
from sqlalchemy.exc import DBAPIError

from core.errors import SchemaError, SettingsError, StoreError
from core.services import upkeep
from core.services.policy import Policy
from core.store import database, ledger, migrate, platform, rollups
from core.store.schema import capi_case, ours


def test_the_migrations_build_what_the_schema_declares(engine: Engine) -> None:
    ours_only = {
        "version_table": migrate.VERSION_TABLE,
        "include_name": lambda name, kind, _: kind != "table" or name in ours.tables,
    }
    with engine.connect() as conn:
        assert compare_metadata(MigrationContext.configure(conn, opts=ours_only), ours) == []


def test_all_our_tables_carry_our_prefix(engine: Engine) -> None:
    found = set(inspect(engine).get_table_names())
    assert {name for name in found if not name.startswith("capi_")} == {"User", "App", "AppSettings"}


def test_migrating_twice_and_at_once_is_harmless(tmp_path: Path) -> None:
    engines = [database.open_engine(f"sqlite:///{tmp_path / 'new.db'}") for _ in range(4)]
    threads = [threading.Thread(target=migrate.migrate, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engines[0].connect() as conn:
        assert migrate.current(conn) == migrate.newest()


def test_postgresql_is_not_migrated_behind_its_owners_back(postgres_url: str) -> None:
    engine = database.open_engine(postgres_url)
    with engine.begin() as conn:
        conn.execute(text(f"DELETE FROM {migrate.VERSION_TABLE}"))
    with pytest.raises(SchemaError, match="run `capi-console migrate`"):
        migrate.prepare(engine)
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:p@h/d", "'mysql', which is not served"),
        ("nonsense", "cannot be read"),
        ("sqlite://", "name a file"),
    ],
)
def test_a_database_url_that_cannot_serve_is_refused(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        database.open_engine(url)


def test_a_file_whose_folder_cannot_be_made_is_a_database_that_is_away() -> None:
    with pytest.raises(StoreError, match=r"/proc/none/capi\.db cannot be used, its folder cannot be made"):
        database.open_engine("sqlite:////proc/none/capi.db")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://someone:hush-hush@127.0.0.1:1/shop",
        "postgresql://someone@127.0.0.1:1/shop?password=hush-hush&sslpassword=hush-hush",
    ],
)
def test_a_database_that_is_away_is_named_without_its_password(url: str) -> None:
    engine = database.open_engine(url)
    with pytest.raises(StoreError, match="check DATABASE_URL") as error:
        migrate.prepare(engine)
    assert "hush-hush" not in str(error.value)
    assert "someone" in str(error.value)


def test_a_failing_statement_does_not_show_its_parameters(engine: Engine) -> None:
    with pytest.raises(DBAPIError) as error, engine.connect() as conn:
        conn.execute(text('UPDATE "AppSettings" SET "noSuchColumn" = :token'), {"token": "MARKED"})
    assert "MARKED" not in str(error.value)


def test_sqlite_is_durable_and_waits_for_locks(sqlite_engine: Engine) -> None:
    with sqlite_engine.connect() as conn:
        pragmas = {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 10_000, "foreign_keys": 1}


@pytest.fixture
def older(empty_postgres_url: str) -> Iterator[Engine]:
    """PostgreSQL at the revision before indexes on attempts, aliases and events were made."""
    engine = database.open_engine(empty_postgres_url)
    with database.writing(engine) as conn:
        platform.ensure(conn)
        command.upgrade(migrate.config(conn), "0006")
        conn.execute(text("INSERT INTO capi_pixel (pixel_id) VALUES ('77')"))
    yield engine
    engine.dispose()


# What delivery and acceptance touch, in their order.
WRITERS = (
    (
        "UPDATE capi_pixel SET pixel_id = pixel_id",
        "INSERT INTO capi_attempt (at, pixel_id, fingerprint, events, duration_ms) VALUES (now(), '77', 'fp', 1, 5)",
        "UPDATE capi_event SET attempts = attempts",
    ),
    ("UPDATE capi_alias SET alias = alias", "UPDATE capi_event SET attempts = attempts", "DELETE FROM capi_outbox"),
)


def test_a_database_in_use_is_migrated_and_nobody_who_writes_is_turned_away(older: Engine) -> None:
    """Writers take their tables in another order than migrations do: none may end as a deadlock's victim."""
    ended, rounds = threading.Event(), [0, 0]

    def write(writer: int) -> None:
        while not ended.is_set():
            with database.writing(older) as conn:
                for statement in WRITERS[writer]:
                    conn.execute(text(statement))
                    time.sleep(0.05)
            rounds[writer] += 1
            time.sleep(0.01)

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, writer) for writer in (0, 1)]
        time.sleep(0.3)
        try:
            migrate.migrate(older)
        finally:
            ended.set()
        for writer in writers:
            writer.result()
    with database.reading(older) as conn:
        assert migrate.current(conn) == migrate.newest()
    assert min(rounds) > 0


def test_a_migration_gives_way_to_one_that_is_under_way_and_comes_back(older: Engine) -> None:
    """It holds what the other wants next: the other goes on within a second."""
    began, waited = threading.Event(), []

    def write() -> None:
        with database.writing(older) as conn:
            conn.execute(text(WRITERS[0][1]))
            began.set()
            time.sleep(0.4)
            started = time.monotonic()
            conn.execute(text(WRITERS[0][2]))
            waited.append(time.monotonic() - started)

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        began.wait(10)
        migrate.migrate(older)
        writer.result()
    assert 0.05 < waited[0] < 2, "it was in the way, for a moment"
    with database.reading(older) as conn:
        assert migrate.current(conn) == migrate.newest()


def test_a_database_that_is_never_free_is_left_as_it_is(older: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "_TRIES", 2)
    with database.reading(older) as conn:
        conn.execute(text("SELECT count(*) FROM capi_event"))
        with pytest.raises(StoreError, match=r"is busy: .* nothing was changed; run `capi-console migrate` again"):
            migrate.migrate(older)
        assert migrate.current(conn) == "0006"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_cases_of_the_version_before_are_kept(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """0003 makes the table of cases anew; an open case stays open, a closed one closed."""
    url = f"sqlite:///{tmp_path / 'old.db'}" if kind == "sqlite" else request.getfixturevalue("empty_postgres_url")
    engine = database.open_engine(url)
    with database.writing(engine) as conn:
        platform.ensure(conn)
        command.upgrade(migrate.config(conn), "0002")
        conn.execute(
            text(
                "INSERT INTO capi_case (user_id, fingerprint, state, failure, words, made_at, done_at) VALUES"
                " ('u1', 'fp_1', 'made', 'token_dead', 'gone', '2026-11-01 10:00:00', NULL),"
                " ('u1', 'fp_1', 'done', 'token_dead', NULL, '2026-10-01 10:00:00', '2026-10-02 10:00:00')"
            )
        )
    migrate.migrate(engine)
    with database.reading(engine) as conn:
        rows = conn.execute(select(capi_case).order_by(capi_case.c.id)).all()
    assert [(row.state, row.words, row.made_at.day, row.done_at is None, row.reminders) for row in rows] == [
        ("made", "gone", 1, True, 0),
        ("done", None, 1, False, 0),
    ]
    with pytest.raises(DBAPIError), database.writing(engine) as conn:  # one open case for a token, still
        conn.execute(capi_case.insert().values({**rows[0]._mapping, "id": 99}))
    engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_was_sent_before_hours_were_counted_is_counted(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """0004 tells of each request how many of its events had waited for a refresh."""
    url = f"sqlite:///{tmp_path / 'old.db'}" if kind == "sqlite" else request.getfixturevalue("empty_postgres_url")
    engine = database.open_engine(url)
    at = "'2026-11-01 10:00:00+00'" if kind == "postgresql" else "'2026-11-01 10:00:00.000000'"
    with database.writing(engine) as conn:
        platform.ensure(conn)
        command.upgrade(migrate.config(conn), "0003")
        for number in (1, 2):
            conn.execute(
                text(
                    "INSERT INTO capi_attempt (id, at, pixel_id, fingerprint, events, duration_ms)"
                    f" VALUES ({number}, {at}, '77', 'fp', 3, 5)"
                )
            )
        for id_, attempt, late in ((10, 1, True), (11, 1, True), (12, 1, False), (13, 2, False)):
            conn.execute(
                text(
                    "INSERT INTO capi_event (id, app_id, pixel_id, event_name, event_id, source, event_time,"
                    " received_at, deadline_at, state, attempt_id, delivered_at, after_refresh) VALUES"
                    f" ({id_}, 'a', '77', 'Lead', 'e{id_}', 'track', {at}, {at}, {at}, 'delivered', {attempt}, {at},"
                    f" {'true' if late else 'false'})"
                )
            )
    migrate.migrate(engine)
    upkeep.roll_up(engine, Policy(), now=datetime(2026, 11, 1, 11, 30, tzinfo=UTC))
    with database.reading(engine) as conn:
        late = list(conn.scalars(text("SELECT after_refresh FROM capi_attempt ORDER BY id")))
        counted = rollups.hours(conn, since=datetime(2026, 11, 1, tzinfo=UTC))
    assert late == [2, 0]
    assert counted[datetime(2026, 11, 1, 10, tzinfo=UTC)] == rollups.Counts(6, 2, 0, 2)
    engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("events", [0, 1])
def test_the_account_of_a_database_with_events_begins_two_days_later(
    kind: str, events: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """0008: what stands there already was not counted when it came in; an empty database is checked at once."""
    url = f"sqlite:///{tmp_path / 'old.db'}" if kind == "sqlite" else request.getfixturevalue("empty_postgres_url")
    engine = database.open_engine(url)
    at = "'2026-11-01 10:00:00+00'" if kind == "postgresql" else "'2026-11-01 10:00:00.000000'"
    with database.writing(engine) as conn:
        platform.ensure(conn)
        command.upgrade(migrate.config(conn), "0007")
        for id_ in range(events):
            conn.execute(
                text(
                    "INSERT INTO capi_event (id, app_id, pixel_id, event_name, event_id, source, event_time,"
                    " received_at, deadline_at, state) VALUES"
                    f" ({id_}, 'a', '77', 'Lead', 'e', 'track', {at}, {at}, {at}, 'delivered')"
                )
            )
    migrate.migrate(engine)
    with database.reading(engine) as conn:
        begins = ledger.begins(conn)
    assert (begins.year == 1) == (not events)
    if events:
        assert timedelta(days=1) < begins - datetime.now(UTC) <= timedelta(days=2)
    engine.dispose()
