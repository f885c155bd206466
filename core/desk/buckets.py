"""Moments counted by hour or day, in UTC, in both databases' own way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, String, cast, func

_FORMS = {"hour": (13, "YYYY-MM-DD HH24"), "day": (10, "YYYY-MM-DD")}


def bucket(conn: Connection, at: ColumnElement[Any], size: Literal["hour", "day"]) -> ColumnElement[str]:
    """The UTC hour or day of a column of ours, as text that `opened` reads."""
    letters, form = _FORMS[size]
    if conn.dialect.name == "postgresql":
        return func.to_char(func.timezone("UTC", at), form)
    return func.substr(cast(at, String), 1, letters)


def opened(text: str) -> datetime:
    """The moment a bucket begins."""
    return datetime.fromisoformat(text if len(text) == 10 else f"{text}:00").replace(tzinfo=UTC)
