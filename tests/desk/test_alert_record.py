"""Who was told of an alert, when, and what the address said when it did not take it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine

from core.desk import alerts as desk
from core.desk import frames_alerts, incidents
from core.store import alerts, channels
from core.store.alerts import NewAlert
from core.store.database import reading, writing
from tests.desk import trouble
from tests.services.alerting import Receiver, a_receiver, channels_for, tell

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with a_receiver() as receiver:
        yield receiver


def _open(engine: Engine, subject: str, now: datetime) -> None:
    with writing(engine) as conn:
        alerts.open_(conn, [NewAlert("expiring", subject, 3, f"Shop {subject}", now)], now=now)


def _record(engine: Engine, now: datetime) -> dict[str, list[tuple[datetime, int, str | None]]]:
    with reading(engine) as conn:
        rows = desk.alert_record(conn, since=now - 30 * DAY)
    return {row.alert.subject: [(told.at, told.tries, told.error) for told in row.told] for row in rows}


def test_every_alert_says_when_its_message_was_taken(engine: Engine, now: datetime, hook: Receiver) -> None:
    (channel,) = channels_for(hook.address)
    _open(engine, "open before", now - DAY)
    tell(engine, [channel], now=now)
    _open(engine, "later", now + MINUTE)
    assert _record(engine, now)["later"] == [], "nobody was told of it yet"
    tell(engine, [channel], now=now + DAY)
    assert _record(engine, now) == {"later": [(now + DAY, 1, None)], "open before": [(now, 1, None)]}
    with writing(engine) as conn:
        alerts.close(conn, [1], now=now + 2 * DAY)
    tell(engine, [channel], now=now + 3 * DAY)
    assert _record(engine, now)["open before"] == [(now, 1, None)], "its end is another message"


def test_an_address_that_did_not_take_it_says_why(engine: Engine, now: datetime, hook: Receiver) -> None:
    (channel,) = channels_for(hook.address)
    hook.status = 503
    _open(engine, "x", now)
    for minutes in (0, 30):
        tell(engine, [channel], now=now + minutes * MINUTE)
    ((at, tries, error),) = _record(engine, now)["x"]
    assert (at, tries) == (now + 30 * MINUTE, 2)
    assert "503" in str(error)
    hook.status = 200
    tell(engine, [channel], now=now + 90 * MINUTE)
    assert _record(engine, now)["x"] == [(now + 90 * MINUTE, 3, None)]


def test_what_was_told_long_ago_is_forgotten_with_its_alert(engine: Engine, now: datetime) -> None:
    for subject, at in (("old", now - 100 * DAY), ("new", now)):
        _open(engine, subject, at)
        with writing(engine) as conn:
            channels.know(conn, "fp_1", "mail", now=at)
            channels.told(conn, "fp_1", up_to=1 if subject == "old" else 2, now=at, next_at=at)
    with writing(engine) as conn:
        alerts.close(conn, [1], now=now - 99 * DAY)
        alerts.forget_old(conn, before=now - 90 * DAY)
        assert [row.at for row in channels.messages(conn, since=now - 200 * DAY)] == [now]


def test_the_tables_say_it_in_words(engine: Engine, now: datetime) -> None:
    trouble.incident(engine, now=now)
    _open(engine, "x", now)
    with writing(engine) as conn:
        channels.know(conn, "fp_1", "mail to ops", now=now)
        channels.not_told(conn, "fp_1", error="no answer", now=now, next_at=now)
    with reading(engine) as conn:
        told = frames_alerts.record(desk.alert_record(conn, since=now - DAY), lambda at: f"{at:%H:%M}")
        past = frames_alerts.incidents(incidents.incident_history(conn))
    assert list(told["Told"]) == ["mail to ops not yet, tried 1 times until 12:00: no answer"]
    assert list(past["Refusals"]) == [17]
