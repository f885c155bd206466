"""Alerts for people: what is open, what was, and whether the channels work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row

from core.desk.alert_lines import plural
from core.desk.alert_message import HEADINGS
from core.desk.operators import Operator
from core.errors import Refused
from core.services.channels import open_channels
from core.settings import Settings
from core.store import alerts as keeper
from core.store import audit
from core.store import channels as channel_keeper
from core.store.database import writing

_RANK = {kind: rank for rank, kind in enumerate(HEADINGS)}
_LEFT = {"expiring": "day", "deadline": "hour"}


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One alert. `stage`: days (expiring) or hours (deadline) left at most."""

    id: int
    kind: str
    subject: str
    stage: int
    title: str
    opened_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Told:
    """One address that was told of an alert at this moment; with `error` it was tried and did not take the message."""

    channel: str
    at: datetime
    tries: int
    error: str | None


@dataclass(frozen=True, slots=True)
class PastAlert:
    """An alert and who was told of it; nobody, where it was over before a message went out."""

    alert: AlertRow
    told: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """One alert address, called by a title without secrets. `error`: why it did not take its last message."""

    title: str
    sent_at: datetime | None
    next_attempt_at: datetime | None
    failures: int
    error: str | None


def open_alerts(conn: Connection) -> list[AlertRow]:
    """The worst first."""
    rows = [_row(row) for row in keeper.open_alerts(conn)]
    return sorted(rows, key=lambda row: (_RANK.get(row.kind, len(_RANK)), row.stage, row.opened_at, row.id))


def alert_history(conn: Connection, limit: int = 100) -> list[AlertRow]:
    """Newest first, open ones among them."""
    return [_row(row) for row in keeper.history(conn, limit=limit)]


def _row(row: Row[Any]) -> AlertRow:
    unit = _LEFT.get(row.kind)
    left = "" if unit is None else f": {plural(row.stage, unit)} left at most" if row.stage else ": no time left"
    return AlertRow(row.id, row.kind, row.subject, row.stage, row.title + left, row.opened_at, row.closed_at)


def alert_record(conn: Connection, *, since: datetime, limit: int = 200) -> list[PastAlert]:
    """What is open, and what was opened since then, newest first, with who was told of it."""
    rows = keeper.since(conn, since, limit=limit)
    first = min((row.opened_at for row in rows), default=since)
    messages = channel_keeper.messages(conn, since=first)
    return [PastAlert(_row(row), tuple(_told(row, messages))) for row in rows]


def _told(row: Row[Any], messages: Sequence[Row[Any]]) -> Iterator[Told]:
    """The first message of each address that told of this alert; an address's very first tells of all that is open."""
    seen: set[str] = set()
    for message in messages:
        noticed = message.after < (row.notice or 0) <= message.up_to
        open_then = row.opened_at <= message.at and (row.closed_at is None or row.closed_at > message.at)
        if message.channel not in seen and (noticed or (message.first and open_then)):
            seen.add(message.channel)
            yield Told(message.title, message.at, message.tries, message.error)


def channels(conn: Connection) -> list[ChannelRow]:
    """Every address that messages went to or should go to, as the workers know them."""
    names = ChannelRow.__dataclass_fields__
    return [ChannelRow(**{name: row._mapping[name] for name in names}) for row in channel_keeper.every(conn)]


def test_alerts(engine: Engine, settings: Settings, *, by: Operator, now: datetime) -> list[tuple[str, str | None]]:
    """Send a test message to every channel: its title, and why it was not taken (None when it was).

    Refused when no address is set.
    """
    by.must("test_alerts")
    found = open_channels(settings)
    if not found:
        raise Refused("no alert address is set: put one or more into CAPI_ALERT_URLS")
    results = []
    for channel in found:
        error = channel.send("capi-console: a test", _test_words(by, now, settings), good=True)
        results.append((channel.title, error))
        with writing(engine) as conn:
            channel_keeper.tested(conn, channel.name, error=error, now=now)
    _audit(engine, results, by, now)
    return results


def _audit(engine: Engine, results: Sequence[tuple[str, str | None]], by: Operator, now: datetime) -> None:
    subject = ", ".join(title for title, _ in results)
    with writing(engine) as conn:
        audit.write(conn, by=by.name, action="test_alerts", subject=subject, count=len(results), reason=None, now=now)


def _test_words(by: Operator, now: datetime, settings: Settings) -> str:
    return (
        f"This is a test, sent by {by.name} at {now:%Y-%m-%d %H:%M} UTC.\n\n"
        "Nothing is wrong. When something is, a message comes here at once, and then every "
        f"{settings.alert_minutes:g} minutes at most, with everything that is new since the one before.\n"
    )
