"""What the console says of events that did not arrive, on both databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, event, select, text

from core.desk import commands, queries, zones
from core.desk.detail import HIDDEN
from core.desk.operators import Operator
from core.errors import NotFound, Refused
from core.store.database import open_engine, reading, writing
from core.store.schema import capi_event, capi_outbox, capi_pixel
from tests.desk.rows import MARK, receive, seed

DAY, SOON, WINDOW = timedelta(days=1), timedelta(days=7), timedelta(days=30)


@pytest.fixture
def world(engine: Engine, now: datetime) -> Engine:
    seed(engine, now=now, apps=72, events=600)
    return engine


def _count(engine: Engine, where: str) -> int:
    with reading(engine) as conn:
        return int(conn.scalar(text(f"SELECT count(*) FROM capi_event WHERE {where}")))


@pytest.mark.parametrize(
    ("view", "where"),
    [
        ("waiting", "state = 'parked'"),
        ("dead", "state = 'dead'"),
        ("retrying", "state = 'due' AND failure IS NOT NULL"),
        ("still in time", "state IN ('parked', 'dead') OR state = 'due' AND failure IS NOT NULL"),
    ],
)
def test_each_view_pages_by_key_through_all_of_its_events(world: Engine, now: datetime, view: str, where: str) -> None:
    seen: list[queries.FailedEvent] = []
    with reading(world) as conn:
        after = None
        while page := queries.failed_events(conn, queries.Filters(view=view), now=now, after=after, limit=17):
            seen += page
            after = (page[-1].deadline_at, page[-1].id)
        total = queries.failed_total(conn, queries.Filters(view=view), now=now)
    assert len({row.id for row in seen}) == len(seen) == total == _count(world, where)
    deadlines = [row.deadline_at for row in seen]
    assert deadlines == sorted(deadlines, reverse=view == "dead")


def test_filters_by_cause_and_by_what_people_search_for(world: Engine, now: datetime) -> None:
    with reading(world) as conn:
        rows = queries.failed_events(conn, queries.Filters(view="dead", failure="permission"), now=now)
        assert rows
        assert {row.failure for row in rows} == {"permission"}
        wanted = next(
            row for row in queries.failed_events(conn, queries.Filters(view="waiting"), now=now) if row.order_id
        )
        for words in (wanted.order_id, wanted.event_id):
            found = queries.failed_events(conn, queries.Filters(view="waiting", search=words), now=now)
            assert [row.id for row in found] == [wanted.id]
        of_shop = queries.failed_events(conn, queries.Filters(view="waiting", search=wanted.shop), now=now)
    assert {row.app_id for row in of_shop} == {wanted.app_id}


def _receive(engine: Engine, moments: Iterable[datetime], *, failure: str = "permission") -> list[int]:
    """Dead events that can still be sent, received then; whatever else is dead was received long before."""
    e = capi_event.c
    with writing(engine) as conn:
        for table in (capi_event, capi_outbox):
            conn.execute(
                table.update().where(table.c.state == "dead").values(deadline_at=datetime(2099, 1, 1, tzinfo=UTC))
            )
        for id_ in conn.scalars(select(e.id).where(e.state == "dead")).all():
            receive(conn, id_, datetime(2026, 11, 1, tzinfo=UTC))
        ids = conn.scalars(select(e.id).where(e.state == "dead", e.failure == failure).order_by(e.id)).all()
        return [receive(conn, id_, at) for id_, at in zip(ids, moments, strict=False)]


@pytest.mark.parametrize("name", ["America/Los_Angeles", "UTC", "Asia/Kolkata", "Pacific/Kiritimati"])
def test_yesterdays_failures_of_one_cause_and_only_these_go_again(world: Engine, now: datetime, name: str) -> None:
    zone, tick = ZoneInfo(name), timedelta(milliseconds=1)
    span = zones.period("Yesterday", now=now, zone=zone)
    start, end = (datetime.combine(now.astimezone(zone).date() - timedelta(days=ago), time(), zone) for ago in (1, 0))
    _receive(world, [start, end - tick], failure="transient")
    outside_and_in = [start - tick, start, end - tick, end]
    _, first, last, _ = _receive(world, outside_and_in)
    wanted = queries.Filters(view="dead", failure="permission", **span)
    with reading(world) as conn:
        ids = queries.failed_ids(conn, wanted, now=now)
        assert queries.failed_total(conn, wanted, now=now) == 2
        assert [row.id for row in queries.failed_events(conn, wanted, now=now)] == ids
    job = commands.order_retry(world, ids, by=Operator("Sue", "support"), now=now)
    with reading(world) as conn:
        assert {item.subject for item in queries.job_items(conn, job)} == {str(first), str(last)}


def test_a_time_alone_is_enough_for_all_that_match(world: Engine, now: datetime) -> None:
    (newest, *_) = _receive(world, [now])
    with reading(world) as conn:
        assert queries.failed_ids(conn, queries.Filters(view="dead", since=now - timedelta(hours=1)), now=now) == [
            newest
        ]
        assert newest not in queries.failed_ids(conn, queries.Filters(view="dead", until=now), now=now)
        with pytest.raises(Refused, match="everything at once"):
            queries.failed_ids(conn, queries.Filters(view="dead"), now=now)


def test_a_period_is_exact_however_much_is_dead_beside_it(
    world: Engine, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.desk.events.BOUND", 3)
    received = _receive(world, [now - DAY, now - DAY, *[now] * 8])
    day = queries.Filters(view="dead", since=now - DAY, until=now)
    with reading(world) as conn:
        assert set(queries.failed_ids(conn, day, now=now)) == set(received[:2])
        assert {row.id for row in queries.failed_events(conn, day, now=now)} == set(received[:2])
        assert queries.failed_total(conn, day, now=now) == 2
        assert queries.failed_total(conn, replace(day, failure="permission"), now=now) == 2
        assert queries.failed_total(conn, replace(day, failure="transient"), now=now) == 0


@pytest.mark.parametrize("year", [1, 1970, 2100, 9999])
def test_a_period_may_begin_and_end_anywhere(world: Engine, now: datetime, year: int) -> None:
    then = datetime(year, 6, 1, tzinfo=UTC)
    every = queries.Filters(view="dead")
    with reading(world) as conn:
        total = queries.failed_total(conn, every, now=now)
        assert queries.failed_total(conn, replace(every, since=then), now=now) == (total if year < 2000 else 0)
        assert queries.failed_total(conn, replace(every, until=then), now=now) == (0 if year < 2000 else total)


def test_a_period_is_told_apart_within_the_index(postgres_url: str, now: datetime) -> None:
    engine = open_engine(postgres_url)
    seed(engine, now=now, apps=30, events=300)
    said: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def explain(conn: Any, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        if "capi_event" in statement:
            cursor.execute(f"EXPLAIN {statement}", parameters)
            said.extend(row[0] for row in cursor.fetchall())

    with reading(engine) as conn:
        conn.execute(text("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"))
        queries.failed_total(conn, queries.Filters(view="dead", since=now - DAY, until=now), now=now)
    engine.dispose()
    (looked_up,) = [line for line in said if "Index Cond" in line]
    for part in ("state = ", "id >= ", "id < "):
        assert part in looked_up


def test_an_event_whose_pixel_is_leased_is_sending(world: Engine, now: datetime) -> None:
    with writing(world) as conn:
        due = conn.execute(select(capi_event).where(text("state = 'due' AND failure IS NOT NULL"))).first()
        assert due is not None
        conn.execute(capi_pixel.insert().values(pixel_id=due.pixel_id, lease_until=now + timedelta(seconds=30)))
    with reading(world) as conn:
        states = {row.id: row.state for row in queries.failed_events(conn, queries.Filters(view="retrying"), now=now)}
    assert states[due.id] == "sending"


def test_causes_add_up_to_the_events_and_their_money(world: Engine, now: datetime) -> None:
    with reading(world) as conn:
        found = queries.causes(conn, now=now)
    assert sum(cause.events for cause in found if cause.state == "parked") == _count(world, "state = 'parked'")
    assert sum(cause.events for cause in found if cause.state == "dead") == _count(world, "state = 'dead'")
    with reading(world) as conn:
        wanted = select(text("sum(value)")).select_from(capi_event).where(text("state = 'parked' AND currency = 'USD'"))
        total = Decimal(str(conn.scalar(wanted) or 0)).quantize(Decimal("0.01"))
    assert sum(cause.money.get("USD", Decimal(0)) for cause in found if cause.state == "parked") == total


def test_detail_shows_people_hashed_or_not_at_all(world: Engine, now: datetime) -> None:
    with reading(world) as conn:
        event_id = queries.failed_events(conn, queries.Filters(view="dead"), now=now)[0].id
        detail = queries.event_detail(conn, event_id)
    assert detail.payload is not None
    assert len(detail.payload["user_data"]["em"][0]) == 64
    assert detail.payload["user_data"]["client_ip_address"] == HIDDEN
    assert "203.0.113.7" not in repr(detail)
    assert MARK not in repr(detail)
    assert detail.attempt is not None
    assert detail.attempt.trace_id


def test_detail_of_nothing(engine: Engine) -> None:
    with reading(engine) as conn, pytest.raises(NotFound):
        queries.event_detail(conn, 5)


def test_the_preview_of_a_retry_says_why_some_stay(world: Engine, now: datetime) -> None:
    with reading(world) as conn:
        dead = [row.id for row in queries.failed_events(conn, queries.Filters(view="dead"), now=now)][:3]
        waiting = [row.id for row in queries.failed_events(conn, queries.Filters(view="waiting"), now=now)][:2]
        preview = queries.retry_preview(conn, [*dead, *waiting, 12345], now=now)
        late = queries.retry_preview(conn, dead, now=now + timedelta(days=30))
    assert preview.retried == 3
    assert sum(preview.skipped.values()) == 3
    assert late.retried == 0
    assert late.skipped == {"its deadline has passed": 3}


def test_the_overview_counts_what_waits(world: Engine, now: datetime) -> None:
    with reading(world) as conn:
        seen = queries.overview(conn, now=now, soon=SOON, window=WINDOW)
    assert seen.waiting == _count(world, "state = 'parked'")
    assert seen.dead == _count(world, "state = 'dead'")
    assert seen.tokens == seen.broken_tokens > 0
    assert seen.first_deadline_at is not None
    assert sum(seen.money.values()) > 0
    assert seen.delivered == _count(world, "state = 'delivered' AND delivered_at >= '2026-11-22 13:00:00+00'")
    assert 0 < seen.after_refresh < seen.delivered
    assert len(seen.hours) == 24
    assert seen.alive == 1


def test_an_empty_database_has_an_overview(engine: Engine, now: datetime) -> None:
    with reading(engine) as conn:
        seen = queries.overview(conn, now=now, soon=SOON, window=WINDOW)
    assert (seen.waiting, seen.delivered, seen.alive, seen.first_deadline_at) == (0, 0, 0, None)


def test_pages_never_read_the_whole_ledger(sqlite_engine: Engine, now: datetime) -> None:
    seed(sqlite_engine, now=now, apps=30, events=300)
    plans: list[str] = []

    def explain(conn: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if "capi_event" in statement and statement.lstrip().startswith("SELECT"):
            connection = cursor.connection.cursor()  # type: ignore[attr-defined]
            plans.extend(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    event.listen(sqlite_engine, "before_cursor_execute", explain)
    with reading(sqlite_engine) as conn:
        for view in queries.VIEWS:
            queries.failed_events(conn, queries.Filters(view=view), now=now)
            queries.failed_events(conn, queries.Filters(view=view, failure="permission"), now=now, after=(now, 1))
            queries.failed_events(conn, queries.Filters(view=view, since=now - timedelta(days=1), until=now), now=now)
            queries.failed_total(conn, queries.Filters(view=view, since=now), now=now)
            queries.failed_ids(conn, queries.Filters(view=view, since=now), now=now)
        queries.causes(conn, now=now)
        queries.overview(conn, now=now, soon=SOON, window=WINDOW)
    assert plans
    assert [line for line in plans if line == "SCAN capi_event"] == []


def test_refresh_history_pages_and_filters(world: Engine, now: datetime) -> None:
    with reading(world) as conn:
        whole = queries.refresh_history(conn)
        first = queries.refresh_history(conn, limit=10)
        rest = queries.refresh_history(conn, before=first[-1].id)
        lost = queries.refresh_history(conn, outcomes=["needs_reconnect"])
        owner = queries.refresh_history(conn, search="owner3@")
        per_day = queries.refreshes_per_day(conn, since=now - timedelta(days=30))
        by_trigger = queries.refreshes_per_day(conn, since=now - timedelta(days=30), by="trigger")
    assert [*first, *rest] == whole
    assert {row.outcome for row in lost} == {"needs_reconnect"}
    assert {row.email for row in owner} == {"owner3@dune.example"}
    assert sum(count for _, _, count in per_day) == len(whole)
    counted = Counter(row.trigger for row in whole)
    assert {word: sum(count for _, its, count in by_trigger if its == word) for word in counted} == counted
