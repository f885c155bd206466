"""Where a drill is played: a scratch database in a folder that goes away, the stand-in for Meta, and processes.

Never the configured database: a SQLite file of its own, or a PostgreSQL database that is given for this and is empty.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, text

from core.drills.meta import Meta, standing_in
from core.drills.nursery import Nursery, nursery
from core.drills.shops import Shops
from core.errors import Refused, SettingsError
from core.store import database, migrate
from core.store.database import reading

SQLITE = "sqlite"
_ANYTHING = """
    SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%'
    AND c.relkind IN ('r', 'p', 'v', 'm')
"""


@dataclass
class Stage:
    """`tell`: what is said to whoever waits."""

    engine: Engine
    url: str
    meta: Meta
    folder: Path
    shops: Shops
    nursery: Nursery
    tell: Callable[[str], None] = lambda _: None

    @property
    def database(self) -> str:
        return self.engine.dialect.name


@contextlib.contextmanager
def stage(
    given: str = SQLITE, *, configured: str | None = None, tell: Callable[[str], None] = lambda _: None
) -> Iterator[Stage]:
    """Set up, migrated, and taken down; what was written to a given database stays there.

    `given`: `sqlite`, or the URL of an empty PostgreSQL database. Refused when it is the `configured` one or holds
    anything, SettingsError when it is neither.
    """
    with tempfile.TemporaryDirectory(prefix="capi-drill-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        url = f"sqlite:///{folder / 'drill.db'}" if given == SQLITE else _checked(given, configured)
        engine = database.open_engine(url)
        try:
            migrate.migrate(engine)
            migrate.prepare(engine)
            with nursery() as born, standing_in(folder) as meta:
                yield Stage(engine, url, meta, folder, Shops(engine, meta.sandbox), born, tell)
        finally:
            engine.dispose()


def _checked(given: str, configured: str | None) -> str:
    if not given.startswith("postgres") or "://" not in given:
        raise SettingsError(
            "--database: give `sqlite`, which makes a file of its own, or the address of an empty PostgreSQL database: "
            "postgresql://USER:PASSWORD@HOST:5432/SCRATCH"
        )
    url = database.parse(given)
    if configured and url == database.parse(configured):
        raise Refused("--database is DATABASE_URL: a drill kills and floods, give it an empty database of its own")
    engine = database.open_engine(given, pool_size=1)
    try:
        with migrate.connecting(engine), reading(engine) as conn:
            found = conn.scalar(text(_ANYTHING))
    finally:
        engine.dispose()
    if found:
        raise Refused(f"{database.shown(url)} is in use ({found} tables): give an empty database of the drill's own")
    return given
