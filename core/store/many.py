"""Many new rows by one statement of the driver's own.

Intake writes every event of every shop: SQLAlchemy's work on each row would cost more there than the database's.
Columns go in, one sequence for each: PostgreSQL takes them as arrays, SQLite as the rows that they make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Numeric, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from core.clock import as_utc
from core.store.types import Moment

Column = Sequence[Any]


def insert_many(conn: Connection, table: Table, columns: Mapping[str, Column], *, then: str = "") -> None:
    """Insert the rows that these columns make, in their order; `then` ends the statement (ON CONFLICT …)."""
    embedded = conn.dialect.name == "sqlite"
    values = [
        _converted(table.c[name].type, column, _SQLITE if embedded else _POSTGRESQL) for name, column in columns.items()
    ]
    if embedded:
        conn.exec_driver_sql(_marks(table, tuple(columns), then), list(zip(*values, strict=True)))
    else:
        conn.exec_driver_sql(_arrays(table, tuple(columns), then), tuple(values))


@lru_cache(maxsize=64)
def _arrays(table: Table, names: tuple[str, ...], then: str) -> str:
    # Binary (%b): as text each value would be searched for quotes, and bytes be written out in hexadecimal digits.
    arrays = ", ".join(f"%b::{table.c[name].type.compile(dialect=_DIALECT)}[]" for name in names)
    return f"INSERT INTO {table.name} ({', '.join(names)}) SELECT * FROM unnest({arrays}) {then}"


@lru_cache(maxsize=64)
def _marks(table: Table, names: tuple[str, ...], then: str) -> str:
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) {then}"


def _converted(kind: TypeEngine[Any], column: Column, converters: Mapping[type, Callable[[Any], Any]]) -> list[Any]:
    convert = converters.get(type(kind))
    if convert is None:
        return list(column)
    # What comes in together has few different moments and prices.
    known = {value: None if value is None else convert(value) for value in set(column)}
    return [known[value] for value in column]


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a moment must be aware")
    return value


def as_stored(value: datetime) -> str:
    """A moment as SQLAlchemy stores it on SQLite, and compares it."""
    return as_utc(_aware(value)).isoformat(" ", "microseconds")[:26]


_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_POSTGRESQL: dict[type, Callable[[Any], Any]] = {Moment: _aware}
_SQLITE: dict[type, Callable[[Any], Any]] = {Moment: as_stored, Numeric: float}
