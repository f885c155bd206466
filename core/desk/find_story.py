"""The whole story of one thing as one timeline: from the request that brought it to Meta's acceptance."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from core.desk import find_lines as parts
from core.desk.explain import NOBODY, Explanation, explain
from core.desk.find_app import app_story
from core.desk.find_event import event_story
from core.desk.find_shape import BAD, GOOD, Period, Story, in_order, utc
from core.errors import NotFound
from core.services.outcome import USABLE
from core.store.schema import capi_attempt, capi_refresh

# What is looked at around a request, and around a refresh.
_BEFORE, _AFTER, _AROUND = timedelta(hours=1), timedelta(days=1), timedelta(days=7)


def story(conn: Connection, kind: str, key: str, *, now: datetime) -> Story:
    """Of a `find.Hit`; NotFound when it is not stored any more, KeyError for another kind."""
    return STORIES[kind](conn, key, now)


def _request(conn: Connection, key: str, now: datetime) -> Story:
    row = conn.execute(select(capi_attempt).where(capi_attempt.c.id == int(key))).first()
    if row is None:
        raise NotFound("this request is not stored any more")
    period = Period(row.at - _BEFORE, min(now, row.at + _AFTER))
    rows = parts.refresh_rows(conn, [row.fingerprint], None, period)
    known = parts.closure([row.fingerprint], rows)
    lines = [
        *parts.requests(conn, row.pixel_id, period, own=row.id, fingerprints=known),
        *parts.broken(conn, known, period),
        *parts.refreshes(rows),
        *parts.cases(conn, known, period),
        *parts.incidents(conn, period),
    ]
    code = "/".join(str(number) for number in (row.code, row.subcode) if number is not None)
    facts = {
        "Trace id": row.trace_id or "–",
        "Pixel": row.pixel_id,
        "Events": f"{row.events:,}",
        "Answer": f"HTTP {row.status or '–'}, code {code or '–'}, {row.duration_ms} ms",
        "Token": row.fingerprint,
    }
    accepted = Explanation("Meta accepted this request", NOBODY, "Nothing")
    return Story(
        f"Request to Meta, {utc(row.at)}",
        explain(row.failure) if row.failure else accepted,
        BAD if row.failure else GOOD,
        facts,
        in_order(lines),
    )


def _refresh(conn: Connection, key: str, now: datetime) -> Story:
    row = conn.execute(select(capi_refresh).where(capi_refresh.c.id == int(key))).first()
    if row is None:
        raise NotFound("this refresh is not stored any more")
    period = Period(row.started_at - _AROUND, min(now, row.started_at + _AROUND))
    rows = parts.refresh_rows(conn, [row.fingerprint, row.new_fingerprint or row.fingerprint], row.user_id, period)
    known = parts.closure([row.fingerprint], rows)
    lines = [*parts.refreshes(rows), *parts.broken(conn, known, period), *parts.cases(conn, known, period)]
    facts = {
        "Trace id": row.trace_id or "–",
        "Token": f"{row.fingerprint} → {row.new_fingerprint or 'kept'}",
        "Ends": f"{utc(row.expires_before)} → {utc(row.expires_after)}",
        "Asked by": f"{row.by}, {row.trigger.replace('_', ' ')}",
    }
    tone = GOOD if row.outcome in USABLE else BAD
    title = f"Token refresh, {utc(row.started_at)}"
    return Story(title, explain(row.outcome), tone, facts, in_order([*lines, *parts.incidents(conn, period)]))


STORIES: dict[str, Callable[[Connection, str, datetime], Story]] = {
    "event": event_story,
    "request": _request,
    "refresh": _refresh,
    "app": app_story,
}
