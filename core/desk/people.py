"""Who may sign in at the console, and orders about them. There is always one admin at least; where the accounts kept
elsewhere are away and nobody has a password, the shell gives one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row

from core.desk.operators import ROLES, Operator
from core.errors import BadInput, Conflict, Refused
from core.secret import Secret
from core.services import passwords, sign_in
from core.store import audit, operators, sessions
from core.store.database import reading, writing

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
# Names that stand in the audit trail for what is no operator.
_TAKEN: Final = frozenset({sign_in.LOCAL.name, "upkeep", "console", "worker", "merchant", "shopify", "api"})


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """One operator. `locked_until`: too many wrong passwords, none is taken before; without a password they sign in
    with an account kept elsewhere only."""

    name: str
    role: str
    created_at: datetime
    signed_in_at: datetime | None
    disabled_at: datetime | None
    locked_until: datetime | None
    has_password: bool

    @property
    def state(self) -> str:
        if self.disabled_at is not None:
            return "disabled"
        return "locked" if self.locked_until else "active"


def operator_rows(conn: Connection, *, now: datetime) -> list[OperatorRow]:
    """Every operator by name."""
    return [
        OperatorRow(
            row.name,
            row.role,
            row.created_at,
            row.signed_in_at,
            row.disabled_at,
            sign_in.locked_until(conn, row.name, now=now),
            row.password != passwords.NONE,
        )
        for row in operators.every(conn)
    ]


def add_operator(
    engine: Engine,
    name: str,
    *,
    role: str,
    password: str | None,
    by: Operator,
    reason: str | None = None,
    now: datetime,
) -> None:
    """A new operator; the first one is an admin. Without a password they sign in with an account kept elsewhere.

    BadInput, Conflict when the name is taken, Refused.
    """
    by.must("add_operator")
    name = name.strip().lower()
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise BadInput("the name cannot be taken: letters a to z, digits and . _ @ + - make one, such as ann")
    sealed = _sealed(password, name)
    with writing(engine) as conn:
        operators.hold(conn)
        if _role(role) != "admin" and not operators.other_admins(conn, name):
            raise Refused("the first operator must be an admin: somebody has to look after the others")
        operators.add(conn, name=name, role=role, password=sealed, now=now)
        _audit(conn, "add_operator", f"{name} ({role})", by=by, reason=reason, now=now)


def set_operator_role(
    engine: Engine, name: str, *, role: str, by: Operator, reason: str | None = None, now: datetime
) -> None:
    """Another role: they sign in once more, so that no open page goes on with the old one. NotFound, BadInput, Refused
    for the last admin."""
    by.must("set_operator_role")
    _role(role)
    with writing(engine) as conn:
        found = _changed(conn, name, loses_admin=role != "admin")
        operators.set_role(conn, found.name, role)
        sessions.end_all(conn, found.id)
        _audit(conn, "set_operator_role", f"{found.name} ({role})", by=by, reason=reason, now=now)


def set_operator_password(
    engine: Engine, name: str, *, password: str | None, by: Operator, reason: str | None = None, now: datetime
) -> None:
    """Another password, or none: all sessions of this operator end, and tries that failed are forgotten.

    NotFound, BadInput.
    """
    by.must("set_operator_password")
    sealed = _sealed(password, name.strip().lower())
    with writing(engine) as conn:
        found = _changed(conn, name, loses_admin=False)
        operators.set_password(conn, found.name, sealed)
        sessions.end_all(conn, found.id)
        sign_in.unlock(conn, found.name)
        _audit(
            conn,
            "set_operator_password",
            found.name + (" (none)" if password is None else ""),
            by=by,
            reason=reason,
            now=now,
        )


def change_password(engine: Engine, *, current: str, password: str, by: Operator, now: datetime) -> None:
    """One's own password, by who knows the one until now: all sessions end. Refused, counted as a try to sign in
    unless there is none to change; BadInput."""
    by.must("change_password")
    with reading(engine) as conn:
        found = operators.find(conn, by.name)
        if found is not None and found.password == passwords.NONE:
            raise Refused("you sign in without a password: there is none to change")
    sealed = _sealed(password, by.name)
    proven = sign_in.prove(engine, by.name, Secret(current) if current else None, now=now)
    with writing(engine) as conn:
        found = _changed(conn, by.name, loses_admin=False)
        if found.password != proven.password or found.disabled_at is not None:
            raise sign_in.WrongPassword()  # changed while we were counting
        operators.set_password(conn, found.name, sealed)
        sessions.end_all(conn, found.id)
        _audit(conn, "change_password", found.name, by=by, reason=None, now=now)


def disable_operator(engine: Engine, name: str, *, by: Operator, reason: str | None = None, now: datetime) -> None:
    """Nobody signs in by this name, and its sessions end; NotFound, Conflict when it is so already, Refused for the
    last admin."""
    by.must("disable_operator")
    with writing(engine) as conn:
        found = _changed(conn, name, loses_admin=True)
        if found.disabled_at is not None:
            raise Conflict(f"{found.name} is disabled already")
        operators.disable(conn, found.name, now=now)
        sessions.end_all(conn, found.id)
        _audit(conn, "disable_operator", found.name, by=by, reason=reason, now=now)


def enable_operator(engine: Engine, name: str, *, by: Operator, reason: str | None = None, now: datetime) -> None:
    """Let somebody in again: who was disabled, or has tried too often. NotFound."""
    by.must("enable_operator")
    with writing(engine) as conn:
        found = _changed(conn, name, loses_admin=False)
        operators.enable(conn, found.name)
        sign_in.unlock(conn, found.name)
        _audit(conn, "enable_operator", found.name, by=by, reason=reason, now=now)


def _changed(conn: Connection, name: str, *, loses_admin: bool) -> Row[Any]:
    """The operator who is about to be changed, with nobody else changing one meanwhile."""
    operators.hold(conn)
    found = operators.get(conn, name.strip().lower())
    is_admin = found.role == "admin" and found.disabled_at is None
    if loses_admin and is_admin and not operators.other_admins(conn, found.name):
        raise Refused(f"{found.name} is the last admin: make another one first")
    return found


def _role(role: str) -> str:
    if role not in ROLES:
        raise BadInput(f"there is no role {role}: {', '.join(ROLES)}")
    return role


def _sealed(password: str | None, name: str) -> str:
    if password is None:
        if "@" not in name:
            raise BadInput("without a password the name must be the e-mail address of an account kept elsewhere")
        return passwords.NONE
    taken: Secret = passwords.checked(password, name=name)
    return passwords.seal(taken)


def _audit(conn: Connection, action: str, subject: str, *, by: Operator, reason: str | None, now: datetime) -> None:
    words = (reason or "").strip() or None
    audit.write(conn, by=by.name, action=action, subject=f"operator {subject}", count=1, reason=words, now=now)
