"""Telling: real mail over SMTP, real posts over HTTP, grouped, bounded, repeated until they are taken (R14)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, insert, update

from core.desk.alert_message import compose
from core.services import alerts, telling
from core.services.channels import Channel
from core.store import channels as keeper
from core.store import history
from core.store.database import reading, writing
from core.store.schema import capi_incident
from tests.services.alerting import (
    DAY,
    HOUR,
    MINUTE,
    MailServer,
    Receiver,
    a_receiver,
    break_tokens,
    channels_for,
    many_apps,
    mend_tokens,
    scan_and_tell,
    tell,
    wait_events,
)

SECOND = timedelta(seconds=1)


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with a_receiver() as receiver:
        yield receiver


def row_of(engine: Engine, channel: Channel) -> object:
    with reading(engine) as conn:
        return keeper.get(conn, channel.name)


def titles(hook: Receiver) -> list[str]:
    return [body["title"].removeprefix("capi-console: ") for body in hook.bodies]


def test_a_thousand_tokens_that_fail_within_five_minutes_are_three_messages_at_most(
    engine: Engine, now: datetime, mail: MailServer, hook: Receiver
) -> None:
    """R14, on real SMTP and HTTP: every token is told of, and each recovery."""
    names = many_apps(engine, 1_000, now=now)
    channels = channels_for(mail.address, hook.address)
    for tick in range(11):  # every 30 seconds, 100 more
        at = now + tick * 30 * SECOND
        break_tokens(engine, names[tick * 100 : tick * 100 + 100], now=at)
        scan_and_tell(engine, channels, at)
    assert [len(mail.mails), len(hook.bodies)] == [2, 2]
    told = [int(re.findall(r"NEEDS RECONNECT: ([\d,]+)", body["message"])[0].replace(",", "")) for body in hook.bodies]
    assert sum(told) == 1_000
    mend_tokens(engine, names)
    scan_and_tell(engine, channels, now + 10 * MINUTE)
    assert [len(mail.mails), len(hook.bodies)] == [3, 3]
    assert "ENDED: 1,000" in hook.bodies[-1]["message"]
    assert hook.bodies[-1]["type"] == "success"
    scan_and_tell(engine, channels, now + 20 * MINUTE)
    assert len(mail.mails) == 3, "silence when there is nothing to tell"


def test_a_mail_says_the_worst_first_and_what_to_do(engine: Engine, now: datetime, mail: MailServer) -> None:
    many_apps(engine, 12, now=now)
    break_tokens(engine, [f"fp_{n:016x}" for n in range(10)], now=now - HOUR, words="Error validating access token")
    wait_events(engine, 0, 3, now=now, left=2 * DAY + 3 * HOUR, value=1_000.5)
    with writing(engine) as conn:
        history.add_refresh(
            conn,
            started_at=now,
            duration_ms=1,
            trigger="on_error",
            by="w",
            user_id="u0",
            fingerprint=f"fp_{0:016x}",
            outcome="needs_reconnect",
            apps_updated=0,
            words="The session has been invalidated because the user changed their password.",
            code=190,
            subcode=460,
            trace_id="AbCdEf",
        )
    scan_and_tell(engine, channels_for(mail.address), now)
    (message,) = mail.mails
    text = message.get_content().replace("\r\n", "\n")
    assert message["subject"] == "capi-console: 10 merchants must reconnect, 3 events wait"
    assert message.get_content_type() == "text/plain"
    for line in (
        "NEEDS RECONNECT: 10",
        "  Shop 0 (shop0.example), owner0@example.com",
        "    3 events wait, worth 3,001.50 EUR; the first is lost in 2 days 3 hours",
        '    Meta: "The session has been invalidated because the user changed their password."'
        " (code 190, subcode 460, trace id AbCdEf)",
        "  and 2 more: capi-console alerts list",
    ):
        assert line in text.splitlines(), text
    assert "What to do: Send each merchant the reconnect link" in text


def test_the_first_message_goes_at_once_and_the_next_not_before_its_time(
    engine: Engine, now: datetime, hook: Receiver
) -> None:
    first, second, third = many_apps(engine, 3, now=now)
    channels = channels_for(hook.address)
    break_tokens(engine, [first], now=now)
    scan_and_tell(engine, channels, now)
    break_tokens(engine, [second], now=now + MINUTE)
    scan_and_tell(engine, channels, now + MINUTE)
    assert len(hook.bodies) == 1
    scan_and_tell(engine, channels, now + 5 * MINUTE)
    assert len(hook.bodies) == 2
    break_tokens(engine, [third], now=now + 3 * HOUR)
    scan_and_tell(engine, channels, now + 3 * HOUR)
    assert titles(hook) == ["1 merchant must reconnect"] * 3
    assert "Shop 0" not in hook.bodies[-1]["message"], "told once"


def test_what_began_and_ended_between_two_messages_is_one_line(engine: Engine, now: datetime, hook: Receiver) -> None:
    first, second = many_apps(engine, 2, now=now)
    channels = channels_for(hook.address)
    break_tokens(engine, [first], now=now)
    scan_and_tell(engine, channels, now)
    break_tokens(engine, [second], now=now + MINUTE)
    scan_and_tell(engine, channels, now + MINUTE)
    mend_tokens(engine, [second])
    scan_and_tell(engine, channels, now + 3 * MINUTE)
    scan_and_tell(engine, channels, now + 5 * MINUTE)
    assert hook.bodies[-1]["message"].splitlines() == [
        "ENDED: 1",
        "  Needs reconnect: Shop 1 (shop1.example), owner1@example.com; began and ended within 2 minutes",
    ]
    assert titles(hook)[-1] == "over: Needs reconnect (1)"


def test_a_channel_that_is_away_for_an_hour_gets_everything_afterwards_in_one_message(
    engine: Engine, now: datetime, mail: MailServer, hook: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    names = many_apps(engine, 12, now=now)
    channels = channels_for(hook.address, mail.address)
    hook.status = 503
    for tick in range(12):
        at = now + tick * 5 * MINUTE
        break_tokens(engine, names[tick : tick + 1], now=at)
        scan_and_tell(engine, channels, at)
    assert len(mail.mails) > 3, "another channel does not wait for it"
    row = row_of(engine, channels[0])
    assert row.error == "it answered 503 (Service Unavailable)"  # type: ignore[attr-defined]
    assert len(hook.paths) < 10, "tried again, later each time"
    assert caplog.text.count("a channel does not take alerts") == 1
    hook.status = 200
    scan_and_tell(engine, channels, now + 71 * MINUTE)
    assert [body["message"].splitlines()[0] for body in hook.bodies] == ["NEEDS RECONNECT: 12"]
    row = row_of(engine, channels[0])
    assert (row.failures, row.error) == (0, None)  # type: ignore[attr-defined]


def test_a_new_channel_starts_with_what_is_open_now(engine: Engine, now: datetime, hook: Receiver) -> None:
    first, second = many_apps(engine, 2, now=now)
    break_tokens(engine, [first, second], now=now)
    scan_and_tell(engine, [], now)
    mend_tokens(engine, [first])
    scan_and_tell(engine, [], now + MINUTE)
    scan_and_tell(engine, channels_for(hook.address), now + 2 * MINUTE)
    (body,) = hook.bodies
    assert "Shop 1" in body["message"]
    assert "Shop 0" not in body["message"], "that was over before it came"


def test_a_token_that_got_worse_is_not_told_of_as_ended(engine: Engine, now: datetime, hook: Receiver) -> None:
    (token,) = many_apps(engine, 1, now=now, ends_in=6 * DAY)
    channels = channels_for(hook.address)
    scan_and_tell(engine, channels, now)
    break_tokens(engine, [token], now=now + HOUR)
    scan_and_tell(engine, channels, now + HOUR)
    assert titles(hook) == ["1 token ends within 7 days", "1 merchant must reconnect"]
    assert "ENDED" not in hook.bodies[-1]["message"]


def test_the_end_of_an_incident_is_told_with_its_sum(engine: Engine, now: datetime, hook: Receiver) -> None:
    channels = channels_for(hook.address)
    row = {"kind": "meta_away", "opened_at": now, "seen_at": now, "probe_at": now, "refusals": 240, "code": 2}
    with writing(engine) as conn:
        conn.execute(insert(capi_incident).values(**row, words="Service temporarily unavailable", trace_id="TrAcE"))
    scan_and_tell(engine, channels, now + 3 * SECOND)
    with writing(engine) as conn:
        conn.execute(update(capi_incident).values(closed_at=now + 12 * MINUTE, waited=1_000))
    scan_and_tell(engine, channels, now + 12 * MINUTE)
    assert titles(hook) == ["Meta is away", "over: Incident (1)"]
    assert 'Meta: "Service temporarily unavailable" (code 2, trace id TrAcE)' in hook.bodies[0]["message"]
    ended = "  Incident: Meta is away; it lasted 12 minutes, 240 refusals, 1,000 events waited"
    assert ended in hook.bodies[1]["message"].splitlines()


def test_events_near_their_end_come_first_and_what_was_lost_is_said(
    engine: Engine, now: datetime, hook: Receiver
) -> None:
    many_apps(engine, 2, now=now)
    channels = channels_for(hook.address)
    break_tokens(engine, ["fp_0000000000000001"], now=now)
    wait_events(engine, 0, 4, now=now, left=5 * HOUR, value=10)
    scan_and_tell(engine, channels, now)
    assert titles(hook) == ["4 events are lost within 6 hours; 1 merchant must reconnect"]
    assert "4 events, worth 40.00 EUR, within 24 hours of the end; the first in 5 hours" in hook.bodies[0]["message"]
    from core.store import outbox

    with writing(engine) as conn:
        assert outbox.expire(conn, now=now + 6 * HOUR) == 4
    scan_and_tell(engine, channels, now + 6 * HOUR)
    assert "it lasted 6 hours, 4 events were lost" in hook.bodies[-1]["message"]


def test_a_worker_that_dies_after_sending_may_repeat_a_message_and_never_loses_one(
    engine: Engine, now: datetime, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    (token,) = many_apps(engine, 1, now=now)
    channels = channels_for(hook.address)
    break_tokens(engine, [token], now=now)
    with monkeypatch.context() as patch:
        patch.setattr(keeper, "told", lambda *_, **__: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            scan_and_tell(engine, channels, now)
    assert tell(engine, channels, now + MINUTE) == 0, "somebody may still be at it"
    assert tell(engine, channels, now + 3 * MINUTE) == 1
    assert len(hook.bodies) == 2


def test_two_workers_do_not_send_the_same_twice(engine: Engine, now: datetime, hook: Receiver) -> None:
    (token,) = many_apps(engine, 1, now=now)
    channels = channels_for(hook.address)
    break_tokens(engine, [token], now=now)
    second: list[int] = []

    def slowly(*args: object) -> telling.Message | None:
        second.append(tell(engine, channels, now))
        return compose(*args)  # type: ignore[arg-type]

    scan_and_tell(engine, [], now)
    assert telling.tell(engine, channels, slowly, now=now, every=MINUTE) == 1
    assert (second, len(hook.bodies)) == ([0], 1)


def test_an_address_that_is_set_wrong_is_a_visible_error_and_one_line(
    engine: Engine, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    (token,) = many_apps(engine, 1, now=now)
    channels = channels_for("mailtoo://user:hunter22@smtp.example.com", "slack://not-a-token", "no address at all")
    break_tokens(engine, [token], now=now)
    for minute in range(0, 60, 10):
        scan_and_tell(engine, channels, now + minute * MINUTE)
    with reading(engine) as conn:
        errors = {row.title: row.error for row in keeper.every(conn)}
    assert errors["mailtoo"].startswith("the address begins with 'mailtoo', which Apprise does not know")
    assert errors["slack"].startswith("the address lacks something or is malformed")
    assert caplog.text.count("a channel does not take alerts") == 3
    assert "hunter22" not in caplog.text


def test_a_channel_hears_of_what_comes_after_a_long_quiet(engine: Engine, now: datetime, hook: Receiver) -> None:
    """What is old is forgotten, and no number of a notice is given twice."""
    first, second = many_apps(engine, 2, now=now, ends_in=400 * DAY)
    channels = channels_for(hook.address)
    break_tokens(engine, [first], now=now)
    scan_and_tell(engine, channels, now)
    mend_tokens(engine, [first])
    scan_and_tell(engine, channels, now + HOUR)
    alerts.forget_old(engine, now=now + 200 * DAY)
    break_tokens(engine, [second], now=now + 200 * DAY)
    scan_and_tell(engine, channels, now + 200 * DAY)
    assert len(hook.bodies) == 3
    assert "Shop 1" in hook.bodies[-1]["message"]


def test_a_channel_that_is_set_no_more_is_forgotten(engine: Engine, now: datetime, hook: Receiver) -> None:
    channels = channels_for(hook.address)
    scan_and_tell(engine, channels, now)
    telling.forget_channels(engine, channels, now=now + 2 * DAY)
    assert row_of(engine, channels[0]) is not None
    telling.forget_channels(engine, [], now=now + 2 * DAY)
    assert row_of(engine, channels[0]) is None
