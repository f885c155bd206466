"""Signing in at the console: who is there, for how long, and what happens to who guesses.

As long as nobody was ever made an operator there is nobody to ask for; the doors let only this very machine in then.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row

from core import hosts
from core.errors import Refused
from core.secret import Secret
from core.services import passwords
from core.services.roles import Operator
from core.store import audit, lockouts, operators, sessions
from core.store.database import reading, writing

log = logging.getLogger("sign-in")

IDLE, LONGEST = timedelta(minutes=30), timedelta(hours=12)
LOCAL: Final = Operator("local", "admin")
_TOUCHED_EACH = timedelta(minutes=1)


class WrongPassword(Refused):
    """Name and password do not belong together"""


class NoOperator(Refused):
    """There is nobody of that name who may sign in"""


class LockedOut(Refused):
    """Too many tries"""

    def __init__(self, until: datetime) -> None:
        super().__init__()
        self.until = until


@dataclass(frozen=True, slots=True)
class Present:
    """Somebody who is signed in. `seen_at`: when they last did something."""

    operator: Operator
    seen_at: datetime


def who(conn: Connection, cookie: str | None, *, now: datetime) -> Operator | None:
    """The operator behind a session's cookie; LOCAL while there are no operators; None: ask them to sign in."""
    found = present(conn, cookie, now=now)
    if found is not None:
        return found.operator
    return None if operators.any_exist(conn) else LOCAL


def present(conn: Connection, cookie: str | None, *, now: datetime) -> Present | None:
    """Who has this session; None when it has ended, or their account has."""
    found = sessions.find(conn, cookie) if cookie else None
    if found is None or now - found.seen_at >= IDLE or now - found.started_at >= LONGEST:
        return None
    return Present(Operator(found.name, found.role), found.seen_at)


def heard_of(engine: Engine, cookie: str, seen_at: datetime, *, now: datetime) -> None:
    """The person has done something: the session stays; written once a minute at most."""
    if now - seen_at >= _TOUCHED_EACH:
        with writing(engine) as conn:
            sessions.touch(conn, cookie, now=now)


def sign_in(engine: Engine, name: str, password: Secret | None, *, address: str, now: datetime) -> str:
    """A new session's cookie. WrongPassword, LockedOut: both say the same whether the name is anybody's or not."""
    name = name.strip().lower()
    ours, theirs = _subjects(name, address)
    known = _checked(engine, name, password, [theirs, ours], now=now)
    with writing(engine) as conn:
        again = operators.find(conn, name)
        if again is None or again.disabled_at is not None or again.password != known.password:
            raise WrongPassword()  # changed while we were counting
        lockouts.forgive(conn, [ours, theirs])
        return _opened(conn, again, how=None, now=now)


def sign_in_as(engine: Engine, name: str, *, how: str, now: datetime) -> str:
    """A new session's cookie for whom somebody else has proven to be `name`; `how` goes into the trail.

    NoOperator: the same whether there is none or they are disabled; nobody is made one by signing in.
    """
    with writing(engine) as conn:
        found = operators.find(conn, name)
        if found is None or found.disabled_at is not None:
            raise NoOperator()
        return _opened(conn, found, how=how, now=now)


def _opened(conn: Connection, operator: Row[Any], *, how: str | None, now: datetime) -> str:
    sessions.forget(conn, now - LONGEST)
    operators.signed_in(conn, operator.name, now=now)
    subject = f"operator {operator.name}"
    audit.write(conn, by=operator.name, action="sign_in", subject=subject, count=1, reason=how, now=now)
    return sessions.open_(conn, operator.id, now=now)


def prove(engine: Engine, name: str, password: Secret | None, *, now: datetime) -> Row[Any]:
    """Whoever is signed in says their password once more; the operator as it was then. WrongPassword, LockedOut: it is
    counted like a sign-in."""
    ours, _ = _subjects(name, "")
    known = _checked(engine, name, password, [ours], now=now)
    with writing(engine) as conn:
        lockouts.forgive(conn, [ours])
    return known


def _checked(engine: Engine, name: str, password: Secret | None, subjects: Sequence[str], *, now: datetime) -> Row[Any]:
    """The operator whose password this is; a try is counted against these subjects first."""
    with writing(engine) as conn:
        taken = lockouts.take(conn, subjects, now=now)
    if taken.locked_until is not None:
        raise LockedOut(taken.locked_until)
    with reading(engine) as conn:
        found = operators.find(conn, name)
    known = found if found is not None and found.disabled_at is None else None
    if not passwords.fits(password, None if known is None else known.password) or known is None:
        _refused(engine, taken.tries, name if found is not None else None, now=now)
        raise WrongPassword()
    return known


def sign_out(engine: Engine, cookie: str, *, now: datetime) -> None:
    """End a session; nothing when there is none."""
    with writing(engine) as conn:
        found = sessions.find(conn, cookie)
        if sessions.end(conn, cookie) and found is not None:
            subject = f"operator {found.name}"
            audit.write(conn, by=found.name, action="sign_out", subject=subject, count=1, reason=None, now=now)


def locked_until(conn: Connection, name: str, *, now: datetime) -> datetime | None:
    """Until when no try for this name is taken; None: it would be."""
    return lockouts.locked_until(conn, _subjects(name, "")[0], now=now)


def unlock(conn: Connection, name: str) -> None:
    """Forget the tries that were counted against a name."""
    lockouts.forgive(conn, [_subjects(name, "")[0]])


def _refused(engine: Engine, tries: int, name: str | None, *, now: datetime) -> None:
    """The trail says when tries begin to be locked out, not each try."""
    log.info("somebody could not sign in", extra={"tries": tries})
    if tries < lockouts.FREE:
        return
    subject = f"operator {name}" if name else "a name that is nobody's"
    with writing(engine) as conn:
        audit.write(conn, by="console", action="lock_sign_in", subject=subject, count=tries, reason=None, now=now)


def _subjects(name: str, address: str) -> tuple[str, str]:
    """(the name, the address) as they are counted: of IPv6 a whole /64, which is what one person gets."""
    try:
        theirs = hosts.household(ipaddress.ip_address(address))
    except ValueError:
        theirs = address
    return f"name {name}", f"address {theirs}"
