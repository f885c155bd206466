"""Browsers behind webhooks: a tracking call shows one under the keys of its cart and checkout; a webhook that lacks a
browser waits for it a while, and is then completed or goes with what it has.

What is handed on is what a browser is known by, all of it from one browser; who sat before it is never copied.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, Row

from core.errors import NotFound
from core.inbound.consent import UNSAID, Consent, keeps_back, limits_use
from core.inbound.finish import NO_CONSENT, of_the_app, refusal
from core.meta import events
from core.store import acceptance, aliases, apps, outbox, visitors
from core.store.apps import App
from core.store.database import insist, reading
from core.store.visitors import Visitor
from core.store.wake import Work, wake

Json = dict[str, Any]

# user_data ← the column of a browser that was seen
_FIELDS = {"client_ip_address": "address", "client_user_agent": "user_agent", "fbp": "fbp", "fbc": "fbc"}
# The browser told of this very thing itself: the webhook of the same cart is a second report of it.
_TOLD_BY_CART = ("AddToCart", "InitiateCheckout")
_SAME_DEED = timedelta(minutes=10)
REPORTED = "reported_by_browser"


def seen_with(
    app_id: str, keys: Mapping[str, str | None], user_data: Json, *, url: str | None, consent: Consent
) -> list[Visitor]:
    """The browser of one tracking call under each of its keys: order, checkout, cart.

    One that denies marketing leaves its denial only.
    """
    found = dict(keys) | {"fbp": user_data.get("fbp")}
    said: Json = {"marketing": consent.marketing, "sale_of_data": consent.sale_of_data}
    if consent.marketing is False:
        return [Visitor(app_id, kind, key, **said) for kind, key in found.items() if key]
    said |= {column: user_data.get(field) for field, column in _FIELDS.items()}
    # Only a cart's webhook asks for the page; elsewhere it would make a new line of every page view.
    return [
        Visitor(app_id, kind, key, page_url=url if kind == "cart" else None, **said)
        for kind, key in found.items()
        if key
    ]


def join_waiting(engine: Engine, *, now: datetime) -> int:
    """Complete events whose browser was seen, and let go those whose time is over; how many (bounded: ask again)."""
    with reading(engine) as conn:
        if not visitors.anybody_ready(conn, now=now):
            return 0
    return insist(engine, lambda conn: _join_some(conn, now))


def _join_some(conn: Connection, now: datetime) -> int:
    waiting = visitors.ready(conn, now=now)
    skipped: dict[str, list[int]] = defaultdict(list)
    for row in waiting:
        reason = _complete(conn, row, now)
        if reason is not None:
            skipped[reason].append(row.event_id)
    aliases.give_back(conn, sorted(id_ for ids in skipped.values() for id_ in ids))
    for reason, ids in skipped.items():
        outbox.move(conn, "skip", ids, failure=reason)
    visitors.done(conn, [row.event_id for row in waiting])
    wake(conn, Work.DELIVER, {row.pixel_id for row in waiting})
    return len(waiting)


def _complete(conn: Connection, row: Row[Any], now: datetime) -> str | None:
    """Make one event due with all that is known, or say why Meta must not hear it."""
    try:
        app = apps.get(conn, row.app_id)
    except NotFound:
        return "app_gone"
    event = orjson.loads(row.payload)
    if event["event_name"] in _TOLD_BY_CART and _reported(conn, row, event["event_name"]):
        return REPORTED
    if stopped := of_the_app(app):
        return stopped
    event, reason = completed(app, event, visitors.find(conn, row.app_id, row, now=now), now=now)
    if reason is None:
        outbox.fill(conn, row.event_id, events.encode(event), now=now)
    return reason


def _reported(conn: Connection, row: Row[Any], name: str) -> bool:
    since = acceptance.moment_of(row.event_id) - _SAME_DEED
    reporter = aliases.reporter(conn, row.app_id, name, f"cart:{row.cart}", since=since)
    return reporter not in (None, row.event_id)


def completed(app: App, event: Json, seen: Sequence[Row[Any]], *, now: datetime) -> tuple[Json, str | None]:
    """The event with its browser's marks, and why Meta must not hear it, if so. `seen`: most trusted first."""
    person: Json = event["user_data"]
    own = person.get("fbp")
    same = [one for one in seen if own is None or one.fbp in (None, own)]
    consent = _consent(same)
    if keeps_back(app.consent_policy, consent):
        return event, NO_CONSENT
    for one in same[:1]:
        marks = {field: getattr(one, column) for field, column in _FIELDS.items()}
        event["user_data"] = {field: value for field, value in marks.items() if value} | person
        if event["event_name"] == "AddToCart" and one.page_url:
            event["event_source_url"] = one.page_url
    if limits_use(app.consent_policy, consent):
        event |= events.LIMITED_USE
    return event, refusal(event, now=now)


def _consent(seen: Sequence[Row[Any]]) -> Consent:
    """What was said under any of the keys; a no outweighs a yes."""

    def verdict(answers: list[bool | None]) -> bool | None:
        said = [answer for answer in answers if answer is not None]
        return all(said) if said else None

    if not seen:
        return UNSAID
    return Consent(verdict([one.marketing for one in seen]), verdict([one.sale_of_data for one in seen]))
