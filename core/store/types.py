"""Column types: moments that are always aware UTC. The one that stores tokens is in `core.store.sealing`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeDecorator, TypeEngine

from core.clock import as_utc, from_unix


class Moment(TypeDecorator[datetime]):
    """An aware UTC datetime; `timestamptz` on PostgreSQL, UTC text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment must be aware")
        utc = as_utc(value)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else as_utc(value)


class PlatformMoment(TypeDecorator[datetime]):
    """A moment in the platform's tables: naive UTC `timestamp(3)`, as Prisma makes it.

    On SQLite Prisma writes milliseconds since 1970, SQL written by hand writes text: both are read.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return postgresql.TIMESTAMP(precision=3, timezone=False)  # type_descriptor() would drop the precision
        return dialect.type_descriptor(_LooseDateTime())  # type: ignore[no-untyped-call]

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        naive = as_utc(value).replace(tzinfo=None)
        naive = naive.replace(microsecond=naive.microsecond // 1000 * 1000)
        return naive if dialect.name == "postgresql" else naive.isoformat(sep=" ", timespec="milliseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None or value == "":
            return None
        if isinstance(value, int | float):
            return from_unix(value / 1000)
        return as_utc(value if isinstance(value, datetime) else datetime.fromisoformat(value))


class _LooseDateTime(sqlite.DATETIME):
    """SQLite's DATETIME column that hands its value on as it is stored."""

    def bind_processor(self, dialect: Dialect) -> None:  # noqa: ARG002
        return None

    def result_processor(self, dialect: Dialect, coltype: object) -> None:  # noqa: ARG002
        return None
