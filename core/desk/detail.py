"""One event in full: its ledger line, the last request that held it, and what Meta would hear, people hidden."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import Connection, Row, select

from core.errors import NotFound
from core.store.platform_tables import app
from core.store.schema import capi_app, capi_attempt, capi_event, capi_outbox

HIDDEN = "(kept for Meta, not shown)"
_HASHED = re.compile(r"[0-9a-f]{64}(?:\.\w{1,8})?")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to Meta; `words` and `answer` are redacted, `failure` is empty when it was accepted."""

    at: datetime
    events: int
    duration_ms: int
    status: int | None
    failure: str | None
    code: int | None
    subcode: int | None
    words: str | None
    trace_id: str | None
    answer: str | None
    fingerprint: str


@dataclass(frozen=True, slots=True)
class EventDetail:
    """`payload` is gone once the event is delivered; personal data in it is shown hashed or not at all."""

    id: int
    state: str
    failure: str | None
    app_id: str
    app_name: str | None
    shop: str | None
    pixel_id: str
    event_name: str
    event_id: str
    source: str
    order_id: str | None
    value: Decimal | None
    currency: str | None
    event_time: datetime
    received_at: datetime
    deadline_at: datetime
    delivered_at: datetime | None
    after_refresh: bool
    attempts: int
    next_attempt_at: datetime | None
    waits_for: str | None
    attempt: Attempt | None
    payload: dict[str, Any] | None


def event_detail(conn: Connection, event_id: int) -> EventDetail:
    """By our id; NotFound."""
    e = capi_event.c
    own = [e[name] for name in EventDetail.__dataclass_fields__ if name in e]
    row = conn.execute(
        select(*own, e.attempt_id, app.c.name.label("app_name"), capi_app.c.shop_domain.label("shop"))
        .join(app, app.c.id == e.app_id, isouter=True)
        .join(capi_app, capi_app.c.app_id == e.app_id, isouter=True)
        .where(e.id == event_id)
    ).first()
    if row is None:
        raise NotFound(f"there is no event {event_id}")
    waiting = conn.execute(select(capi_outbox).where(capi_outbox.c.id == event_id)).first()
    known = dict(row._mapping)
    attempt_id = known.pop("attempt_id")
    return EventDetail(
        **known,
        next_attempt_at=waiting.next_attempt_at if waiting and waiting.state == "due" else None,
        waits_for=waiting.parked_by if waiting else None,
        attempt=_attempt(conn, attempt_id),
        payload=_shown(waiting),
    )


def _attempt(conn: Connection, attempt_id: int | None) -> Attempt | None:
    if attempt_id is None:
        return None
    columns = [capi_attempt.c[name] for name in Attempt.__dataclass_fields__]
    row = conn.execute(select(*columns).where(capi_attempt.c.id == attempt_id)).first()
    return Attempt(*row) if row else None


def _shown(waiting: Row[Any] | None) -> dict[str, Any] | None:
    if waiting is None or not waiting.payload:
        return None
    try:
        payload = orjson.loads(bytes(waiting.payload))
    except orjson.JSONDecodeError:
        return None
    if not isinstance(payload, dict):
        return None
    person = payload.get("user_data")
    return payload | {"user_data": {k: _hide(v) for k, v in person.items()}} if isinstance(person, dict) else payload


def _hide(value: object) -> object:
    """A hash as it is; addresses, browser ids and anything else in the clear are not for a screen."""
    if isinstance(value, list):
        return [_hide(one) for one in value]
    return value if isinstance(value, str) and _HASHED.fullmatch(value) else HIDDEN
