"""All that match is sent again with a seat belt; what came of it is taken away as CSV."""

from __future__ import annotations

import csv
import io

import pytest
from sqlalchemy import Engine, func, select, text

from core import clock
from core.desk import exports_work, queries
from core.errors import NotFound, Refused
from core.store import jobs
from core.store.database import reading, writing
from core.store.schema import capi_event, capi_job, capi_job_item
from tests.pages.conftest import Opens


def _dead(engine: Engine, failure: str) -> set[str]:
    e = capi_event.c
    with reading(engine) as conn:
        return {str(id_) for id_ in conn.scalars(select(e.id).where(e.state == "dead", e.failure == failure))}


def _a_cause(engine: Engine) -> str:
    e = capi_event.c
    most = select(e.failure).where(e.state == "dead").group_by(e.failure).order_by(func.count().desc(), e.failure)
    with reading(engine) as conn:
        return str(conn.scalar(most.limit(1)))


def _subjects(engine: Engine, kind: str) -> set[str]:
    with reading(engine) as conn:
        newest = select(func.max(capi_job.c.id)).where(capi_job.c.kind == kind).scalar_subquery()
        return set(conn.scalars(select(capi_job_item.c.subject).where(capi_job_item.c.job_id == newest)))


def test_everything_at_once_is_not_offered(world: Engine, opens: Opens) -> None:
    at = opens("failed_events", show="dead")
    assert at.button(key="retry_all").disabled
    with reading(world) as conn, pytest.raises(Refused, match="everything at once"):
        queries.failed_ids(conn, now=clock.now(), view="dead", search="  ")


def test_all_that_match_are_one_job_with_a_reason(world: Engine, opens: Opens) -> None:
    cause = _a_cause(world)
    with world.begin() as conn:  # in time still, all of them
        conn.execute(text("UPDATE capi_event SET deadline_at = '2099-01-01' WHERE state = 'dead'"))
        conn.execute(text("UPDATE capi_outbox SET deadline_at = '2099-01-01' WHERE state = 'dead'"))
    expected = _dead(world, cause)
    assert len(expected) > 1
    at = opens("failed_events", show="dead", cause=cause)
    assert at.button(key="retry_all").label == f"Retry all that match ({len(expected)})"
    at.button(key="retry_all").click().run()
    assert f"of {len(expected):,} events that match now" in " ".join(line.value for line in at.markdown)
    at.button(key="yes").click().run()
    assert _subjects(world, "retry_events") == set(), "not without a reason"
    at.button(key="retry_all").click().run()
    at.text_input(key="reason").set_value("Meta was away yesterday")
    at.button(key="yes").click().run()
    assert not at.exception
    assert _subjects(world, "retry_events") == expected


def test_what_comes_after_the_question_is_not_among_it(world: Engine, opens: Opens) -> None:
    cause = _a_cause(world)
    with world.begin() as conn:
        conn.execute(text("UPDATE capi_event SET deadline_at = '2099-01-01' WHERE state = 'dead'"))
    asked = _dead(world, cause)
    at = opens("failed_events", show="dead", cause=cause)
    at.button(key="retry_all").click().run()
    with world.begin() as conn:  # another one dies of the same cause while somebody reads the question
        newest = "SELECT max(id) FROM capi_event WHERE state = 'parked'"
        conn.execute(
            text(f"UPDATE capi_event SET state = 'dead', failure = :f WHERE id = ({newest})").bindparams(f=cause)
        )
    at.text_input(key="reason").set_value("why")
    at.button(key="yes").click().run()
    assert _subjects(world, "retry_events") == asked
    assert len(_dead(world, cause)) == len(asked) + 1


def test_past_their_deadline_nothing_is_ordered(world: Engine, opens: Opens) -> None:
    with world.begin() as conn:
        conn.execute(text("UPDATE capi_event SET deadline_at = '2020-01-01' WHERE state = 'dead'"))
    at = opens("failed_events", show="dead", cause=_a_cause(world))
    at.button(key="retry_all").click().run()
    assert at.button(key="yes").disabled
    assert "its deadline has passed" in " ".join(line.value for line in at.markdown)


def test_the_result_of_a_job_row_by_row(world: Engine) -> None:
    now = clock.now()
    ids = sorted(_dead(world, _a_cause(world)))[:2]
    with writing(world) as conn:
        job = jobs.order(conn, "retry_events", [*ids, "1"], dedupe_key="x", by="ann", reason=None, now=now)
        jobs.take(conn, job, by="w", now=now)
        jobs.record(conn, job, ids[0], "ok", "sent again", by="w", now=now)
        jobs.record(conn, job, "1", "skipped", "=is not stored any more", by="w", now=now)
    with reading(world) as conn:
        text_ = "".join(exports_work.job_report(conn, job))
        known = conn.execute(
            select(capi_event.c.event_name, capi_event.c.event_id).where(capi_event.c.id == int(ids[0]))
        )
        name, event_id = known.one()
        with pytest.raises(NotFound):
            list(exports_work.job_report(conn, 10**9))
    rows = {row["subject"]: row for row in csv.DictReader(io.StringIO(text_, newline=""))}
    assert set(rows) == {*ids, "1"}
    assert (rows[ids[0]]["result"], rows[ids[0]]["words"]) == ("ok", "sent again")
    assert (rows[ids[0]]["event"], rows[ids[0]]["event id"], rows[ids[0]]["state now"]) == (name, event_id, "dead")
    assert rows[ids[1]]["result"] == "not done"
    assert rows["1"]["words"] == "'=is not stored any more"
    assert rows["1"]["event"] == ""
