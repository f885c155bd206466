"""All that match is sent again with a seat belt; what came of it is taken away as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from sqlalchemy import Connection, Engine, func, select, text
from streamlit.testing.v1 import AppTest

from core import clock
from core.desk import exports_work, queries
from core.doors import console, console_rows
from core.errors import NotFound, Refused
from core.store import jobs
from core.store.database import reading, writing
from core.store.schema import capi_event, capi_job, capi_job_item, capi_outbox
from tests.desk.rows import receive
from tests.pages.conftest import ROOT, Opens


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
        queries.failed_ids(conn, queries.Filters(view="dead", search="  "), now=clock.now())


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


def _receive(engine: Engine, cause: str, moments: Sequence[datetime]) -> list[str]:
    """Ids of dead events of this cause that were received then; all others were received long before."""
    with writing(engine) as conn:
        for table in (capi_event, capi_outbox):
            conn.execute(
                table.update().where(table.c.state == "dead").values(deadline_at=datetime(2099, 1, 1, tzinfo=UTC))
            )
        for id_ in conn.scalars(select(capi_event.c.id)).all():
            receive(conn, id_, datetime(2026, 1, 1, tzinfo=UTC))
    ids = sorted(_dead(engine, cause))
    with writing(engine) as conn:
        return [str(receive(conn, int(id_), at)) for id_, at in zip(ids, moments, strict=False)]


@pytest.mark.parametrize(
    ("zone", "start"),
    [("America/New_York", "2026-11-25 05:00"), ("Europe/Berlin", "2026-11-24 23:00"), (None, "2026-11-25 00:00")],
)
def test_yesterdays_failures_of_one_cause_on_the_readers_clock(
    world: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch, zone: str | None, start: str
) -> None:
    monkeypatch.setattr(clock, "now", lambda: datetime(2026, 11, 26, 14, 0, tzinfo=UTC))
    files: dict[str, list[list[str]]] = {}

    def download(_: str, name: str, lines: Callable[[Connection, tzinfo], Iterator[str]]) -> None:
        with reading(world) as conn:
            files[name] = list(csv.reader(io.StringIO("".join(lines(conn, console.zone())), newline="")))

    monkeypatch.setattr(console_rows, "download", download)
    cause, first, tick = _a_cause(world), datetime.fromisoformat(f"{start}+00:00"), timedelta(milliseconds=1)
    end = first + timedelta(days=1)
    expected = set(_receive(world, cause, [first, end - tick, first - tick, end])[:2])
    at = opens("failed_events", zone=zone, show="dead", cause=cause, received="Yesterday")
    assert at.query_params["received"] == "Yesterday"
    assert at.button(key="retry_all").label == "Retry all that match (2)"
    (name,) = files
    assert name == f"failed-events_2026-11-26T1400Z_dead_{cause}_Yesterday-2026-11-25.csv"
    head, *rows = files[name]
    assert [word for word in head if word.startswith("received")] == [
        "received (UTC)",
        *([f"received ({zone})"] if zone else []),
    ]
    assert len(rows) == 2
    at.button(key="retry_all").click().run()
    at.text_input(key="reason").set_value("Meta was away yesterday")
    at.button(key="yes").click().run()
    assert not at.exception
    assert _subjects(world, "retry_events") == expected


def test_a_period_alone_is_a_filter(world: Engine, opens: Opens) -> None:
    (wanted,) = _receive(world, _a_cause(world), [clock.now()])
    at = opens("failed_events", show="dead", received="Last 7 days")
    assert at.button(key="retry_all").label == "Retry all that match (1)"
    at.button(key="retry_all").click().run()
    at.text_input(key="reason").set_value("why")
    at.button(key="yes").click().run()
    assert _subjects(world, "retry_events") == {wanted}


def test_a_link_with_a_period_opens_on_it(world: Engine) -> None:
    _receive(world, _a_cause(world), [clock.now()])
    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=30).run()
    at.switch_page("pages/failed_events.py")
    at.query_params["received"] = "Last 7 days"
    at.query_params["show"] = "dead"
    at.run()
    assert at.session_state["received"] == "Last 7 days"
    assert at.button(key="retry_all").label == "Retry all that match (1)"


def test_a_browser_that_names_no_zone_we_know_is_shown_utc(world: Engine, opens: Opens) -> None:
    at = opens("failed_events", zone="Europe", received="Today")
    assert "Times are local (UTC)" in " ".join(line.value for line in at.sidebar.caption)


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
        jobs.record(conn, job, {ids[0]: ("ok", "sent again")}, by="w", now=now)
        jobs.record(conn, job, {"1": ("skipped", "=is not stored any more")}, by="w", now=now)
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
    assert rows["1"]["event"] == rows["1"]["received (UTC)"] == ""
    assert rows[ids[0]]["received (UTC)"]
