"""The last step of every inbound event: the app's own reasons, Meta's rules, the ready JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

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
    reason = draft.skipped or _of_the_app(app) or _refusal(event, now=now)
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
    return events.build(
        name=draft.name,
        event_time=draft.event_time,
        event_id=draft.event_id,
        user_data=draft.user_data,
        action_source=draft.action_source,
        source_url=draft.url,
        custom_data={**draft.custom_data, "value": draft.value, "currency": draft.currency},
    )


def _refusal(event: Json, *, now: datetime) -> str | None:
    """What Meta would refuse; it asks for a page's URL where the event happened on a website."""
    reason = events.check(event, now=now)
    if reason is None and event["action_source"] == "website" and "event_source_url" not in event:
        return "no_source_url"
    return reason


def _of_the_app(app: App) -> str | None:
    if app.paused:
        return "paused"
    if not app.pixel_enabled:
        return "pixel_disabled"
    return None if app.pixel_id else "no_pixel"
