"""The keeper of channels: where alerts are told, how far each was told, and what it has not heard yet."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, func, or_, select, update

from core.store import alerts
from core.store.database import insert_into
from core.store.schema import capi_alert, capi_channel, capi_message, capi_notice

# Longer than any pause: a moment so far ahead comes from a clock that has been put back since.
_SKEWED = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Story:
    """One alert and what became of it since a channel was told last.

    `what`: `new`, `worse`, `ended`, or `passed` when it began and ended in between.
    """

    id: int
    kind: str
    subject: str
    stage: int
    title: str
    opened_at: datetime
    closed_at: datetime | None
    what: str


@dataclass(frozen=True, slots=True)
class News:
    """What a channel has not been told, and the notice up to which this goes."""

    stories: list[Story]
    up_to: int


def know(conn: Connection, channel: str, title: str, *, now: datetime) -> None:
    """Take note of a channel. A new one is told of what is open, and of nothing that was over before it came."""
    newest = select(func.coalesce(func.max(capi_notice.c.id), 0)).scalar_subquery()
    row = insert_into(conn, capi_channel).values(channel=channel, title=title, told_up_to=newest, next_attempt_at=now)
    conn.execute(row.on_conflict_do_update(index_elements=["channel"], set_={"title": title}))


def get(conn: Connection, channel: str) -> Row[Any] | None:
    return conn.execute(select(capi_channel).where(capi_channel.c.channel == channel)).first()


def every(conn: Connection) -> list[Row[Any]]:
    return list(conn.execute(select(capi_channel).order_by(capi_channel.c.title, capi_channel.c.channel)))


def is_ready(known: Row[Any], *, now: datetime) -> bool:
    """Whether a message may be sent to it now, as far as its row tells."""
    at = known.next_attempt_at
    return at is None or at <= now or at > now + _SKEWED


def has_news(conn: Connection, known: Row[Any]) -> bool:
    """Whether there is something that this channel was not told."""
    a, n = capi_alert.c, capi_notice.c
    later = select(n.id).where(n.id > known.told_up_to).limit(1)
    if conn.scalar(later) is not None:
        return True
    return known.sent_at is None and conn.scalar(select(a.id).where(a.closed_at.is_(None)).limit(1)) is not None


def claim(conn: Connection, channel: str, *, now: datetime, until: datetime) -> bool:
    """True for the one who may send to this channel now; whoever dies on it gives it back at `until`."""
    c = capi_channel.c
    free = or_(c.next_attempt_at.is_(None), c.next_attempt_at <= now, c.next_attempt_at > now + _SKEWED)
    mine = update(capi_channel).where(c.channel == channel, free)
    return conn.execute(mine.values(next_attempt_at=until)).rowcount == 1


def told(conn: Connection, channel: str, *, up_to: int, now: datetime, next_at: datetime) -> None:
    """The channel took its message."""
    _wrote(conn, channel, up_to=up_to, error=None, now=now)
    _set(conn, channel, told_up_to=up_to, sent_at=now, next_attempt_at=next_at, failures=0, error=None)


def passed_over(conn: Connection, channel: str, *, up_to: int, now: datetime) -> None:
    """What was noticed up to here is not worth a message."""
    _set(conn, channel, told_up_to=up_to, next_attempt_at=now)


def not_told(conn: Connection, channel: str, *, error: str, now: datetime, next_at: datetime) -> None:
    """The channel did not take its message: what it would have been told waits."""
    _wrote(conn, channel, up_to=conn.scalar(select(func.max(capi_notice.c.id))) or 0, error=error, now=now)
    _set(conn, channel, failures=capi_channel.c.failures + 1, error=error, next_attempt_at=next_at)


def _wrote(conn: Connection, channel: str, *, up_to: int, error: str | None, now: datetime) -> None:
    """Note a message, or one more try of the same: it goes on from where the channel was told up to."""
    known, m = get(conn, channel), capi_message.c
    if known is None:
        return
    key = {"channel": channel, "after": known.told_up_to, "first": known.sent_at is None}
    said = {"up_to": up_to, "title": known.title, "at": now, "error": error}
    tried = insert_into(conn, capi_message).values(**key, **said, tries=1)
    conn.execute(tried.on_conflict_do_update(index_elements=list(key), set_={**said, "tries": m.tries + 1}))


def messages(conn: Connection, *, since: datetime) -> list[Row[Any]]:
    """What was sent, or tried, since then; the oldest first."""
    m = capi_message.c
    return list(conn.execute(select(capi_message).where(m.at >= since).order_by(m.at, m.channel)))


def tested(conn: Connection, channel: str, *, error: str | None, now: datetime) -> None:
    """A person's test came through, or not; when it did, what waits is sent at once."""
    if error is None:
        _set(conn, channel, failures=0, error=None, next_attempt_at=now)
    else:
        _set(conn, channel, error=error)


def forget(conn: Connection, *, keep: Collection[str], before: datetime) -> None:
    """Drop channels that are set no more and were not tried since `before`."""
    c = capi_channel.c
    conn.execute(delete(capi_channel).where(c.channel.not_in(keep), c.next_attempt_at < before))


def news(conn: Connection, channel: str) -> News:
    """What this channel has not been told; one that never took a message hears of all that is open as well."""
    known = get(conn, channel)
    if known is None:
        return News([], 0)
    n = capi_notice.c
    noticed = select(n.id.label("notice"), n.what, capi_alert).join(capi_alert, capi_alert.c.id == n.alert_id)
    rows = conn.execute(noticed.where(n.id > known.told_up_to).order_by(n.id)).all()
    begun = {row.id for row in rows if row.what == "opened"}
    stories = {row.id: _story(row, _became(row, begun)) for row in rows}
    if known.sent_at is None:
        stories = {row.id: _story(row, "new") for row in alerts.open_alerts(conn)} | stories
    return News(list(stories.values()), rows[-1].notice if rows else known.told_up_to)


def _became(row: Row[Any], begun: set[int]) -> str:
    if row.closed_at is not None:
        return "passed" if row.id in begun else "ended"
    return "new" if row.id in begun else "worse"


def _story(row: Row[Any], what: str) -> Story:
    return Story(row.id, row.kind, row.subject, row.stage, row.title, row.opened_at, row.closed_at, what)


def _set(conn: Connection, channel: str, **values: Any) -> None:
    conn.execute(update(capi_channel).where(capi_channel.c.channel == channel).values(**values))
