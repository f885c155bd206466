"""What came in is what was accepted, skipped, waits or died: every day, of every app, whatever happens to events."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, func, insert, select, text, update

from core.desk import accounts as shown
from core.desk import snapshot
from core.desk.explain import NOBODY, REASONS
from core.desk.ledger import imbalances
from core.doors.intake import Entry, Intake
from core.errors import StoreError
from core.services import accounts, alerts, upkeep
from core.services.policy import Policy
from core.store import acceptance, ledger, outbox
from core.store import alerts as alert_keeper
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.database import reading, writing
from core.store.schema import capi_event, capi_ledger, capi_outbox, capi_schedule, capi_taken
from tests.desk.test_find import planned
from tests.services.alerting import DAY, HOUR, MINUTE, many_apps
from tests.world import World

POLICY = Policy()
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Clock:
    """Moved by hand, and by a little at every look: no two groups come in at the same moment."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
def shop(world: World, clock: Clock) -> App:
    world.clock = clock
    return world.an_app(world.meta.create_token())


def told(world: World, *events: NewEvent) -> list[bool]:
    with writing(world.engine) as conn:
        return acceptance.accept(conn, events, now=world.clock())


def off(engine: Engine, now: datetime) -> list[tuple[str, str, int]]:
    with reading(engine) as conn:
        return [(one.app_id, f"{one.day:%m-%d}", one.counts.off) for one in imbalances(conn, now)]


def day(engine: Engine, app: App, at: datetime) -> ledger.Counts:
    with reading(engine) as conn:
        rows = ledger.days(conn, since=ledger.day_of(at), until=ledger.day_of(at), app_id=app.id)
    return rows[0][2]


def id_of(world: World, event_id: str) -> int:
    return int(world.event(event_id).id)


def test_the_account_balances_along_the_main_road_and_back(world: World, shop: App, clock: Clock) -> None:
    """New, repeated, skipped, delivered, parked, released, dead, sent again, emptied: checked after each step."""

    def balanced() -> None:
        assert off(world.engine, clock.now) == []
        accounts.keep(world.engine, POLICY, now=clock.now)
        assert off(world.engine, clock.now) == []
        with reading(world.engine) as conn:
            assert ledger.out_of_balance(conn) == []

    sent = [world.an_event(shop) for _ in range(5)]
    balanced()
    told(world, world.new_event(shop, event_id=sent[0]), world.new_event(shop, event_id=sent[1]))
    told(world, replace(world.new_event(shop), skipped="no_consent"))
    twin = world.new_event(shop)
    told(world, twin, twin)
    balanced()
    world.deliver(shop)
    balanced()
    world.meta.kill(shop.token, 460)  # type: ignore[arg-type]
    late = [world.an_event(shop) for _ in range(3)]
    world.deliver(shop)
    assert world.state_of(late[0]) == "parked"
    balanced()
    with writing(world.engine) as conn:
        outbox.move(conn, "bury", [id_of(world, late[0])], failure="past_deadline")
    balanced()
    assert day(world.engine, shop, NOON) == ledger.Counts(
        received=13, duplicate=3, accepted=6, skipped=1, dead=1, waiting=2
    )
    with writing(world.engine) as conn:
        outbox.move(conn, "retry", [id_of(world, late[0])])
        outbox.release(conn, [shop.id], str(shop.fingerprint), now=clock.now)
        outbox.redact(conn, [id_of(world, late[1])], due=True)
        outbox.move(conn, "skip", [id_of(world, late[2])], failure="no_consent")
    balanced()
    assert day(world.engine, shop, NOON) == ledger.Counts(
        received=13, duplicate=3, accepted=6, skipped=2, dead=1, waiting=1
    )
    with reading(world.engine) as conn:
        assert conn.scalar(select(func.count()).select_from(capi_taken)) == 0


def test_an_event_belongs_to_the_day_on_which_it_came_and_is_counted_when_it_goes(
    world: World, shop: App, clock: Clock
) -> None:
    sent = world.an_event(shop)
    clock.now = NOON + 2 * DAY
    world.an_event(shop)
    accounts.keep(world.engine, POLICY, now=clock.now)
    assert [day(world.engine, shop, NOON + n * DAY).waiting for n in (0, 2)] == [1, 1]
    world.deliver(shop)
    assert world.state_of(sent) == "delivered"
    clock.now += 61 * MINUTE  # older days are counted once an hour while something waits
    accounts.keep(world.engine, POLICY, now=clock.now)
    assert [day(world.engine, shop, NOON + n * DAY).accepted for n in (0, 2)] == [1, 1]
    assert off(world.engine, clock.now) == []


def test_a_day_with_one_waiting_event_is_counted_once_an_hour(world: World, shop: App, clock: Clock) -> None:
    """What has not changed is noted as seen all the same, else the day would be due at every look."""
    other = world.an_app(world.meta.create_token())
    world.an_event(other)
    world.deliver(other)
    world.an_event(shop)
    clock.now = later = NOON + 2 * DAY
    today = ledger.day_of(NOON)

    def due(minutes: int) -> bool:
        with reading(world.engine) as conn:
            return today in ledger.days_due(conn, now=later + minutes * MINUTE)

    for minutes in (0, 61):
        assert due(minutes)
        accounts.keep(world.engine, POLICY, now=later + minutes * MINUTE)
        assert not due(minutes + 1)
    assert (due(120), due(122)) == (False, True)


def test_a_skipped_line_that_gives_way_on_another_day_keeps_both_days_right(
    world: World, shop: App, clock: Clock
) -> None:
    """The browser's call was skipped; the next day a webhook tells of the same and takes its line."""
    first = replace(world.new_event(shop), skipped="no_value")
    assert told(world, first) == [True]
    clock.now = NOON + DAY
    assert told(world, replace(first, skipped=None, source="orders/create")) == [True]
    assert off(world.engine, clock.now) == []
    accounts.keep(world.engine, POLICY, now=clock.now)
    assert day(world.engine, shop, NOON) == ledger.Counts(received=1, waiting=1)
    assert day(world.engine, shop, clock.now) == ledger.Counts(received=1, duplicate=1)
    world.deliver(shop)
    assert off(world.engine, clock.now) == []


@pytest.mark.parametrize("folded", [False, True])
def test_a_line_that_is_gone_is_found_told_and_named(world: World, shop: App, clock: Clock, folded: bool) -> None:
    """A row deleted by hand: an alert, the metric, the console's line, with app and day."""
    lost = world.an_event(shop)
    world.an_event(shop)
    if folded:
        accounts.keep(world.engine, POLICY, now=clock.now)
    with writing(world.engine) as conn:
        gone = id_of(world, lost)
        conn.execute(delete(capi_outbox).where(capi_outbox.c.id == gone))
        conn.execute(delete(capi_event).where(capi_event.c.id == gone))
    assert off(world.engine, clock.now) == [(shop.id, "11-23", 1)]
    accounts.keep(world.engine, POLICY, now=clock.now)
    alerts.scan(world.engine, POLICY, now=clock.now, kinds=alerts.SLOW)
    with reading(world.engine) as conn:
        assert [(row.kind, row.subject) for row in alert_keeper.open_alerts(conn)] == [("ledger", shop.id)]
        (line,) = shown.off(conn)
        every = shown.account(conn, now=clock.now, days=1)
        figures = snapshot.figures(conn, now=clock.now, soon=DAY, window=DAY, tasks=[])
    assert (line.app_name, f"{line.day:%Y-%m-%d}") == (shop.name, "2026-11-23")
    assert line.words == "1 event came in and stands in no account"
    assert [(row.app_name, row.counts.off) for row in every] == [("all", 1), (shop.name, 1)]
    assert figures["capi_ledger_off", ""] == 1


def test_a_line_that_nobody_counted_is_found_too(world: World, shop: App, clock: Clock) -> None:
    world.an_event(shop)
    with writing(world.engine) as conn:
        conn.execute(delete(capi_taken))
    accounts.keep(world.engine, POLICY, now=clock.now)
    assert off(world.engine, clock.now) == [(shop.id, "11-23", -1)]


def test_an_imbalance_of_a_day_that_nobody_counts_again_becomes_history(world: World, shop: App, clock: Clock) -> None:
    world.an_event(shop)
    with writing(world.engine) as conn:
        conn.execute(delete(capi_outbox))
        conn.execute(delete(capi_event))
    for days, open_ in ((0, 1), (ledger.LOOKED_BACK - 1, 1), (ledger.LOOKED_BACK, 0)):
        clock.now = NOON + days * DAY
        world.an_event(shop)
        accounts.keep(world.engine, POLICY, now=clock.now)
        alerts.scan(world.engine, POLICY, now=clock.now, kinds=["ledger"])
        with reading(world.engine) as conn:
            alerted, off_ = alert_keeper.open_alerts(conn), ledger.out_of_balance(conn)
            assert len(alerted) == len(off_) == ledger.days_off(conn) == open_
            figures = snapshot.figures(conn, now=clock.now, soon=DAY, window=DAY, tasks=[])
            assert figures["capi_ledger_off", ""] == open_
            kept = [row.counts.off for row in shown.account(conn, now=clock.now, days=30, app=shop.id)]
        assert kept[-1] == 1, "it can still be looked up"


def test_an_imbalance_that_is_mended_is_over(world: World, shop: App, clock: Clock) -> None:
    world.an_event(shop)
    with writing(world.engine) as conn:
        row = dict(conn.execute(select(capi_event)).one()._mapping)
        conn.execute(delete(capi_event))
    for wrong in (1, 0):
        accounts.keep(world.engine, POLICY, now=clock.now)
        alerts.scan(world.engine, POLICY, now=clock.now, kinds=["ledger"])
        with reading(world.engine) as conn:
            assert len(alert_keeper.open_alerts(conn)) == wrong
        with writing(world.engine) as conn:
            if wrong:
                conn.execute(insert(capi_event).values(**row))


def test_events_and_their_count_are_written_together_or_not_at_all(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_apps(engine, 1, now=NOON)
    intake = Intake(engine, clock=Clock(NOON))
    one = NewEvent("a0", "0", "Lead", "e1", "track", NOON, NOON + 7 * DAY, b"{}")

    async def write(event_id: str) -> None:
        await intake.start()
        try:
            await intake.write(Entry((replace(one, event_id=event_id),)))
        finally:
            await intake.stop()

    asyncio.run(write("e1"))
    monkeypatch.setattr("core.failpoints.hit", _breaks)
    with pytest.raises(StoreError):
        asyncio.run(write("e2"))
    with reading(engine) as conn:
        assert conn.scalar(select(func.count()).select_from(capi_event)) == 1
        assert conn.scalar(select(func.count()).select_from(capi_taken)) == 1
    assert off(engine, NOON) == []


def _breaks(place: str) -> None:
    if place == "intake.before_commit":
        raise OSError("the disk is full")


def test_old_lines_go_and_the_account_stays(world: World, shop: App, clock: Clock) -> None:
    world.an_event(shop)
    world.deliver(shop)
    accounts.keep(world.engine, POLICY, now=clock.now)
    before = day(world.engine, shop, NOON)
    later = NOON + 95 * DAY
    assert upkeep.forget(world.engine, POLICY, now=later)
    accounts.keep(world.engine, POLICY, now=later)
    with reading(world.engine) as conn:
        assert conn.scalar(select(func.count()).select_from(capi_event)) == 0
        assert ledger.out_of_balance(conn) == []
    assert day(world.engine, shop, NOON) == before
    upkeep.forget(world.engine, POLICY, now=NOON + 402 * DAY)
    with reading(world.engine) as conn:
        assert conn.scalar(select(func.count()).select_from(capi_ledger)) == 0


def test_days_of_which_lines_are_dropped_early_are_not_checked(world: World, shop: App, clock: Clock) -> None:
    short = Policy(keep_events=3 * DAY)
    world.an_event(shop)
    world.deliver(shop)
    accounts.keep(world.engine, short, now=clock.now)
    clock.now = NOON + 4 * DAY
    upkeep.forget(world.engine, short, now=clock.now)
    accounts.keep(world.engine, short, now=clock.now)
    with reading(world.engine) as conn:
        assert conn.scalar(select(func.count()).select_from(capi_event)) == 0
        assert ledger.out_of_balance(conn) == []


def test_what_stood_there_before_it_was_counted_is_no_imbalance(world: World, shop: App, clock: Clock) -> None:
    """A database of the version before: its account begins with the first day that was counted as a whole."""
    world.an_event(shop)
    with writing(world.engine) as conn:
        conn.execute(delete(capi_taken))
        begins = ledger.day_of(NOON) + 2 * DAY
        conn.execute(insert(capi_schedule).values(task=ledger.BEGINS, due_at=begins))
    accounts.keep(world.engine, POLICY, now=clock.now)
    assert off(world.engine, clock.now) == []
    assert day(world.engine, shop, NOON) == ledger.Counts(received=1, waiting=1)
    clock.now = NOON + 2 * DAY
    world.an_event(shop)
    with writing(world.engine) as conn:
        conn.execute(delete(capi_event).where(capi_event.c.received_at > NOON + DAY))
    accounts.keep(world.engine, POLICY, now=clock.now)
    assert [one[1:] for one in off(world.engine, clock.now)] == [("11-25", 1)]


def test_much_is_folded_in_small_steps_and_counted_when_all_of_it_is(
    world: World, shop: App, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(12):
        world.an_event(shop)
    monkeypatch.setattr(ledger, "STEP", 5)
    turns = iter((0.0, 30.0))
    assert accounts.keep(world.engine, POLICY, now=clock.now, clock=lambda: next(turns)) == 0
    assert day(world.engine, shop, NOON).received == 5
    assert off(world.engine, clock.now) == []
    assert accounts.keep(world.engine, POLICY, now=clock.now) > 0
    assert day(world.engine, shop, NOON) == ledger.Counts(received=12, waiting=12)


def test_what_comes_in_between_the_look_and_the_writing_is_not_lost(world: World, shop: App, clock: Clock) -> None:
    world.an_event(shop)
    with reading(world.engine) as conn:
        seen = ledger.look(conn, ledger.day_of(NOON))
    world.an_event(shop)
    with writing(world.engine) as conn:
        while ledger.fold(conn):  # another worker was quicker
            pass
        ledger.put(conn, seen, [shop.id], now=clock.now)
    assert day(world.engine, shop, NOON).received == 2
    accounts.keep(world.engine, POLICY, now=clock.now)
    assert day(world.engine, shop, NOON) == ledger.Counts(received=2, waiting=2)


def test_neither_the_count_nor_the_console_reads_all_events(world: World, shop: App, clock: Clock) -> None:
    world.an_event(shop)
    days = [ledger.day_of(NOON) - ago * DAY for ago in range(ledger.LOOKED_BACK)]
    with writing(world.engine) as conn:
        rows = [{"app_id": f"other{n}", "day": day, "checked_at": NOON} for n in range(300) for day in days]
        conn.execute(insert(capi_ledger), rows)
        conn.execute(text("ANALYZE"))
    with planned(world.engine) as plans:
        accounts.keep(world.engine, POLICY, now=clock.now)
        with reading(world.engine) as conn:
            imbalances(conn, clock.now)
            ledger.why_missing(conn, shop.id, ledger.day_of(NOON), ledger.day_of(NOON))
            shown.order_days(conn, shop.id, now=clock.now)
            shown.off(conn)
    assert len(plans) > 20
    lines = [line.strip(" ->") for plan in plans for line in plan.splitlines()]
    assert [one for one in lines if "capi_event" in one and ("Seq Scan" in one or _is_scan(one))] == []
    assert any("ix_capi_ledger_off" in one for one in lines)


def _is_scan(line: str) -> bool:
    return line.startswith("SCAN capi_event") and "USING" not in line


def test_a_group_costs_one_statement_more(engine: Engine) -> None:
    many_apps(engine, 8, now=NOON)
    said: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *seen: said.append(seen[2]))
    events = [
        NewEvent(f"a{n % 8}", str(n % 8), "Lead", f"e{n}", "track", NOON, NOON + 7 * DAY, b"{}") for n in range(64)
    ]
    with writing(engine) as conn:
        acceptance.accept(conn, events, now=NOON)
    assert [one for one in said if "capi_taken" in one] == [one for one in said if one.startswith("INSERT INTO capi_t")]
    assert sum("capi_taken" in one for one in said) == 1
    assert not [one for one in said if "capi_ledger" in one]


# ---- orders


def orders(world: World, app: App, count: int, *, start: int = 0, **more: Any) -> list[str]:
    paid = {"event_name": "Purchase", "custom_data": {"value": 10, "currency": "EUR"}}
    numbers = range(start, start + count)
    made = [replace(world.new_event(app, event_id=f"p{n}", **paid), order_id=f"#{n}", **more) for n in numbers]
    told(world, *made)
    return [one.event_id for one in made]


def missing(engine: Engine, now: datetime) -> list[str]:
    accounts.keep(engine, POLICY, now=now)
    alerts.scan(engine, POLICY, now=now, kinds=["orders_missing"])
    with reading(engine) as conn:
        return [row.subject for row in alert_keeper.open_alerts(conn)]


def test_orders_that_meta_lacks_are_told_once_the_day_has_settled_and_over_when_they_arrive(
    world: World, shop: App, clock: Clock
) -> None:
    orders(world, shop, 8)
    world.deliver(shop)
    late = orders(world, shop, 4, start=8)
    orders(world, shop, 5, start=50, skipped="test_order")  # these should not be there at all
    assert missing(world.engine, NOON + 16 * HOUR) == []  # four in the night: it may still come
    assert missing(world.engine, NOON + 19 * HOUR) == [shop.id]
    with reading(world.engine) as conn:
        (seen,) = shown.order_days(conn, shop.id, now=NOON + 19 * HOUR)
    counts = seen.counts
    assert (counts.orders, counts.purchases, counts.kept_back, counts.missing) == (17, 8, 5, 4)
    assert seen.why == "4 wait: on their way"
    clock.now = NOON + 20 * HOUR
    world.deliver(shop)
    assert world.state_of(late[0]) == "delivered"
    assert missing(world.engine, clock.now) == []


def test_the_reason_is_told_by_what_became_of_the_orders(world: World, shop: App, clock: Clock) -> None:
    orders(world, shop, 6)
    dead, gone = [id_of(world, one) for one in orders(world, shop, 5, start=6)], "past_deadline"
    orders(world, shop, 2, start=20, skipped="no_value")
    with writing(world.engine) as conn:
        outbox.move(conn, "bury", dead, failure=gone)
        conn.execute(update(capi_event).where(capi_event.c.state == "due").values(state="parked", failure="no_token"))
        conn.execute(update(capi_outbox).where(capi_outbox.c.state == "due").values(state="parked"))
    now = NOON + 19 * HOUR
    assert missing(world.engine, now) == [shop.id]
    with reading(world.engine) as conn:
        (seen,) = shown.order_days(conn, shop.id, now=now)
    assert seen.why == (
        "6 wait: The app has no access token yet; 5 will never go: It waited until Meta would no longer take it; "
        "2 were not sent: A purchase without a value"
    )


def test_what_is_nobodys_to_mend_is_no_missing_order() -> None:
    """Each reason not to send a purchase of which nobody has to do anything is kept back; the rest are not reasons to
    skip one: carts and checkouts, repeated events, and what ended after it had waited."""
    others = {"duplicate", "empty", "completed", "past_deadline", "app_gone", "redacted"}
    nobodys = {reason for reason, said in REASONS.items() if said.whose == NOBODY}
    assert nobodys - others == set(ledger.KEPT_BACK) - {"paused", "pixel_disabled"}
    assert set(ledger.KEPT_BACK) <= set(REASONS)


def test_an_order_told_twice_is_one_and_a_few_orders_are_no_alert(world: World, shop: App, clock: Clock) -> None:
    orders(world, shop, 9)
    told(world, replace(world.new_event(shop, event_name="Purchase"), order_id="#3", source="orders/create"))
    assert missing(world.engine, NOON + 19 * HOUR) == []
    assert day(world.engine, shop, NOON).orders == 9
    assert day(world.engine, shop, NOON).waiting == 10


def test_orders_that_were_forgotten_for_privacy_unbalance_nothing(world: World, shop: App, clock: Clock) -> None:
    sent = orders(world, shop, 12)
    world.deliver(shop)
    with writing(world.engine) as conn:
        outbox.forget_orders(conn, [id_of(world, one) for one in sent[:6]])
    assert missing(world.engine, NOON + 19 * HOUR) == []
    assert off(world.engine, clock.now) == []
    assert day(world.engine, shop, NOON).orders == 6
