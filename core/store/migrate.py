"""Migrations: by themselves on the embedded default, by `capi-console migrate` elsewhere."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, column, inspect, select, table
from sqlalchemy.exc import OperationalError

from core.errors import SchemaError, StoreError
from core.secret import Secret
from core.store import platform, rekey
from core.store.database import is_embedded, reading, shown, writing

if TYPE_CHECKING:  # Alembic is for who migrates: endpoints and workers look only, and keep their memory small
    from alembic.config import Config

_FOLDER = Path(__file__).parent / "migrations"
VERSION_TABLE = "capi_alembic_version"
# One migration at a time; the number is ours alone.
_ADVISORY_LOCK = 7_264_190_002
# A migration waits for one table's users at most so long, in milliseconds: whoever comes meanwhile stands behind it.
# Less than PostgreSQL's `deadlock_timeout`, a second: where both wait for each other it gives way, not intake.
_LOCK_MS, _ALL_LOCKS_MS = 800, 2_000
_TRIES = 20
# What writers begin with comes first: once they are held, few are left that hold any of the others.
_FIRST = ("capi_pixel", "capi_token", "capi_app", "capi_job", "capi_alias", "capi_event", "capi_outbox")
# Locked out, in a deadlock, or told to stop waiting (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_BUSY = ("55P03", "40P01", "57014")


def config(conn: Connection | None = None) -> Config:
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", str(_FOLDER))
    settings.attributes["connection"] = conn
    return settings


def current(conn: Connection) -> str | None:
    """The revision this database is at; None before the first."""
    if not inspect(conn).has_table(VERSION_TABLE):
        return None
    at: str | None = conn.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))
    return at


@cache
def known() -> tuple[str, ...]:
    """The revisions that this program has heard of, the oldest first: a migration's file is named after its own."""
    return tuple(sorted(file.name.partition("_")[0] for file in (_FOLDER / "versions").glob("[0-9]*.py")))


def newest() -> str:
    return known()[-1]


def serves(at: str | None) -> bool:
    """Whether this program can work on a database at this revision.

    One that it has never heard of was made by a newer program: migrations keep what the version before them uses, so
    that machines are brought up to date one after the other while the others go on.
    """
    return at == newest() or (at is not None and at not in known())


def migrate(engine: Engine) -> None:
    """Bring the database to the newest revision, in one transaction; endpoints, workers and consoles may run.

    StoreError when it cannot be reached, or is in use for too long to be locked.
    """
    for _ in range(_TRIES):
        with connecting(engine):
            try:
                with writing(engine) as conn:
                    _upgrade(conn)
                return
            except OperationalError as error:
                if getattr(error.orig, "sqlstate", None) not in _BUSY:
                    raise
        time.sleep(random.uniform(0.2, 1.0))
    raise StoreError(
        f"the database {shown(engine.url)} is busy: somebody held its tables at each of {_TRIES} tries, and nothing "
        "was changed; run `capi-console migrate` again when less goes on, or end what reads or writes for long"
    )


def _upgrade(conn: Connection) -> None:
    if not is_embedded(conn.engine):
        conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        if current(conn) != newest():
            _lock_all(conn)
    platform.ensure(conn)
    from alembic import command

    command.upgrade(config(conn), "head")


def _lock_all(conn: Connection) -> None:
    """Every table of ours, at once and before anything is changed: a migration that took them one by one would meet
    those who write in the other order. Not shared, because a lock that grows later meets those who read."""
    found = [name for name in inspect(conn).get_table_names() if name.startswith("capi_") and name != VERSION_TABLE]
    order = sorted(found, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))
    conn.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_MS}")
    if order:
        conn.exec_driver_sql(f"SET LOCAL statement_timeout = {_ALL_LOCKS_MS}")
        conn.exec_driver_sql(f"LOCK TABLE {', '.join(order)} IN ACCESS EXCLUSIVE MODE")
        conn.exec_driver_sql("SET LOCAL statement_timeout = 0")


def prepare(engine: Engine, keys: Sequence[Secret] = ()) -> None:
    """What a process does first: migrate the embedded default, check any other database, take up its keys.

    StoreError when the database cannot be reached, SchemaError when it is not migrated, SettingsError when a key
    is missing that stored tokens are encrypted with.
    """
    check(engine)
    rekey.use(engine, keys)


def check(engine: Engine) -> None:
    """Migrate the embedded default, check any other database; StoreError, SchemaError."""
    with connecting(engine), reading(engine) as conn:
        at = current(conn)
    if serves(at):
        return
    if is_embedded(engine):
        migrate(engine)
    else:
        raise SchemaError(
            f"the database is at revision {at}, this program needs {newest()}: run `capi-console migrate`"
        )


class connecting:
    """Turn "cannot connect" into a StoreError that names the database without its password."""

    def __init__(self, engine: Engine) -> None:
        self.shown = shown(engine.url)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OperationalError):
            words = str(error.orig).strip().splitlines()[0]
            raise StoreError(
                f"the database {self.shown} cannot be used ({words}): check DATABASE_URL and the disk"
            ) from None
