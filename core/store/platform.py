"""The shop platform's own tables: made on the embedded default, checked everywhere, otherwise left alone."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from sqlalchemy import Column, Connection, Engine, Table, inspect

from core.errors import SchemaError
from core.store.database import is_embedded
from core.store.platform_tables import OPTIONAL_COLUMNS, platform

# Written into the head of a SQLite file whose platform tables we made (https://www.sqlite.org/pragma.html#pragma_application_id).
_OURS = int.from_bytes(b"CAPI")
_columns: WeakKeyDictionary[Engine, dict[str, frozenset[str]]] = WeakKeyDictionary()


def ensure(conn: Connection) -> None:
    """Make the platform's tables where none of them exists; SchemaError when they lack what we need."""
    found = set(inspect(conn).get_table_names())
    wanted = set(platform.tables)
    if not found & wanted:
        platform.create_all(conn)
        if is_embedded(conn.engine):
            conn.exec_driver_sql(f"PRAGMA application_id={_OURS}")
        return
    problems = [problem for table in platform.sorted_tables for problem in _missing(conn, table, found)]
    if problems:
        raise SchemaError("the platform's tables lack what is needed; run:\n" + "\n".join(problems))


def made_by_us(conn: Connection) -> bool:
    """Whether this is a SQLite file in which nobody but us makes and reads apps."""
    return is_embedded(conn.engine) and conn.exec_driver_sql("PRAGMA application_id").scalar() == _OURS


def _missing(conn: Connection, table: Table, found: set[str]) -> list[str]:
    if table.name not in found:
        return [f'-- table "{table.name}" is missing: is DATABASE_URL the platform\'s database?']
    have = {column["name"] for column in inspect(conn).get_columns(table.name)}
    return [
        f'ALTER TABLE "{table.name}" ADD COLUMN "{column.name}" {_sql_type(conn, column)};'
        for column in table.columns
        if column.name not in have and (table.name, column.name) not in OPTIONAL_COLUMNS
    ]


def _sql_type(conn: Connection, column: Column[object]) -> str:
    return column.type.compile(conn.dialect)


def has_column(conn: Connection, table: str, column: str) -> bool:
    """Whether an optional column exists in this database (asked once a process)."""
    known = _columns.setdefault(conn.engine, {})
    if table not in known:
        known[table] = frozenset(found["name"] for found in inspect(conn).get_columns(table))
    return column in known[table]
