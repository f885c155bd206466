"""Ordered bulk work: a job's frozen items, each done once, counted, stoppable, resumed after a crash."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row

from core import failpoints
from core.clock import now as real_now
from core.errors import Conflict, CoreError
from core.services import incidents, privacy, rights
from core.services.refresh import TokenRefreshService
from core.store import again, jobs, outbox, pixels
from core.store.database import chunks, insist, looking, reading, writing
from core.store.hopeless import why_no_retry
from core.store.wake import Work, wake

log = logging.getLogger("bulk")

# Items for each thread between two looks at the table, and at who has ordered them.
# So many events are made due in one transaction, too: what they cost is the commit.
_EACH = 20
# What threads work on: pieces of a job's items.
Flying = dict[Future[bool], Sequence[str]]


def run(service: TokenRefreshService, job_id: int, *, threads: int, stop: Callable[[], bool] = lambda: False) -> None:
    """Work on a job until it is done, cancelled, paused, or `stop` says so (somebody goes on with it later)."""
    with writing(service.engine) as conn:
        job = jobs.take(conn, job_id, by=service.worker, now=real_now())
    if job is None:
        return
    flying: Flying = {}
    with ThreadPoolExecutor(threads, thread_name_prefix=f"job-{job_id}") as pool:
        while not stop():
            if not flying and rights.withdrawn(service.engine, job, by=service.worker, now=real_now()):
                log.warning("a job was cancelled: who ordered it may not any more", extra={"job": job_id})
                return
            subjects = _next(service, job, flying, _EACH * threads)
            if not subjects and not flying:
                break
            for piece in chunks(subjects, KINDS[job.kind].size):
                flying[pool.submit(_one, service, job, piece)] = piece
            try:
                went_on = _landed(flying, rest=threads if subjects else 0) or _landed(flying, rest=0)
            except Conflict:
                log.info("a job was cancelled, paused or taken over", extra={"job": job_id})
                break
            if not went_on and not stop():
                # Not handed back: it is taken up again when its lease has run out, and holds no thread until then.
                log.info("a job waits for what is being sent", extra={"job": job_id})
                return
    with writing(service.engine) as conn:
        if jobs.next_items(conn, job_id, limit=1):
            jobs.hand_back(conn, job_id, by=service.worker)
        elif jobs.is_going(conn, job_id, by=service.worker, even_paused=True):
            jobs.end(conn, job_id, now=real_now())


def _next(service: TokenRefreshService, job: Row, flying: Flying, limit: int) -> list[str]:
    """Subjects that are not done yet and that no thread has; none when who ordered it may not any more: what is under
    way is then written down before the job is cancelled."""
    taken = {subject for piece in flying.values() for subject in piece}
    with reading(service.engine) as conn:
        if rights.why_not(conn, job.by, job.kind) is not None:
            return []
        found = jobs.next_items(conn, job.id, limit=limit + len(taken))
    return [subject for subject in found if subject not in taken]


def _landed(flying: Flying, *, rest: int) -> bool:
    """Wait until only `rest` pieces are under way, so that no thread waits for the slowest; whether one that ended went
    on. What one raises ends the others that have not begun."""
    went_on = False
    for done in as_completed(list(flying)):
        del flying[done]
        if done.exception() is not None:
            for other in flying:
                other.cancel()
        went_on |= done.result()
        if len(flying) <= rest:
            break
    return went_on


def _one(service: TokenRefreshService, job: Row, piece: Sequence[str]) -> bool:
    went_on = KINDS[job.kind].work(service, job, piece)
    failpoints.hit("job.mid_chunk")
    return went_on


def _refresh(service: TokenRefreshService, job: Row, fingerprint: str) -> bool:
    with looking(service.engine) as conn:
        if not jobs.is_going(conn, job.id, by=service.worker):
            raise Conflict()  # asked before Meta is called: what is cancelled or paused costs no further refresh
        if job.total > 1 and incidents.gate(conn, now=service.clock()) is not None:
            return False  # the job waits for the incident's end, and no row of it fails for that
    try:
        done = service.refresh(fingerprint, trigger="bulk" if job.total > 1 else "manual", by=job.by)
        outcome = "ok" if done.usable else "failed"
        words = done.words if done.words == done.outcome else f"{done.outcome}: {done.words}"
    except CoreError as error:
        outcome, words = "failed", str(error)
    failpoints.hit("job.before_record")
    with writing(service.engine) as conn:
        # Meta has done it: it must not be done once more because somebody has paused the job meanwhile.
        results = {fingerprint: (outcome, words)}
        jobs.record(conn, job.id, results, by=service.worker, now=real_now(), even_paused=True)
    return True


def _retry(service: TokenRefreshService, job: Row, subjects: Sequence[str]) -> bool:
    """Make dead or parked events due again, and their results known, in one transaction; where one of them does not go
    together with the others, each in its own."""
    try:
        insist(service.engine, lambda conn: _record(service, job, conn, _send_again(conn, subjects, real_now())))
    except Conflict:
        with looking(service.engine) as conn:
            if not jobs.is_going(conn, job.id, by=service.worker):
                raise
        if len(subjects) > 1:
            return all(_retry(service, job, [subject]) for subject in subjects)
        log.warning("an event was changed while it was to be sent again", extra={"job": job.id, "event": subjects[0]})
        with writing(service.engine) as conn:
            _record(service, job, conn, {subjects[0]: ("failed", "was changed by somebody else meanwhile")})
    return True


def _record(service: TokenRefreshService, job: Row, conn: Connection, results: jobs.Results) -> None:
    jobs.record(conn, job.id, results, by=service.worker, now=real_now())


def _send_again(conn: Connection, subjects: Sequence[str], now: datetime) -> jobs.Results:
    """What became of each event's retry; a parked one only waits on when its token is broken.

    Looked at twice: to lock the pixels first, as everybody does, and what is done rests on what is locked.
    """
    ids = [int(subject) for subject in subjects]
    seen = again.find(conn, ids)
    why = {id_: _why_not(seen.get(id_), now) for id_ in ids}
    hopeful = [id_ for id_ in ids if why[id_] is None]
    pixels.resume(conn, {seen[id_].pixel_id for id_ in hopeful})
    again.hold(conn, hopeful)
    found = again.find(conn, hopeful)
    why = {id_: reason or _why_not(found.get(id_), now) for id_, reason in why.items()}
    rows = [found[id_] for id_ in ids if why[id_] is None]
    again.hurry(conn, [row.id for row in rows if row.state != "dead"], now=now)
    outbox.move(conn, "retry", [row.id for row in rows if row.state == "dead"], next_attempt_at=now, attempts=0)
    wake(conn, Work.DELIVER, sorted({row.pixel_id for row in rows}))
    return {str(id_): ("skipped", reason) if reason else ("ok", "sent again") for id_, reason in why.items()}


def _why_not(found: Row | None, now: datetime) -> str | None:
    if found is None:
        return "is not stored any more"
    return why_no_retry(found.state, found.failure, found.deadline_at, now=now, waits=found.waits)


def _each(work: Callable[[TokenRefreshService, Row, str], bool]) -> Callable[..., bool]:
    """Work on pieces of one item."""
    return lambda service, job, piece: all(work(service, job, subject) for subject in piece)


@dataclass(frozen=True, slots=True)
class Kind:
    """`work` on at most `size` items of a job at once; false when it came no further because somebody else has what it
    needs."""

    work: Callable[[TokenRefreshService, Row, Sequence[str]], bool]
    size: int = 1


KINDS: dict[str, Kind] = {
    "refresh_tokens": Kind(_each(_refresh)),
    "retry_events": Kind(_retry, _EACH),
    "customer_data": Kind(_each(privacy.show)),
    "redact_customer": Kind(_each(privacy.erase)),
    "redact_shop": Kind(_each(privacy.erase)),
}
