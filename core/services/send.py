"""Sending as a library call: the same road as every event, walked at once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy import select

from core.clock import from_unix
from core.errors import BadInput
from core.meta import events as meta_events
from core.services import incidents, probing
from core.services.delivery import deliver
from core.services.refresh import TokenRefreshService
from core.store import acceptance, apps
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.database import reading, writing
from core.store.schema import capi_event

# How long a call waits for a pixel that another worker is busy with.
PATIENCE = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one event: its `event_id`, its state, and the failure where there is one."""

    event_id: str
    state: str
    failure: str | None = None
    after_refresh: bool = False


def send_with_refresh(
    service: TokenRefreshService, app_id: str, events: Sequence[dict[str, Any]], *, by: str = "library"
) -> list[Sent]:
    """Send Conversions API events for an app; a broken token is mended and the events are sent again.

    `events`: server events in Meta's own shape, personal data hashed
    (https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/server-event). They are stored
    before they are sent: whatever happens, none is lost, and what cannot go now goes later. An event that was
    known by (app, name, event_id) answers with what became of it then. NotFound, BadInput.
    """
    with reading(service.engine) as conn:
        app = apps.find(conn, app_id)
    if app.pixel_id is None:
        raise BadInput(f"app {app.public_id} has no pixel: set one on the platform first")
    now = service.clock()
    new = [_new_event(app, event, service) for event in events]
    with writing(service.engine) as conn:
        acceptance.accept(conn, new, now=now)
    return _walk(service, app.pixel_id, new, by)


def _walk(service: TokenRefreshService, pixel_id: str, new: list[NewEvent], by: str) -> list[Sent]:
    """Until every event has its answer, or an incident or the time says that the rest goes later."""
    give_up = time.monotonic() + PATIENCE.total_seconds()
    if _is_shut(service):  # no worker may be running: then whoever sends sees whether it is over
        probing.probe_incidents(service.engine, service.graph, service.policy, by=service.worker, clock=service.clock)
    while True:
        for _ in range(2):  # once, and once more with the mended token
            broken = deliver(
                service.engine, service.graph, pixel_id, policy=service.policy, by=service.worker, clock=service.clock
            )
            mended = [service.refresh(found, trigger="on_error", by=by).usable for found in broken]
            if not any(mended):
                break
        outcomes = _outcomes(service, new)
        if all(one.state != "due" or one.failure for one in outcomes) or _is_shut(service):
            return outcomes
        if time.monotonic() > give_up:
            return outcomes
        time.sleep(0.05)


def _is_shut(service: TokenRefreshService) -> bool:
    with reading(service.engine) as conn:
        return incidents.shut(conn, now=service.clock())


def _new_event(app: App, event: dict[str, Any], service: TokenRefreshService) -> NewEvent:
    now = service.clock()
    given = event.get("event_time", 0)
    if isinstance(given, bool) or not isinstance(given, int):
        raise BadInput("event_time must be whole Unix seconds")
    event = {"event_id": uuid.uuid4().hex, "event_time": int(now.timestamp()), "action_source": "website", **event}
    reason = meta_events.check(event, now=now)
    at = from_unix(event["event_time"])
    custom = event.get("custom_data") or {}
    return NewEvent(
        app_id=app.id,
        pixel_id=app.pixel_id or "",
        event_name=str(event.get("event_name")),
        event_id=str(event["event_id"]),
        source="send",
        event_time=at,
        deadline_at=meta_events.deadline(at, str(event["action_source"])),
        payload=meta_events.encode(event),
        order_id=custom.get("order_id"),
        value=_money(custom.get("value")),
        currency=custom.get("currency"),
        skipped=reason,
    )


def _money(value: object) -> Decimal | None:
    try:
        return None if value is None else Decimal(str(value))
    except InvalidOperation:
        return None


def _outcomes(service: TokenRefreshService, new: list[NewEvent]) -> list[Sent]:
    e = capi_event.c
    found = []
    with reading(service.engine) as conn:
        for event in new:
            where = (e.app_id == event.app_id) & (e.event_name == event.event_name) & (e.event_id == event.event_id)
            row = conn.execute(select(e.state, e.failure, e.after_refresh).where(where)).one()
            found.append(Sent(event.event_id, row.state, row.failure, row.after_refresh))
    return found
