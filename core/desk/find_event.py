"""The story of one event: brought, held, sent, refused, mended, released, accepted."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select

from core.desk import find_lines as parts
from core.desk import find_merchant as merchant
from core.desk.alert_lines import plural, span
from core.desk.detail import EventDetail, event_detail
from core.desk.explain import MERCHANT, META, NOBODY, SHOP, US, Explanation, explain
from core.desk.find_shape import BAD, GOOD, PLAIN, WAIT, Line, Period, Story, in_order, utc
from core.services.outcome import USABLE
from core.store import tokens
from core.store.platform_tables import app_settings
from core.store.schema import capi_app, capi_event, capi_join

# Requests of the shop that were not taken so shortly before or after may have to do with it.
_NEAR = timedelta(minutes=10)
# state of an event → the view of Failed events that lists it once something has held it up
_VIEWS = {"parked": "waiting", "due": "retrying", "dead": "dead"}


def event_story(conn: Connection, key: str, now: datetime) -> Story:
    """By our id of the event; NotFound."""
    seen = event_detail(conn, int(key))
    owner = parts.owner_of(conn, seen.app_id)
    period = Period(seen.received_at, max(seen.delivered_at or now, seen.received_at))
    rows = parts.refresh_rows(conn, _tokens_of(conn, seen), owner.user_id if owner else None, period)
    known = parts.closure(_tokens_of(conn, seen), rows)
    mine = [row for row in rows if {row.fingerprint, row.new_fingerprint} & known]
    aliases = parts.names(conn, seen.id)
    lines = [
        *_arrival(seen, aliases),
        *parts.browsers(conn, aliases),
        *_waits_for_browser(conn, seen),
        *_requests(conn, seen, known, period),
        *parts.broken(conn, known, period),
        *parts.refreshes(mine),
        *parts.cases(conn, known, period),
        *parts.incidents(conn, period),
        *parts.retries(conn, seen.id, since=seen.received_at),
        *parts.receipts(conn, seen.app_id, Period(seen.received_at - _NEAR, seen.received_at + _NEAR)),
    ]
    lines += _held(seen, lines, mine)
    lines += _end(seen, now)
    lost = is_lost(conn, seen.waits_for)
    number = next((row.alias.removeprefix("order:") for row in aliases if row.alias.startswith("order:#")), None)
    return Story(
        title=f"{seen.event_name}, order {number or seen.order_id}" if seen.order_id else seen.event_name,
        now=_stands(seen, lost, now),
        tone={"delivered": GOOD, "dead": BAD, "skipped": PLAIN}.get(seen.state, WAIT),
        facts=_facts(seen, owner),
        lines=in_order(lines),
        merchant=merchant.of_event(seen, number, lost_token=lost, now=now),
        view=_VIEWS.get(seen.state) if seen.failure else None,
    )


def _tokens_of(conn: Connection, seen: EventDetail) -> set[str]:
    """Tokens it was sent with, waits for, or goes out with next."""
    held = conn.scalar(select(capi_app.c.fingerprint).where(capi_app.c.app_id == seen.app_id))
    sent = seen.attempt.fingerprint if seen.attempt else None
    return {one for one in (held, sent, seen.waits_for) if one}


def is_lost(conn: Connection, fingerprint: str | None) -> bool:
    """Whether only its owner can mend this token."""
    known = tokens.get(conn, fingerprint) if fingerprint else None
    return known is not None and known.broken_since is not None and bool(known.needs_reconnect)


def _facts(seen: EventDetail, owner: Row[Any] | None) -> dict[str, str]:
    worth = f", {seen.value:,.2f} {seen.currency or ''}" if seen.value is not None else ""
    return {
        "Event": f"{seen.event_name}{worth}",
        "Event id": seen.event_id,
        "Order": seen.order_id or "–",
        "Shop": seen.shop or "–",
        "App": seen.app_name or "deleted",
        "App id": owner.public_id if owner else seen.app_id,
        "Pixel": seen.pixel_id or "–",
        "State": f"{seen.state}, tries: {seen.attempts}",
    }


def _arrival(seen: EventDetail, aliases: list[Row[Any]]) -> list[Line]:
    brought = "A browser reported it" if seen.source == "track" else f"Shopify's webhook {seen.source} reported it"
    detail = [f"event id {seen.event_id}, pixel {seen.pixel_id or 'none'}"]
    if abs(seen.received_at - seen.event_time) > timedelta(minutes=1):
        detail.append(f"it had happened {span(seen.received_at - seen.event_time)} before, {utc(seen.event_time)}")
    lines = [Line(seen.received_at, f"{brought}, and it was stored", SHOP, PLAIN, tuple(detail), 0)]
    if aliases:
        called = ", ".join(row.alias.replace(":", " ", 1) for row in aliases)
        what = "What else it is called was noted: a second report under one of these names is the same"
        lines.append(Line(min(row.at for row in aliases), what, US, PLAIN, (called,), 1))
    return lines


def _waits_for_browser(conn: Connection, seen: EventDetail) -> list[Line]:
    until = conn.scalar(select(capi_join.c.until_at).where(capi_join.c.event_id == seen.id))
    words = "It waits for its browser until then, and goes without it after"
    return [Line(until, words, US, WAIT, (), 2)] if until else []


def _requests(conn: Connection, seen: EventDetail, known: set[str], period: Period) -> list[Line]:
    """Refused requests that may have held it, and the last, which surely did."""
    own = conn.scalar(select(capi_event.c.attempt_id).where(capi_event.c.id == seen.id))
    pixel = app_settings.c.metaPixelId == seen.pixel_id
    alone = (conn.scalar(select(func.count()).select_from(app_settings).where(pixel)) or 0) <= 1
    whose = None if alone else known
    held = parts.requests(conn, seen.pixel_id, period, refused_only=True, own=own, fingerprints=whose)
    # That it was accepted is the story's end, told once.
    return [line for line in held if line.tone != GOOD]


def _held(seen: EventDetail, lines: list[Line], rows: list[Row[Any]]) -> list[Line]:
    """That it waited, and that it was set free: the ledger keeps the fact, the moments are those of what caused it."""
    if seen.state != "parked" and not seen.after_refresh:
        return []
    caused = [line.at for line in lines if line.rank in (3, 4) and line.at >= seen.received_at]
    refused = seen.attempt.at if seen.state == "parked" and seen.attempt and seen.attempt.failure else None
    at = max(refused or min(caused, default=seen.received_at), seen.received_at)
    why = explain(seen.failure).what if seen.state == "parked" else "its token did not work"
    held = Line(at, f"It was parked: {why}. No try is counted against it", US, WAIT, (), 5)
    if not seen.after_refresh or seen.state == "parked":
        return [held]
    ends = [parts.ended_at(row) for row in rows if row.outcome in USABLE and parts.ended_at(row) >= at]
    free = min(ends, default=seen.delivered_at or at)
    return [held, Line(free, "Its token works again: it was released and is due once more", US, GOOD, (), 8)]


def _end(seen: EventDetail, now: datetime) -> list[Line]:
    """What closes the story, or what is planned."""
    lines = []
    if seen.state == "delivered" and seen.delivered_at:
        waited = span(seen.delivered_at - seen.received_at)
        lines.append(
            Line(seen.delivered_at, f"Meta accepted it, {waited} after it came in", META, GOOD, _sent(seen), 9)
        )
    elif seen.state in ("dead", "skipped"):
        why = explain(seen.failure)
        refused = seen.attempt.at if seen.attempt else seen.received_at
        at = seen.received_at if seen.state == "skipped" else refused
        at = seen.deadline_at if seen.failure == "past_deadline" else at
        what = "It is not sent" if seen.state == "skipped" else "It ended here"
        lines.append(Line(at, f"{what}: {why.what}", why.whose, BAD if seen.state == "dead" else PLAIN, (), 9))
    if seen.state in ("due", "parked"):
        if seen.next_attempt_at is not None and seen.next_attempt_at < seen.deadline_at:
            lines.append(Line(max(seen.next_attempt_at, now), "It is sent next", US, WAIT, (), 9))
        lost = "From here on Meta takes it no more"
        lines.append(Line(seen.deadline_at, lost, META, WAIT, (), 10))
    return lines


def _sent(seen: EventDetail) -> tuple[str, ...]:
    attempt = seen.attempt
    if attempt is None:
        return ()
    numbers = (
        f"{plural(attempt.events, 'event')} in the request, HTTP {attempt.status or '–'}, {attempt.duration_ms} ms"
    )
    return numbers, f"token {attempt.fingerprint}, trace id {attempt.trace_id or '–'}"


LOST_TOKEN = Explanation(
    "Only the merchant can mend its token: it waits", MERCHANT, "Send the merchant the reconnect link (page Reconnect)"
)


def _stands(seen: EventDetail, lost: bool, now: datetime) -> Explanation:
    if seen.state == "delivered":
        return Explanation("Meta has accepted it", NOBODY, "Nothing")
    if seen.state == "parked" and lost:
        return replace(LOST_TOKEN, what=f"{LOST_TOKEN.what}, and is lost in {span(seen.deadline_at - now)}")
    if seen.state == "parked":
        why = explain(seen.failure)
        return replace(why, what=f"It waits, and is lost in {span(seen.deadline_at - now)}: {why.what}")
    if seen.failure is None:
        return Explanation("It is on its way", NOBODY, "Wait a moment; if it stays, see whether a worker runs (System)")
    return explain(seen.failure)
