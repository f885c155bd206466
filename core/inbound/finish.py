"""The last step of every inbound event: the app's own reasons, Meta's rules, the ready JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from core.inbound.values import wire_number
from core.meta import events
from core.store.apps import App
from core.store.outbox import NewEvent

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Draft:
    """One event before it is judged. `event_time` in whole seconds; `user_data` hashed already."""

    name: str
    event_id: str
    source: str
    event_time: datetime
    user_data: Json
    custom_data: Json = field(default_factory=dict)
    action_source: str = "website"
    url: str | None = None
    value: Decimal | None = None
    currency: str | None = None
    skipped: str | None = None


def finish(app: App, draft: Draft, *, now: datetime) -> NewEvent:
    """The event for the outbox, or the same with the reason why Meta must not hear it."""
    event = as_meta_event(draft)
    reason = draft.skipped or _of_the_app(app) or events.check(event, now=now)
    return NewEvent(
        app_id=app.id,
        pixel_id=app.pixel_id or "",
        event_name=draft.name,
        event_id=draft.event_id,
        source=draft.source,
        event_time=draft.event_time,
        deadline_at=events.deadline(draft.event_time, draft.action_source),
        payload=b"" if reason else events.encode(event),
        order_id=draft.custom_data.get("order_id"),
        value=draft.value,
        currency=draft.currency,
        skipped=reason,
    )


def as_meta_event(draft: Draft) -> Json:
    """https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/server-event"""
    event: Json = {
        "event_name": draft.name,
        "event_time": int(draft.event_time.timestamp()),
        "event_id": draft.event_id,
        "action_source": draft.action_source,
        "user_data": draft.user_data,
    }
    if draft.url:
        event["event_source_url"] = draft.url
    custom = dict(draft.custom_data)
    if draft.value is not None:
        custom["value"] = wire_number(draft.value)
    if draft.currency is not None:
        custom["currency"] = draft.currency
    if custom:
        event["custom_data"] = custom
    return event


def _of_the_app(app: App) -> str | None:
    if app.paused:
        return "paused"
    if not app.pixel_enabled:
        return "pixel_disabled"
    return None if app.pixel_id else "no_pixel"
