"""Reconnect cases for people: the list, the link and message for a merchant, and letting another user connect."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, exists, func, select

from core.desk import case_sql, case_words
from core.desk.operators import Operator
from core.errors import Conflict, NotFound, Refused
from core.secret import Secret
from core.services.links import Link, Links, new_nonce
from core.services.reconnect import LINK_DAYS, base_url
from core.settings import Settings
from core.store import audit
from core.store import cases as keeper
from core.store.database import writing
from core.store.platform_tables import app
from core.store.schema import capi_app, capi_case

REMIND_AFTER = timedelta(days=3)
PATH = "/reconnect/"


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One token that only its owner can mend. `waiting`: events that wait for it; `first_lost_at`: the first end.

    `refused_user`: the other Meta user who logged in last and was refused for that; `accepted_user`: the one who may.
    """

    id: int
    state: str
    user_id: str
    email: str
    shops: tuple[str, ...]
    apps: int
    fingerprint: str
    failure: str
    words: str | None
    made_at: datetime
    sent_at: datetime | None
    sent_by: str | None
    link_ends_at: datetime | None
    remind_at: datetime | None
    reminders: int
    opened_at: datetime | None
    refused: str | None
    refused_words: str | None
    refused_at: datetime | None
    refused_user: str | None
    accepted_user: str | None
    done_at: datetime | None
    waiting: int
    first_lost_at: datetime | None
    remind_due: bool = False

    @property
    def other_user_ok(self) -> bool:
        """Whether the Meta user who was refused last may connect by now."""
        return self.refused_user is not None and self.refused_user == self.accepted_user


@dataclass(frozen=True, slots=True)
class Invitation:
    """What is sent to a merchant. The link opens the way to their token's place: it is shown, never logged."""

    link: str = field(repr=False)
    message: str = field(repr=False)
    subject: str
    ends_at: datetime


def cases(
    conn: Connection, *, now: datetime, open_only: bool = True, search: str | None = None, limit: int = 200
) -> list[CaseRow]:
    """Cases, those whose events are lost first before the others, then the newest."""
    waits = case_sql.waiting().subquery()
    wanted = case_sql.found(case_sql.every(waits), search)
    if open_only:
        wanted = wanted.where(capi_case.c.done_at.is_(None))
    first = (waits.c.lost_at.is_(None), waits.c.lost_at, capi_case.c.id.desc())
    return _rows(conn, wanted.order_by(capi_case.c.done_at.is_not(None), *first).limit(limit), now)


def case(conn: Connection, case_id: int, *, now: datetime) -> CaseRow:
    """NotFound."""
    found = _rows(conn, case_sql.every(case_sql.waiting().subquery()).where(capi_case.c.id == case_id), now)
    if not found:
        raise NotFound(f"there is no case {case_id}")
    return found[0]


def case_of_app(conn: Connection, app_id: str, *, now: datetime) -> CaseRow:
    """The open case of the token that this app (`App.id`) holds; NotFound."""
    c = capi_case.c
    mine = (capi_app.c.fingerprint == c.fingerprint) & (app.c.id == app_id) & (app.c.userId == c.user_id)
    held = exists().where(capi_app.c.app_id == app.c.id, mine)
    wanted = case_sql.every(case_sql.waiting().subquery()).where(c.done_at.is_(None), held)
    found = _rows(conn, wanted, now)
    if not found:
        raise NotFound("this app's token has no open case: nothing is to be connected again")
    return found[0]


def case_counts(conn: Connection) -> dict[str, int]:
    """How many cases stand in each state, zero included."""
    counted = conn.execute(select(capi_case.c.state, func.count()).group_by(capi_case.c.state))
    found = {row[0]: row[1] for row in counted}
    return {state: found.get(state, 0) for state in keeper.STATES}


def make_link(
    engine: Engine,
    settings: Settings,
    case_id: int,
    *,
    by: Operator,
    now: datetime,
    reason: str | None = None,
    shown: CaseRow | None = None,
) -> Invitation:
    """A new link and its message. It ends the link before, works for seven days and once; the case is then `sent`.

    `shown`: the case as it stood on the screen when it was ordered. Pressed twice, or by two people at once, it is the
    link that the first of them made.

    NotFound, Conflict when the case is done, Refused without an address that a merchant can reach.
    """
    by.must("make_link")
    base, secret = _public(settings)
    nonce = new_nonce()
    ends_at = (now + LINK_DAYS).replace(microsecond=0)
    with writing(engine) as conn:
        row = _open(conn, case_id, now)
        if (made := _pressed_before(conn, row, shown)) is not None:
            return _invitation(base, secret, row, made, again=False)
        remind_at = _remind_at(now, ends_at)
        keeper.send(conn, case_id, nonce=nonce, ends_at=ends_at, remind_at=remind_at, by=by.name, now=now)
        audit.write(conn, by=by.name, action="make_link", subject=_subject(row), count=1, reason=reason, now=now)
    return _invitation(base, secret, row, Link(case_id, ends_at, nonce), again=False)


def remind(
    engine: Engine,
    settings: Settings,
    case_id: int,
    *,
    by: Operator,
    now: datetime,
    reason: str | None = None,
    shown: CaseRow | None = None,
) -> Invitation:
    """The link that is out once more, with a reminder's message; the next reminder is due three days later.

    Refused when no link is out: `make_link` makes one.
    """
    by.must("make_link")
    base, secret = _public(settings)
    with writing(engine) as conn:
        row = _open(conn, case_id, now)
        if (told := _pressed_before(conn, row, shown)) is not None:
            return _invitation(base, secret, row, told, again=True)
        stored = keeper.get(conn, case_id)
        if stored is None or stored.nonce is None or stored.link_ends_at <= now or row.state == "expired":
            raise Refused(f"case {case_id} has no link that works: make a new one")
        keeper.reminded(conn, case_id, next_at=_remind_at(now, stored.link_ends_at))
        audit.write(conn, by=by.name, action="remind", subject=_subject(row), count=1, reason=reason, now=now)
    return _invitation(base, secret, row, Link(case_id, stored.link_ends_at, stored.nonce), again=True)


def accept_other_user(
    engine: Engine, case_id: int, *, user: str, by: Operator, now: datetime, reason: str | None = None
) -> None:
    """Let this Meta user, whose login was refused, connect in place of the one before. No other user may, then.

    NotFound; Conflict when the case is done, or another login came meanwhile than the one that was looked at.
    """
    by.must("accept_other_user")
    with writing(engine) as conn:
        row = _open(conn, case_id, now)
        if row.refused_user != user:
            last = f"the last one was Meta user {row.refused_user}" if row.refused_user else "no other user's was"
            raise Conflict(f"case {case_id}: no login of Meta user {user} was refused last, {last}: look at it again")
        keeper.accept_other(conn, case_id, user)
        subject = f"{_subject(row)}: Meta user {user} ({row.refused_words})"
        audit.write(conn, by=by.name, action="accept_other_user", subject=subject, count=1, reason=reason, now=now)


def _public(settings: Settings) -> tuple[str, Secret]:
    settings.require("facebook_app_id", "facebook_app_secret")
    base = base_url(settings)
    if base is None:
        raise Refused("merchants cannot reach the endpoint: put its public address into CAPI_PUBLIC_URL first")
    assert settings.facebook_app_secret is not None
    return base, settings.facebook_app_secret


def _open(conn: Connection, case_id: int, now: datetime) -> CaseRow:
    row = case(conn, case_id, now=now)
    if row.done_at is not None:
        raise Conflict(f"case {case_id} is done: the merchant's apps hold a working token")
    return row


def _pressed_before(conn: Connection, row: CaseRow, shown: CaseRow | None) -> Link | None:
    """The link that is out, when it was made or told since the case was shown."""
    if shown is None or (row.sent_at, row.reminders) == (shown.sent_at, shown.reminders):
        return None
    stored = keeper.get(conn, row.id)
    return None if stored is None or stored.nonce is None else Link(row.id, stored.link_ends_at, stored.nonce)


def _remind_at(now: datetime, ends_at: datetime) -> datetime | None:
    """Not when the link would be over by then."""
    return now + REMIND_AFTER if now + REMIND_AFTER < ends_at else None


def _subject(row: CaseRow) -> str:
    return f"case {row.id} {row.fingerprint}"


def _invitation(base: str, secret: Secret, row: CaseRow, link: Link, *, again: bool) -> Invitation:
    address = f"{base}{PATH}{Links(secret).write(link)}"
    words = case_words.message(
        row.shops,
        failure=row.failure,
        link=address,
        ends_at=link.ends_at,
        waiting=row.waiting,
        lost_at=row.first_lost_at,
    )
    return Invitation(address, words, case_words.subject(row.shops, again=again), link.ends_at)


def _rows(conn: Connection, wanted: Select[Any], now: datetime) -> list[CaseRow]:
    rows = conn.execute(wanted).all()
    held = _shops(conn, {row.user_id for row in rows})
    return [_row(row, held, now) for row in rows]


def _shops(conn: Connection, user_ids: Collection[str]) -> dict[str, list[Any]]:
    """User → their apps with the token each holds."""
    columns = (app.c.userId, app.c.name, capi_app.c.fingerprint)
    theirs = select(*columns).join(capi_app, capi_app.c.app_id == app.c.id, isouter=True)
    found: dict[str, list[Any]] = {}
    for row in conn.execute(theirs.where(app.c.userId.in_(user_ids)).order_by(app.c.name, app.c.id)):
        found.setdefault(row.userId, []).append(row)
    return found


def _row(row: Row[Any], held: dict[str, list[Any]], now: datetime) -> CaseRow:
    theirs = held.get(row.user_id, [])
    holding = [one for one in theirs if one.fingerprint == row.fingerprint]
    names = dict.fromkeys(one.name for one in holding or theirs)
    own = {name: getattr(row, name) for name in CaseRow.__slots__ if name in capi_case.c}
    own |= {"remind_at": None} if row.done_at is not None else {}
    return CaseRow(
        **own,
        email=row.email or "",
        shops=tuple(names),
        apps=len(holding),
        waiting=row.waiting,
        first_lost_at=row.lost_at,
        remind_due=row.done_at is None and row.remind_at is not None and row.remind_at <= now,
    )
