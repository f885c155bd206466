"""A shop is silent when less comes than by its own week, and only then; weeks are played by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, event, insert, select, update

from core.desk import accounts as shown
from core.desk import find_story
from core.desk.app_list import app_rows
from core.services import alerts, shortfalls
from core.services.policy import Policy
from core.store import alerts as alert_keeper
from core.store import ledger, receipts, rhythms
from core.store.database import reading, writing
from core.store.schema import capi_app, capi_rhythm, capi_taken
from tests.desk.test_find import planned
from tests.services.alerting import DAY, HOUR, MINUTE, a_receiver, channels_for, many_apps, tell

POLICY = Policy()
MONDAY = datetime(2026, 10, 26, tzinfo=UTC)
Opens = Callable[[datetime], bool]
TRACK, WEBHOOK = "track", "webhook"


def hears(engine: Engine, app_id: str, kind: str, moments: Iterable[datetime]) -> None:
    with writing(engine) as conn:
        rhythms.hear(conn, {(app_id, kind): list(moments)})


def weeks(
    start: datetime, end: datetime, *, every: timedelta = 10 * MINUTE, when: Opens = lambda _: True
) -> list[datetime]:
    """Moments at which something came in, at this pace while `when` says so."""
    count = (end - start) // every
    return [at for n in range(count) if when(at := start + n * every)]


def lived(
    engine: Engine, until: datetime, *, number: int = 0, kinds: tuple[str, ...] = (TRACK, WEBHOOK), **more
) -> None:
    """A shop that was open from MONDAY until then."""
    for kind in kinds:
        hears(engine, f"a{number}", kind, weeks(MONDAY, until, **more))


def silent(engine: Engine, now: datetime) -> dict[str, tuple[tuple[str, ...], str]]:
    with reading(engine) as conn:
        return {one.app_id: (one.kinds, one.cause) for one in shortfalls.silence(conn, now=now).shops}


def by_day(moment: datetime) -> bool:
    return 8 <= moment.hour < 20


@pytest.fixture
def shop(engine: Engine) -> Engine:
    many_apps(engine, 1, now=MONDAY)
    return engine


NOW = MONDAY + 21 * DAY + 10 * HOUR


def test_a_busy_shop_is_silent_after_two_hours(shop: Engine) -> None:
    lived(shop, NOW)
    assert silent(shop, NOW + 100 * MINUTE) == {}
    assert silent(shop, NOW + 125 * MINUTE) == {"a0": ((TRACK, WEBHOOK), "quiet")}
    hears(shop, "a0", TRACK, [NOW + 126 * MINUTE])
    hears(shop, "a0", WEBHOOK, [NOW + 126 * MINUTE])
    assert silent(shop, NOW + 127 * MINUTE) == {}


def test_a_shop_that_sleeps_at_night_is_not_silent_at_night(shop: Engine) -> None:
    evening = MONDAY + 22 * DAY + 20 * HOUR
    lived(shop, evening, when=by_day)
    for hours in range(1, 14):
        assert silent(shop, evening + hours * HOUR) == {}
    assert silent(shop, evening + 14 * HOUR + 10 * MINUTE) != {}


def test_a_shop_that_is_closed_on_sundays_is_not_silent_on_sunday(shop: Engine) -> None:
    saturday = MONDAY + 27 * DAY - 10 * MINUTE  # its last minutes
    assert saturday.weekday() == 5
    lived(shop, saturday, when=lambda at: at.weekday() != 6)
    for hours in range(1, 25):
        assert silent(shop, saturday + hours * HOUR) == {}
    assert silent(shop, saturday + 27 * HOUR) != {}


def test_a_shop_of_few_visitors_has_its_time(shop: Engine) -> None:
    """One visit in eight hours: four days without any are four times the usual wait for twelve."""
    lived(shop, NOW, every=8 * HOUR)
    assert silent(shop, NOW + 3 * DAY) == {}
    assert silent(shop, NOW + 5 * DAY) == {"a0": ((TRACK, WEBHOOK), "quiet")}


def test_many_events_of_one_visit_are_one_sign_of_life(shop: Engine) -> None:
    hears(shop, "a0", TRACK, [MONDAY + n * timedelta(seconds=1) for n in range(300)])
    hears(shop, "a0", TRACK, [MONDAY + 9 * MINUTE, MONDAY + 2 * HOUR])
    with reading(shop) as conn:
        (row,) = rhythms.of_apps(conn, ["a0"])
    assert row.expected[:3] == [1.0, 0.0, 0.0]
    assert (row.count, row.hour, row.last_at) == (1, MONDAY + 2 * HOUR, MONDAY + 2 * HOUR)


def test_newer_weeks_weigh_more_and_empty_hours_are_learnt(shop: Engine) -> None:
    hears(shop, "a0", TRACK, [MONDAY, MONDAY + 7 * DAY, MONDAY + 14 * DAY + 5 * HOUR])
    with reading(shop) as conn:
        (row,) = rhythms.of_apps(conn, ["a0"])
    assert row.weeks == 2
    assert row.expected[0] == pytest.approx((1 - rhythms.WEIGHT) * 1.0)
    assert row.awaited(MONDAY, MONDAY + 7 * DAY) == pytest.approx(sum(row.expected))
    assert row.awaited(MONDAY + 30 * MINUTE, MONDAY + 14 * DAY + HOUR) == pytest.approx(0.7 * 2.5)


def test_nobody_is_called_silent_before_two_weeks_are_known(shop: Engine) -> None:
    lived(shop, MONDAY + 13 * DAY)
    assert silent(shop, MONDAY + 14 * DAY) == {}


def test_a_paused_app_and_one_that_is_gone_for_weeks_are_let_be(shop: Engine) -> None:
    lived(shop, NOW)
    assert silent(shop, NOW + 27 * DAY) != {}
    assert silent(shop, NOW + 29 * DAY) == {}
    with writing(shop) as conn:
        conn.execute(update(capi_app).values(paused_at=NOW))
    assert silent(shop, NOW + DAY) == {}


def test_one_that_comes_back_is_learnt_anew(shop: Engine) -> None:
    lived(shop, NOW, kinds=(TRACK,))
    hears(shop, "a0", TRACK, [NOW + 40 * DAY])
    with reading(shop) as conn:
        (row,) = rhythms.of_apps(conn, ["a0"])
    assert (row.weeks, sum(row.expected), row.count) == (0, 0, 1)


# ---- the likely cause


def test_webhooks_that_are_gone(shop: Engine) -> None:
    lived(shop, NOW)
    hears(shop, "a0", TRACK, weeks(NOW, NOW + 3 * HOUR))
    assert silent(shop, NOW + 3 * HOUR) == {"a0": ((WEBHOOK,), "webhooks_gone")}


def test_browsers_that_do_not_reach_us(shop: Engine) -> None:
    lived(shop, NOW)
    hears(shop, "a0", WEBHOOK, weeks(NOW, NOW + 3 * HOUR))
    assert silent(shop, NOW + 3 * HOUR) == {"a0": ((TRACK,), "browser_blocked")}


def test_a_shop_of_one_kind_alone_is_quiet(shop: Engine) -> None:
    lived(shop, NOW, kinds=(TRACK,))
    assert silent(shop, NOW + 3 * HOUR) == {"a0": ((TRACK,), "quiet")}


def test_requests_that_are_all_refused_tell_why(shop: Engine) -> None:
    lived(shop, NOW)
    hears(shop, "a0", WEBHOOK, weeks(NOW, NOW + 3 * HOUR))
    said = {"source": "track", "status": 403, "app_id": "a0"}
    with writing(shop) as conn:
        for number, reason in enumerate(("other_origin", "other_origin", "unreadable", "other_origin")):
            receipts.record(conn, **said, reason=reason, now=NOW + number * MINUTE)
        for number in range(5):  # of another kind, and before it fell silent
            receipts.record(conn, **said | {"source": "orders/create"}, reason="stale", now=NOW + number * MINUTE)
            receipts.record(conn, **said, reason="rate_limited", now=NOW - DAY + number * MINUTE)
    with reading(shop) as conn:
        (one,) = shortfalls.silence(conn, now=NOW + 3 * HOUR).shops
        told = shown.silent_because(one)
    assert (one.cause, one.detail) == ("refused", "other_origin")
    assert "Requests come and none is taken (mostly: " in told


# ---- everybody, and nobody


def test_when_nothing_comes_from_anybody_it_is_no_shops_fault(engine: Engine) -> None:
    many_apps(engine, 4, now=MONDAY)
    for number in range(4):
        lived(engine, NOW, number=number, kinds=(TRACK,))
    later = NOW + 3 * HOUR
    assert silent(engine, later) == {}
    alerts.scan(engine, POLICY, now=later, kinds=alerts.SLOW)
    with reading(engine) as conn:
        assert [(row.subject, row.title) for row in alert_keeper.open_alerts(conn)] == [("", "Every shop")]
        assert shown.told(alert_keeper.open_alerts(conn)) == {}
    hears(engine, "a3", TRACK, [later])
    assert silent(engine, later + MINUTE) == {}, "what was our own outage is not held against the others"
    assert alerts.scan(engine, POLICY, now=later + MINUTE, kinds=alerts.SLOW) == alerts.Change(0, 0, 1)
    hears(engine, "a3", TRACK, weeks(later, later + 2 * HOUR))
    assert silent(engine, later + 115 * MINUTE) == {}
    assert set(silent(engine, later + 125 * MINUTE)) == {"a0", "a1", "a2"}


def test_a_shop_that_was_silent_before_our_outage_stays_so_until_it_is_heard(engine: Engine) -> None:
    """Neither "recovered" while nothing comes from anybody, nor told anew when the others are back."""
    many_apps(engine, 4, now=MONDAY)
    for number in range(4):
        lived(engine, NOW + (3 if number else 0) * HOUR, number=number, kinds=(TRACK,))
    gone, back = NOW + 3 * HOUR, NOW + 9 * HOUR

    def scan(now: datetime) -> tuple[int, int]:
        found = alerts.scan(engine, POLICY, now=now, kinds=["silent_shop"])
        return found.opened, found.closed

    assert scan(gone) == (1, 0)
    assert scan(back) == (1, 0)
    with reading(engine) as conn:
        assert {row.subject for row in alert_keeper.open_alerts(conn)} == {"a0", ""}
    hears(engine, "a3", TRACK, [back])
    assert scan(back + MINUTE) == (0, 1)
    assert set(silent(engine, back + MINUTE)) == {"a0"}
    hears(engine, "a0", TRACK, [back + 2 * MINUTE])
    assert scan(back + 3 * MINUTE) == (0, 1)


def test_a_night_in_which_every_shop_sleeps_is_no_outage(engine: Engine) -> None:
    """Else each morning would forgive the one that was lost the day before."""
    many_apps(engine, 3, now=MONDAY)
    evening = MONDAY + 22 * DAY + 20 * HOUR
    for number in range(3):
        lived(engine, evening - (0 if number else 2) * HOUR, number=number, kinds=(TRACK,), when=by_day)
    for number in (1, 2):
        hears(engine, f"a{number}", TRACK, [evening + 12 * HOUR])
    assert set(silent(engine, evening + 12 * HOUR + 20 * MINUTE)) == {"a0"}


def test_within_the_hour_the_numbers_of_a_week_are_not_written_again(shop: Engine) -> None:
    lived(shop, NOW, kinds=(TRACK,))
    written: list[str] = []
    event.listen(shop, "before_cursor_execute", lambda *seen: written.append(seen[2]))
    hears(shop, "a0", TRACK, [NOW + MINUTE])
    written.clear()
    for minutes in (2, 15, 16):
        hears(shop, "a0", TRACK, [NOW + minutes * MINUTE])
    assert len([one for one in written if one.startswith("UPDATE capi_rhythm")]) == 3
    assert not [one for one in written if one.startswith("INSERT INTO capi_rhythm")]
    with reading(shop) as conn:
        (row,) = rhythms.of_apps(conn, ["a0"])
    assert (row.last_at, row.count, row.hour) == (NOW + 16 * MINUTE, 2, NOW)
    hears(shop, "a0", TRACK, [NOW + HOUR])
    with reading(shop) as conn:
        (row,) = rhythms.of_apps(conn, ["a0"])
    assert (row.count, row.expected[NOW.weekday() * 24 + NOW.hour]) == (1, pytest.approx(0.7 * 6 + 0.3 * 2))


def test_one_shop_is_asked_for_alone(engine: Engine) -> None:
    many_apps(engine, 2, now=MONDAY)
    for number in range(2):
        lived(engine, NOW, number=number)
    with reading(engine) as conn:
        found = shortfalls.silence(conn, now=NOW + 3 * HOUR, app_id="a1")
    assert [one.app_id for one in found.shops] == ["a1"]


def test_while_arrivals_are_not_folded_nobody_is_called_silent_and_what_was_told_stands(shop: Engine) -> None:
    lived(shop, NOW)
    later = NOW + 3 * HOUR
    alerts.scan(shop, POLICY, now=later, kinds=alerts.SLOW)
    with writing(shop) as conn:
        conn.execute(insert(capi_taken).values(at=later, counts='{"a0":[1,0,1,1]}'))
    assert alerts.scan(shop, POLICY, now=later + HOUR, kinds=alerts.SLOW) == alerts.Change(0, 0, 0)
    with writing(shop) as conn:
        ledger.fold(conn)
    assert alerts.scan(shop, POLICY, now=later + HOUR, kinds=alerts.SLOW) == alerts.Change(0, 0, 1)


def test_two_hundred_silent_shops_are_one_message_and_their_return_another(
    sqlite_engine: Engine,
) -> None:
    engine = sqlite_engine
    many_apps(engine, 201, now=MONDAY)
    lived(engine, NOW, kinds=(TRACK,))
    with writing(engine) as conn:
        row = dict(conn.execute(select(capi_rhythm)).one()._mapping)
        conn.execute(insert(capi_rhythm), [row | {"app_id": f"a{n}"} for n in range(1, 201)])
    hears(engine, "a200", TRACK, weeks(NOW, NOW + 3 * HOUR))
    later = NOW + 3 * HOUR
    with a_receiver() as receiver:
        channels = channels_for(receiver.address)
        assert alerts.scan(engine, POLICY, now=later, kinds=alerts.SLOW).opened == 200
        for minutes in range(0, 30, 5):
            tell(engine, channels, later + minutes * MINUTE)
        assert len(receiver.bodies) == 1
        said = str(receiver.bodies[0])
        assert "200 shops are silent" in said
        assert "no storefront calls since 2026-11-16 09:50 UTC" in said
        assert "and 192 more" in said
        for number in range(200):
            hears(engine, f"a{number}", TRACK, [later])
        assert alerts.scan(engine, POLICY, now=later + 40 * MINUTE, kinds=alerts.SLOW).closed == 200
        tell(engine, channels, later + 40 * MINUTE)
        assert len(receiver.bodies) == 2


def test_the_console_finds_them_and_no_event_is_read_for_it(shop: Engine) -> None:
    lived(shop, NOW)
    later = NOW + 3 * HOUR
    with planned(shop) as plans:
        alerts.scan(shop, POLICY, now=later, kinds=["silent_shop", "orders_missing"])
    assert not [plan for plan in plans if "capi_event" in plan]
    with reading(shop) as conn:
        (row,) = app_rows(conn, show="silent")
        assert (row.app_id, row.silent, row.missing) == ("a0", True, False)
        assert app_rows(conn, show="orders missing") == []
        assert shown.told(alert_keeper.open_alerts(conn)) == {"silent_shop": 1}
        since, why = shown.silence_of(conn, "a0", now=later) or ("", "")
        told = find_story.story(conn, "app", "a0", now=later)
    assert since.startswith("no storefront calls and no webhooks since 2026-11-16 09:50 UTC; usually something comes 3")
    assert why.startswith("Neither storefront calls nor webhooks come")
    assert told.now.what.startswith("Neither storefront calls nor webhooks come")
    assert since in told.now.what
    assert told.tone == "wait"


def test_a_receipt_of_a_kind_is_heard_of_by_its_events(shop: Engine) -> None:
    """What intake counts is what the rhythm hears: storefront calls and webhooks apart, a person at the shell never."""
    with writing(shop) as conn:
        ledger.take(conn, [("a0", "track", True), ("a0", "orders/create", False), ("a0", "send", True)], now=MONDAY)
        ledger.take(conn, [("a0", "send", True)], now=MONDAY + HOUR)
        ledger.fold(conn)
        heard = [(one.kind, one.last_at) for one in rhythms.of_apps(conn, ["a0"])]
        ((_, _, counts),) = ledger.days(conn, since=MONDAY)
    assert sorted(heard) == [("track", MONDAY), ("webhook", MONDAY)]
    assert (counts.received, counts.duplicate) == (4, 1)
