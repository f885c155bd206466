"""One writer per table: keys, jobs, the audit chain, the shared timetable."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, select, text

from core.clock import now as real_now
from core.errors import Conflict, NotFound
from core.store import api_keys, audit, database, jobs, wake, workers
from core.store.database import reading, writing
from core.store.schema import capi_api_key, capi_job

MINUTE = timedelta(minutes=1)


def test_an_api_key_is_shown_once_and_stored_hashed(engine: Engine, now: datetime) -> None:
    with writing(engine) as conn:
        key = api_keys.add(conn, title="platform", scope="refresh", now=now)
        assert api_keys.check(conn, key, "refresh") == "platform"
        assert api_keys.check(conn, key, "other") is None
        assert api_keys.check(conn, key + "x", "refresh") is None
        assert key not in str(conn.execute(select(capi_api_key)).all())
        api_keys.revoke(conn, "platform", now=now)
        assert api_keys.check(conn, key, "refresh") is None
    with pytest.raises(NotFound), writing(engine) as conn:
        api_keys.revoke(conn, "platform", now=now)


def test_a_double_click_is_one_job(engine: Engine, now: datetime) -> None:
    with writing(engine) as conn:
        order = {"dedupe_key": "k", "by": "ann", "reason": None, "now": now}
        first = jobs.order(conn, "retry_events", ["1", "2"], **order)
        assert jobs.order(conn, "retry_events", ["1", "2"], **order) == first
        jobs.end(conn, first, now=now)
        assert jobs.order(conn, "retry_events", ["1", "2"], **order) != first


def test_an_item_is_counted_once(engine: Engine, now: datetime) -> None:
    with writing(engine) as conn:
        job = jobs.order(conn, "retry_events", ["1", "2"], dedupe_key="k", by="ann", reason=None, now=now)
        assert jobs.take(conn, job, by="w", now=now)
        assert jobs.take(conn, job, by="v", now=now) is None
        jobs.record(conn, job, {"1": ("failed", "why")}, by="w", now=now)
    with pytest.raises(Conflict), writing(engine) as conn:
        jobs.record(conn, job, {"1": ("ok", "")}, by="w", now=now)
    with reading(engine) as conn:
        row = conn.execute(select(capi_job.c.done, capi_job.c.failed, capi_job.c.total)).one()
        assert (tuple(row), jobs.next_items(conn, job, limit=9)) == ((1, 1, 2), ["2"])


def test_a_job_left_by_a_dead_worker_is_taken_over(engine: Engine, now: datetime) -> None:
    with writing(engine) as conn:
        job = jobs.order(conn, "retry_events", ["1"], dedupe_key="k", by="ann", reason=None, now=now)
        jobs.take(conn, job, by="dead", now=now)
        assert jobs.due(conn, now=now) == []
        later = now + 2 * jobs.LEASE
        assert jobs.due(conn, now=later) == [str(job)]
        assert jobs.take(conn, job, by="alive", now=later)
    with pytest.raises(Conflict), writing(engine) as conn:
        jobs.record(conn, job, {"1": ("ok", "")}, by="dead", now=later)


def test_a_tampered_audit_line_is_found(engine: Engine, now: datetime) -> None:
    with writing(engine) as conn:
        for count in range(5):
            audit.write(conn, by="ann", action="refresh", subject="fp", count=count, reason="why", now=now)
        assert audit.first_broken(conn) is None
        conn.execute(text("UPDATE capi_audit SET count = 99 WHERE id = 3"))
        assert audit.first_broken(conn) == 3


def test_a_deleted_audit_line_is_found(engine: Engine, now: datetime) -> None:
    with writing(engine) as conn:
        for count in range(3):
            audit.write(conn, by="ann", action="refresh", subject="fp", count=count, reason=None, now=now)
        conn.execute(text("DELETE FROM capi_audit WHERE id = 2"))
        assert audit.first_broken(conn) == 3


def test_a_task_is_done_by_one_worker_and_missed_runs_are_caught_up_once(engine: Engine, now: datetime) -> None:
    def claim(at: datetime) -> bool:
        with writing(engine) as conn:
            return workers.claim_task(conn, "check", every=MINUTE, now=at)

    assert [claim(now), claim(now), claim(now + MINUTE / 2)] == [True, False, False]
    late = now + 60 * MINUTE
    assert [claim(late), claim(late)] == [True, False]
    assert claim(late - 120 * MINUTE), "a clock that was two hours ahead does not stop the timetable"


def test_a_wake_up_is_queued_once_and_only_when_the_transaction_commits(postgres_url: str, now: datetime) -> None:
    engine = database.open_engine(postgres_url)
    queued = text("SELECT entrypoint, convert_from(payload, 'UTF8') FROM capi_pgqueuer ORDER BY id")
    with writing(engine) as conn:
        wake.wake(conn, wake.Work.DELIVER, ["4711", "4712", "4711"])
    with engine.connect() as conn:
        wake.wake(conn, wake.Work.REFRESH, ["fp_1"])
        conn.rollback()
    with writing(engine) as conn:
        wake.wake(conn, wake.Work.DELIVER, ["4711"])
        assert [tuple(row) for row in conn.execute(queued)] == [("deliver", "4711"), ("deliver", "4712")]
        assert wake.forget_old(conn, before=real_now() + MINUTE) == 2
        assert wake.forget_old(conn, before=real_now() + MINUTE) == 0
    engine.dispose()
