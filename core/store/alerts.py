"""The keeper of alerts and of what was noticed about them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Exists, Row, delete, exists, func, select, text, update

from core.store.database import chunks, insert_into
from core.store.schema import capi_alert, capi_message, capi_notice

# Alerts written in one statement.
CHUNK = 500
OPEN = capi_alert.c.closed_at.is_(None)


@dataclass(frozen=True, slots=True)
class NewAlert:
    """Something wrong, as the scan found it. `stage`: days or hours left, less is worse."""

    kind: str
    subject: str
    stage: int
    title: str
    opened_at: datetime


def open_alerts(conn: Connection, kinds: Collection[str] | None = None) -> list[Row[Any]]:
    """Every open alert (of these kinds), oldest first."""
    a = capi_alert.c
    wanted = select(capi_alert).where(OPEN).order_by(a.opened_at, a.id)
    return list(conn.execute(wanted if kinds is None else wanted.where(a.kind.in_(kinds))))


def is_open(kind: str, subject: ColumnElement[str] | str) -> Exists:
    """Whether an alert of this kind is open about this subject."""
    return exists().where(capi_alert.c.kind == kind, capi_alert.c.subject == subject, OPEN)


def history(conn: Connection, *, limit: int) -> list[Row[Any]]:
    """The latest alerts, open and closed, newest first."""
    a = capi_alert.c
    return list(conn.execute(select(capi_alert).order_by(a.opened_at.desc(), a.id.desc()).limit(limit)))


def since(conn: Connection, moment: datetime, *, limit: int) -> list[Row[Any]]:
    """What is open, and what was opened since then, newest first; with `notice`, by which it was told first."""
    a, n = capi_alert.c, capi_notice.c
    first = select(func.min(n.id)).where(n.alert_id == a.id).scalar_subquery().label("notice")
    wanted = select(capi_alert, first).where(OPEN | (a.opened_at >= moment))
    return list(conn.execute(wanted.order_by(a.opened_at.desc(), a.id.desc()).limit(limit)))


def told_of(conn: Connection, kind: str, subjects: Sequence[str]) -> dict[str, datetime]:
    """Subject → when its latest alert of this kind was opened."""
    a = capi_alert.c
    ours = select(a.subject, func.max(a.opened_at)).where(a.kind == kind, a.subject.in_(subjects))
    return {row[0]: row[1] for row in conn.execute(ours.group_by(a.subject))}


def _in_order(conn: Connection) -> None:
    """Notices become visible in the order of their ids: a channel that was told up to one has missed none before."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("LOCK TABLE capi_notice IN SHARE ROW EXCLUSIVE MODE"))


def open_(conn: Connection, alerts: Sequence[NewAlert], *, now: datetime) -> int:
    """Open these alerts and note it; how many were not open already."""
    _in_order(conn)
    opened: list[int] = []
    for chunk in chunks(alerts, CHUNK):
        rows = [
            {
                "kind": one.kind,
                "subject": one.subject,
                "stage": one.stage,
                "title": one.title,
                "opened_at": one.opened_at,
                "seen_at": now,
            }
            for one in chunk
        ]
        new = insert_into(conn, capi_alert).values(rows).on_conflict_do_nothing().returning(capi_alert.c.id)
        opened += conn.scalars(new)
    _notice(conn, sorted(opened), "opened", now)
    return len(opened)


def restage(conn: Connection, stages: Sequence[tuple[int, int]], *, now: datetime) -> int:
    """(alert id, its stage now): one that became worse is noticed, one that became better is not; how many of both."""
    _in_order(conn)
    a = capi_alert.c
    by_stage: dict[int, list[int]] = {}
    for id_, stage in stages:
        by_stage.setdefault(stage, []).append(id_)
    worse: list[int] = []
    for stage, ids in by_stage.items():
        mine = update(capi_alert).where(a.id.in_(ids), OPEN).values(stage=stage, seen_at=now)
        worse += conn.scalars(mine.where(a.stage > stage).returning(a.id))
        conn.execute(mine.where(a.stage < stage))
    _notice(conn, sorted(worse), "worse", now)
    return len(stages)


def close(conn: Connection, ids: Sequence[int], *, now: datetime) -> int:
    """What was wrong is over; how many were open."""
    _in_order(conn)
    a = capi_alert.c
    closed: list[int] = []
    for chunk in chunks(ids, CHUNK):
        ended = update(capi_alert).where(a.id.in_(chunk), OPEN).values(closed_at=now, seen_at=now)
        closed += conn.scalars(ended.returning(a.id))
    _notice(conn, sorted(closed), "closed", now)
    return len(closed)


def _notice(conn: Connection, ids: Iterable[int], what: str, now: datetime) -> None:
    rows = [{"alert_id": id_, "what": what, "at": now} for id_ in ids]
    if rows:
        conn.execute(capi_notice.insert(), rows)


def forget_old(conn: Connection, *, before: datetime) -> int:
    """Drop alerts that ended before this moment, and what was noticed about them; how many (bounded: ask again).

    The newest notice stays: SQLite gives a number again once its row is gone, and channels remember numbers.
    """
    a, n = capi_alert.c, capi_notice.c
    newest = select(n.alert_id).order_by(n.id.desc()).limit(1).scalar_subquery()
    ended = select(a.id).where(a.opened_at < before, a.closed_at < before, a.id != newest)
    old = conn.scalars(ended.limit(CHUNK)).all()
    conn.execute(delete(capi_notice).where(capi_notice.c.alert_id.in_(old)))
    conn.execute(delete(capi_alert).where(a.id.in_(old)))
    conn.execute(delete(capi_message).where(capi_message.c.at < before))
    return len(old)
