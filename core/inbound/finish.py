"""The last step of every inbound event: the app's own reasons, Meta's rules, the ready JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from core.inbound.consent import UNSAID, Consent, keeps_back, limits_use
from core.inbound.values import exact_id
from core.meta import events
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.visitors import Join

Json = dict[str, Any]

NO_CONSENT = "no_consent"
# Reasons that a browser seen later may take away.
LACKS_BROWSER = frozenset({"no_match_keys", "no_user_agent", "no_source_url", NO_CONSENT})


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
    consent: Consent = UNSAID
    aliases: tuple[str, ...] = ()
    aliases_since: datetime | None = None
    notes: tuple[str, ...] = ()
    join: Join | None = None


def finish(app: App, draft: Draft, *, now: datetime) -> NewEvent:
    """The event for the outbox, or the same with the reason why Meta must not hear it.

    What an event lacks that waits for its browser is judged when that was seen (`core.inbound.visitors`).
    """
    limited = draft.join is None and limits_use(app.consent_policy, draft.consent)
    event = as_meta_event(draft, limited=limited)
    reason = draft.skipped or of_the_app(app) or _kept_back(app, draft) or refusal(event, now=now)
    waits = draft.join is not None and (reason is None or reason in LACKS_BROWSER)
    reason = None if waits else reason
    return NewEvent(
        app_id=app.id,
        pixel_id=app.pixel_id or "",
        event_name=draft.name,
        event_id=draft.event_id,
        source=draft.source,
        event_time=draft.event_time,
        deadline_at=events.deadline(draft.event_time, draft.action_source),
        payload=b"" if reason else events.encode(event),
        order_id=exact_id(draft.custom_data.get("order_id")),
        value=draft.value,
        currency=draft.currency,
        skipped=reason,
        aliases=draft.aliases,
        aliases_since=draft.aliases_since,
        notes=draft.notes,
        join=draft.join if waits else None,
    )


def as_meta_event(draft: Draft, *, limited: bool = False) -> Json:
    return events.build(
        name=draft.name,
        event_time=draft.event_time,
        event_id=draft.event_id,
        user_data=draft.user_data,
        action_source=draft.action_source,
        source_url=draft.url,
        custom_data={**draft.custom_data, "value": draft.value, "currency": draft.currency},
        limited_data_use=limited,
    )


def _kept_back(app: App, draft: Draft) -> str | None:
    return NO_CONSENT if keeps_back(app.consent_policy, draft.consent) else None


def refusal(event: Json, *, now: datetime) -> str | None:
    """What Meta would refuse; it asks for a page's URL where the event happened on a website."""
    reason = events.check(event, now=now)
    if reason is None and event["action_source"] == "website" and "event_source_url" not in event:
        return "no_source_url"
    return reason


def of_the_app(app: App) -> str | None:
    if app.paused:
        return "paused"
    if not app.pixel_enabled:
        return "pixel_disabled"
    return None if app.pixel_id else "no_pixel"
