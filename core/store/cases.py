"""The keeper of reconnect cases: one open case for each token that only its owner can mend, and each user who holds it.

    made ──send──► sent ──open──► opened ──close──► done      (close ends a case in any state)
    sent, opened ──expire──► expired ──send──► sent           (a new link, which ends the one before)

A case is open until it is done. `opened` says that somebody pressed the button, never that a page was looked at:
mail programs look at every link.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, literal, select, true, update

from core.errors import Conflict
from core.store.database import insert_into
from core.store.schema import capi_case, capi_refresh

# verb → (states it starts from, state it leads to)
MOVES: dict[str, tuple[tuple[str, ...], str]] = {
    "send": (("made", "sent", "opened", "expired"), "sent"),
    "open": (("sent", "opened"), "opened"),
    "expire": (("sent", "opened"), "expired"),
    "close": (("made", "sent", "opened", "expired"), "done"),
}
STATES = ("made", "sent", "opened", "expired", "done")

# A case of a token that works again by Meta's word is opened again when the token is refused within this time.
REOPENS_FOR = timedelta(days=1)

_NO_LOGIN: dict[str, Any] = {"login_hash": None, "login_ends_at": None}


def open_(conn: Connection, fingerprint: str, *, user_id: str, failure: str, words: str, now: datetime) -> bool:
    """Open a case; False when this user has one for this token already.

    One that was closed within a day because the token seemed to work is opened again: the link that is out stays good.
    """
    if _reopen(conn, fingerprint, user_id, failure, words, now):
        return True
    row = {"user_id": user_id, "fingerprint": fingerprint, "failure": failure, "words": words}
    new = insert_into(conn, capi_case).values(**row, state="made", made_at=now)
    return conn.scalar(new.on_conflict_do_nothing().returning(capi_case.c.id)) is not None


def _reopen(conn: Connection, fingerprint: str, user_id: str, failure: str, words: str, now: datetime) -> bool:
    c, r = capi_case.c, capi_refresh.c
    last = select(capi_case).where(c.fingerprint == fingerprint, c.user_id == user_id).order_by(c.id.desc()).limit(1)
    row = conn.execute(last).first()
    if row is None or row.done_at is None or row.done_at <= now - REOPENS_FOR:
        return False
    # A link works once: a case that a login has ended stays done.
    login = (r.outcome == "reconnected") & (r.started_at >= row.made_at)
    its = (r.fingerprint == fingerprint) | (r.new_fingerprint == fingerprint)
    if conn.scalar(select(r.id).where(its, login).limit(1)) is not None:
        return False
    state = "made"
    if row.link_ends_at is not None:
        state = "expired" if row.link_ends_at <= now else "opened" if row.opened_at else "sent"
    again = {"state": state, "done_at": None, "failure": failure, "words": words}
    mine = update(capi_case).where(c.id == row.id, c.done_at.is_not(None))
    return conn.execute(mine.values(**again)).rowcount == 1


def get(conn: Connection, case_id: int) -> Row[Any] | None:
    return conn.execute(select(capi_case).where(capi_case.c.id == case_id)).first()


def open_of(conn: Connection, fingerprint: str, user_id: str) -> Row[Any] | None:
    """This user's open case of this token."""
    c = capi_case.c
    mine = select(capi_case).where(c.fingerprint == fingerprint, c.user_id == user_id)
    return conn.execute(mine.where(c.done_at.is_(None))).first()


def send(
    conn: Connection, case_id: int, *, nonce: str, ends_at: datetime, remind_at: datetime | None, by: str, now: datetime
) -> None:
    """A new link was taken: the one before, and a login that was begun with it, count no more. Conflict when done."""
    sent: dict[str, Any] = {"nonce": nonce, "sent_at": now, "sent_by": by, "link_ends_at": ends_at}
    _move(conn, "send", case_id, **sent, remind_at=remind_at, reminders=0, **_NO_LOGIN)


def reminded(conn: Connection, case_id: int, *, next_at: datetime | None) -> None:
    """The merchant was asked once more with the same link; Conflict when no link is out."""
    c = capi_case.c
    out = update(capi_case).where(c.id == case_id, c.state.in_(("sent", "opened")))
    _one(conn.execute(out.values(remind_at=next_at, reminders=c.reminders + 1)).rowcount)


def begin(conn: Connection, case_id: int, *, nonce: str, login_hash: str, ends_at: datetime, now: datetime) -> None:
    """Somebody pressed the button: one login may come back until `ends_at`, and it ends the one begun before.

    Conflict when the case is done, or the link is over or was replaced.
    """
    c = capi_case.c
    first = func.coalesce(c.opened_at, literal(now, c.opened_at.type))
    login: dict[str, Any] = {"login_hash": login_hash, "login_ends_at": ends_at}
    _move(conn, "open", case_id, where=(c.nonce == nonce) & (c.link_ends_at > now), opened_at=first, **login)


def take_login(conn: Connection, case_id: int, *, login_hash: str, now: datetime) -> bool:
    """Use up a login that came back: True once, in time, and only while the case is open."""
    c = capi_case.c
    mine = update(capi_case).where(c.id == case_id, c.login_hash == login_hash, c.login_ends_at > now)
    alive = mine.where(c.done_at.is_(None), c.link_ends_at > now)
    return conn.execute(alive.values(**_NO_LOGIN)).rowcount == 1


def refuse(
    conn: Connection, case_id: int, *, word: str, words: str | None, now: datetime, user: str | None = None
) -> None:
    """Why the last login was not taken; the link stays usable. A case that is done meanwhile keeps no complaint.

    `user`: the Meta user who logged in, where it is another than the one before.
    """
    mine = update(capi_case).where(capi_case.c.id == case_id, capi_case.c.done_at.is_(None))
    conn.execute(mine.values(refused=word, refused_words=words, refused_user=user, refused_at=now))


def accept_other(conn: Connection, case_id: int, user: str) -> None:
    """The Meta user who was refused last may connect, and no other; Conflict when it is not this one or it is done."""
    c = capi_case.c
    mine = update(capi_case).where(c.id == case_id, c.done_at.is_(None), c.refused_user == user)
    if conn.execute(mine.values(accepted_user=user)).rowcount != 1:
        raise Conflict("this case is done, or its last login was not refused for this Meta user: look at it again")


def close(conn: Connection, fingerprint: str, *, now: datetime, still: Collection[str] = ()) -> None:
    """The token was mended, or replaced but for the users who hold it `still`: their cases stay open."""
    c = capi_case.c
    origins, state = MOVES["close"]
    opened = update(capi_case).where(c.fingerprint == fingerprint, c.done_at.is_(None), c.state.in_(origins))
    opened = opened.where(c.user_id.not_in(still)) if still else opened
    conn.execute(opened.values(state=state, done_at=now, **_NO_LOGIN))


def expire(conn: Connection, *, now: datetime) -> int:
    """Cases whose link is over and was not used; how many. They stay open for a new link."""
    c = capi_case.c
    origins, state = MOVES["expire"]
    over = update(capi_case).where(c.state.in_(origins), c.link_ends_at <= now, c.done_at.is_(None))
    return conn.execute(over.values(state=state, remind_at=None, **_NO_LOGIN)).rowcount


def _move(
    conn: Connection, verb: str, case_id: int, *, where: ColumnElement[bool] | None = None, **changes: Any
) -> None:
    """Move an open case by one of MOVES; Conflict when it stands elsewhere."""
    origins, state = MOVES[verb]
    c = capi_case.c
    mine = update(capi_case).where(c.id == case_id, c.state.in_(origins), c.done_at.is_(None))
    _one(conn.execute(mine.where(true() if where is None else where).values(state=state, **changes)).rowcount)


def _one(changed: int) -> None:
    if changed != 1:
        raise Conflict("this case is done, or its link is over or was replaced")
