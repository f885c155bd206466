"""The keeper of heartbeats and of the timetable that many workers share."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update

from core.store.database import insert_into, upsert
from core.store.schema import capi_heartbeat, capi_schedule

BEAT = timedelta(seconds=5)
SILENT_AFTER = timedelta(seconds=30)


def beat(conn: Connection, worker: str, *, started_at: datetime, version: str, now: datetime) -> None:
    values = {"started_at": started_at, "seen_at": now, "stopped_at": None, "version": version}
    upsert(conn, capi_heartbeat, {"worker": worker}, values)


def stop(conn: Connection, worker: str, *, now: datetime) -> None:
    conn.execute(update(capi_heartbeat).where(capi_heartbeat.c.worker == worker).values(seen_at=now, stopped_at=now))


def forget_old(conn: Connection, *, before: datetime) -> None:
    """Drop workers that have long been gone."""
    conn.execute(capi_heartbeat.delete().where(capi_heartbeat.c.seen_at < before))


def is_waiting(conn: Connection, task: str, *, every: timedelta, now: datetime) -> bool:
    """Whether the task's time has not come: a look that costs no write."""
    s = capi_schedule.c
    not_yet = (s.task == task) & (s.due_at > now) & (s.due_at <= now + every + timedelta(seconds=1))
    return conn.scalar(select(s.task).where(not_yet)) is not None


def claim_task(conn: Connection, task: str, *, every: timedelta, now: datetime) -> bool:
    """True for one worker when `task` is due; what was missed is caught up once, not once per missed run.

    A moment further ahead than `every` can only come from a clock that was wrong: it counts as due.
    """
    s = capi_schedule.c
    conn.execute(insert_into(conn, capi_schedule).values(task=task, due_at=now).on_conflict_do_nothing())
    due = (s.due_at <= now) | (s.due_at > now + every + timedelta(seconds=1))
    return conn.execute(update(capi_schedule).where(s.task == task, due).values(due_at=now + every)).rowcount == 1


def take_turn(conn: Connection, name: str, *, a_minute: int, burst: int, now: datetime) -> bool:
    """True for `a_minute` callers in any minute at most, of all workers; `burst` of them may come at once.

    The generic cell rate algorithm: one row holds the moment up to which turns are used up. A moment that lies further
    ahead than turns can reach comes from a clock that was put back.
    """
    spacing = timedelta(minutes=1) / max(1, a_minute - burst + 1)
    s = capi_schedule.c
    held = select(s.due_at).where(s.task == name).with_for_update()
    used_up = conn.scalar(held)
    if used_up is None:  # nobody has ever taken one
        conn.execute(insert_into(conn, capi_schedule).values(task=name, due_at=now).on_conflict_do_nothing())
        used_up = conn.scalars(held).one()
    if used_up > now + (burst + 1) * spacing:
        used_up = now
    if used_up > now + (burst - 1) * spacing:
        return False
    conn.execute(update(capi_schedule).where(s.task == name).values(due_at=max(used_up, now) + spacing))
    return True
