"""What must not stay readable in an embedded default's file is overwritten where it is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from core.store.database import is_embedded


@contextmanager
def wiping(conn: Connection) -> Iterator[None]:
    """On SQLite, overwrite what updates leave behind in the file; pages that come free are not, unless it is asked for.

    https://www.sqlite.org/pragma.html#pragma_secure_delete; PostgreSQL frees what was replaced, it does not wipe it.
    """
    if not is_embedded(conn.engine):
        yield
        return
    conn.exec_driver_sql("PRAGMA secure_delete=ON").all()
    yield
    conn.exec_driver_sql("PRAGMA secure_delete=FAST").all()  # as every connection has it
