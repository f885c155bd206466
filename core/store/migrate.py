"""Migrations: by themselves on the embedded default, by `capi-console migrate` elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from core.errors import SchemaError, StoreError
from core.secret import Secret
from core.store import platform, rekey
from core.store.database import is_embedded, reading, shown, writing

_FOLDER = Path(__file__).parent / "migrations"
VERSION_TABLE = "capi_alembic_version"
# One migration at a time; the number is ours alone.
_ADVISORY_LOCK = 7_264_190_002


def config(conn: Connection | None = None) -> Config:
    settings = Config()
    settings.set_main_option("script_location", str(_FOLDER))
    settings.attributes["connection"] = conn
    return settings


def current(conn: Connection) -> str | None:
    """The revision this database is at; None before the first."""
    return MigrationContext.configure(conn, opts={"version_table": VERSION_TABLE}).get_current_revision()


def newest() -> str:
    return str(ScriptDirectory.from_config(config()).get_current_head())


def serves(at: str | None) -> bool:
    """Whether this program can work on a database at this revision.

    One that it has never heard of was made by a newer program: migrations keep what the version before them uses, so
    that machines are brought up to date one after the other while the others go on.
    """
    known = {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}
    return at == newest() or (at is not None and at not in known)


def migrate(engine: Engine) -> None:
    """Bring the database to the newest revision, in one transaction."""
    with connecting(engine), writing(engine) as conn:
        if not is_embedded(engine):
            conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        platform.ensure(conn)
        command.upgrade(config(conn), "head")


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
