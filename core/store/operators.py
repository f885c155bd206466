"""The keeper of operators: who may sign in at the console, and as what."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, exists, func, select, text, update

from core.errors import Conflict, NotFound
from core.store.database import insert_into
from core.store.schema import capi_operator

_O = capi_operator.c


def hold(conn: Connection) -> None:
    """Nobody else changes an operator until this transaction ends: the last admin is counted, then changed."""
    if conn.dialect.name == "postgresql":  # SQLite has one writer anyway
        conn.execute(text("LOCK TABLE capi_operator IN SHARE ROW EXCLUSIVE MODE"))


def any_exist(conn: Connection) -> bool:
    """Whether anybody was ever made an operator, disabled or not: from then on people sign in."""
    return bool(conn.scalar(select(exists().select_from(capi_operator))))


def add(conn: Connection, *, name: str, role: str, password: str, now: datetime) -> None:
    """A new operator; `password` is sealed already. Conflict when the name is taken."""
    statement = insert_into(conn, capi_operator).values(name=name, role=role, password=password, created_at=now)
    if conn.scalar(statement.on_conflict_do_nothing(index_elements=["name"]).returning(_O.id)) is None:
        raise Conflict(f"there is an operator {name} already")


def find(conn: Connection, name: str) -> Row[Any] | None:
    return conn.execute(select(capi_operator).where(_O.name == name)).first()


def get(conn: Connection, name: str) -> Row[Any]:
    """NotFound."""
    found = find(conn, name)
    if found is None:
        raise NotFound(f"there is no operator {name}")
    return found


def every(conn: Connection) -> list[Row[Any]]:
    return list(conn.execute(select(capi_operator).order_by(_O.name)))


def other_admins(conn: Connection, name: str) -> int:
    """Admins beside this one who may sign in."""
    others = select(func.count()).where(_O.role == "admin", _O.disabled_at.is_(None), _O.name != name)
    return int(conn.scalar(others) or 0)


def set_role(conn: Connection, name: str, role: str) -> None:
    _change(conn, name, role=role)


def set_password(conn: Connection, name: str, password: str) -> None:
    """`password` is sealed already."""
    _change(conn, name, password=password)


def disable(conn: Connection, name: str, *, now: datetime) -> None:
    _change(conn, name, disabled_at=now)


def enable(conn: Connection, name: str) -> None:
    _change(conn, name, disabled_at=None)


def signed_in(conn: Connection, name: str, *, now: datetime) -> None:
    _change(conn, name, signed_in_at=now)


def _change(conn: Connection, name: str, **values: object) -> None:
    if conn.execute(update(capi_operator).where(_O.name == name).values(**values)).rowcount != 1:
        raise NotFound(f"there is no operator {name}")
