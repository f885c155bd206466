"""The keeper of ordered bulk work: a job and its frozen items.

A job that is paused keeps its state; `paused_at` says since when nobody works on it. It goes on where it stood.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select, update

from core.errors import Conflict
from core.store.database import insert_into
from core.store.schema import capi_job, capi_job_item
from core.store.wake import Work, wake

LEASE = timedelta(seconds=60)
# outcome of an item → the job's counter it adds to, beside `done`
COUNTED = {"ok": None, "failed": "failed", "skipped": "skipped"}
# subject of an item → (outcome, words)
Results = Mapping[str, tuple[str, str]]
_STOPPED = "this job was cancelled, paused or taken over"


def order(
    conn: Connection, kind: str, subjects: Sequence[str], *, dedupe_key: str, by: str, reason: str | None, now: datetime
) -> int:
    """The id of a new job over these subjects, or of the open one with the same key (a double click is one job)."""
    j = capi_job.c
    row = {"kind": kind, "dedupe_key": dedupe_key, "by": by, "reason": reason, "created_at": now}
    new = insert_into(conn, capi_job).values(**row, state="queued", total=len(subjects))
    job_id = conn.scalar(new.on_conflict_do_nothing(index_elements=["dedupe_key"]).returning(j.id))
    if job_id is None:
        return int(conn.execute(select(j.id).where(j.dedupe_key == dedupe_key)).scalar_one())
    conn.execute(capi_job_item.insert(), [{"job_id": job_id, "subject": subject} for subject in subjects])
    wake(conn, Work.RUN, [str(job_id)])
    return int(job_id)


def take(conn: Connection, job_id: int, *, by: str, now: datetime) -> Row[Any] | None:
    """The job, if it is open and not paused, and nobody works on it."""
    j = capi_job.c
    free = or_(j.lease_until.is_(None), j.lease_until <= now)
    taken = update(capi_job).where(j.id == job_id, j.ended_at.is_(None), j.paused_at.is_(None), free)
    return conn.execute(taken.values(state="running", lease_by=by, lease_until=now + LEASE).returning(capi_job)).first()


def next_items(conn: Connection, job_id: int, *, limit: int) -> list[str]:
    """Subjects that are not done yet."""
    i = capi_job_item.c
    rest = select(i.subject).where(i.job_id == job_id, i.outcome.is_(None)).order_by(i.subject)
    return list(conn.scalars(rest.limit(limit)))


def record(
    conn: Connection, job_id: int, results: Results, *, by: str, now: datetime, even_paused: bool = False
) -> None:
    """What came of some items, counted; Conflict when the job was cancelled, paused or taken over.

    `even_paused`: what was done outside of this transaction is written down though the job was paused meanwhile.
    """
    i, j = capi_job_item.c, capi_job.c
    tally = Counter(COUNTED[outcome] for outcome, _ in results.values())
    counts = {name: j[name] + count for name, count in tally.items() if name} | {"done": j.done + len(results)}
    mine = update(capi_job).where(j.id == job_id, j.state == "running", j.lease_by == by)
    mine = mine if even_paused else mine.where(j.paused_at.is_(None))
    if conn.execute(mine.values(lease_until=now + LEASE, **counts)).rowcount != 1:
        raise Conflict(_STOPPED)
    for said in set(results.values()):
        alike = [subject for subject, result in results.items() if result == said]
        items = update(capi_job_item).where(i.job_id == job_id, i.subject.in_(alike), i.outcome.is_(None))
        if conn.execute(items.values(outcome=said[0], words=said[1])).rowcount != len(alike):
            raise Conflict("an item was done already")


def note(conn: Connection, job_id: int, subject: str, words: str, *, by: str, now: datetime) -> None:
    """How far an item is that takes several transactions: kept through a crash, and the job's lease with it.

    Conflict when the job was cancelled, paused or taken over: then nothing of this transaction may be kept.
    """
    i, j = capi_job_item.c, capi_job.c
    mine = update(capi_job).where(j.id == job_id, j.state == "running", j.lease_by == by, j.paused_at.is_(None))
    if conn.execute(mine.values(lease_until=now + LEASE)).rowcount != 1:
        raise Conflict(_STOPPED)
    item = update(capi_job_item).where(i.job_id == job_id, i.subject == subject, i.outcome.is_(None))
    if conn.execute(item.values(words=words)).rowcount != 1:
        raise Conflict("this item was done already")


def noted(conn: Connection, job_id: int, subject: str | None = None) -> list[str]:
    """The words of one item, or of all items of a job."""
    i = capi_job_item.c
    its = select(i.words).where(i.job_id == job_id, i.words.is_not(None))
    return list(conn.scalars(its if subject is None else its.where(i.subject == subject)))


def hand_back(conn: Connection, job_id: int, *, by: str) -> None:
    """Stop working on an unfinished job: the next worker goes on at once."""
    mine = update(capi_job).where(capi_job.c.id == job_id, capi_job.c.lease_by == by)
    conn.execute(mine.values(lease_by=None, lease_until=None))
    wake(conn, Work.RUN, [str(job_id)])


def is_going(conn: Connection, job_id: int, *, by: str, even_paused: bool = False) -> bool:
    """Whether this worker may go on with the job: nobody has cancelled, paused or taken it over."""
    j = capi_job.c
    mine = select(j.id).where(j.id == job_id, j.state == "running", j.lease_by == by)
    return conn.scalar(mine if even_paused else mine.where(j.paused_at.is_(None))) is not None


def pause(conn: Connection, job_id: int, *, now: datetime) -> None:
    """Nobody goes on with an open job until it is resumed; Conflict when it has ended or is paused already.

    Its worker keeps the lease until it has noticed: what it is in the middle of is written down.
    """
    j = capi_job.c
    going = update(capi_job).where(j.id == job_id, j.ended_at.is_(None), j.paused_at.is_(None))
    if conn.execute(going.values(paused_at=now)).rowcount != 1:
        raise Conflict("this job has ended or is paused already")


def resume(conn: Connection, job_id: int) -> None:
    """A paused job goes on where it stood; Conflict when it has ended or is not paused."""
    j = capi_job.c
    paused = update(capi_job).where(j.id == job_id, j.ended_at.is_(None), j.paused_at.is_not(None))
    if conn.execute(paused.values(paused_at=None)).rowcount != 1:
        raise Conflict("this job has ended or is not paused")
    wake(conn, Work.RUN, [str(job_id)])


def end(conn: Connection, job_id: int, *, now: datetime, state: str = "done") -> None:
    """Close an open job; Conflict when it is closed already."""
    empty = dict.fromkeys(("dedupe_key", "lease_by", "lease_until", "paused_at"))
    opened = update(capi_job).where(capi_job.c.id == job_id, capi_job.c.ended_at.is_(None))
    if conn.execute(opened.values(state=state, ended_at=now, **empty)).rowcount != 1:
        raise Conflict("this job has ended already")


def due(conn: Connection, *, now: datetime) -> list[str]:
    """Ids of open jobs that nobody works on, and that are not paused."""
    j = capi_job.c
    free = or_(j.lease_until.is_(None), j.lease_until <= now)
    waiting = select(j.id).where(j.ended_at.is_(None), j.paused_at.is_(None), free)
    return [str(id_) for id_ in conn.scalars(waiting.order_by(j.id))]


def progress(conn: Connection, job_id: int) -> Row[Any] | None:
    return conn.execute(select(capi_job).where(capi_job.c.id == job_id)).first()


def results(conn: Connection, job_id: int) -> dict[str, int]:
    """Outcome → how many items."""
    i = capi_job_item.c
    counted = select(i.outcome, func.count()).where(i.job_id == job_id).group_by(i.outcome)
    return {row[0] or "waiting": row[1] for row in conn.execute(counted)}
