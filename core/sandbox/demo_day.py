"""The demo's last 24 hours of events: delivered ones by the hour, some refused, and those that wait for a token."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, select

from core.meta.events import encode
from core.sandbox.demo_cast import QUIET
from core.store import acceptance, history, outbox
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.schema import capi_event

if TYPE_CHECKING:
    from core.sandbox.demo_past import Placed

HOUR, MINUTE, WEEK = timedelta(hours=1), timedelta(minutes=1), timedelta(days=7)
_SLOT: Final = 5 * MINUTE
_BROWSER: Final = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/141.0.0.0 Safari/537.36"

# (event, source, how often), as a shop's day goes.
_MIX: Final = (
    ("PageView", "track", 55),
    ("ViewContent", "track", 22),
    ("AddToCart", "carts/create", 10),
    ("InitiateCheckout", "checkouts/create", 6),
    ("Purchase", "orders/create", 7),
)
# What a basket of 40 euros costs elsewhere.
RATES: Final = {
    **{"EUR": 1.0, "USD": 1.1, "GBP": 0.85, "CHF": 0.95, "DKK": 7.5, "SEK": 11.0, "PLN": 4.3, "CZK": 25.0},
    **{"HUF": 400.0, "TRY": 45.0, "JPY": 160.0, "INR": 95.0, "AED": 4.0, "MXN": 20.0, "NZD": 1.9, "PEN": 4.1},
}
_WHOLE: Final = frozenset({"JPY", "HUF"})

# (failure, code, subcode, status, Meta's words) of events that were refused in the last day.
_REFUSALS: Final = (
    ("invalid_event", 100, None, 400, "(#100) Param custom_data[contents][0][id] must be a non-empty UTF8 string"),
    ("invalid_event", 100, 2804087, 400, "The fbc parameter holds a click id that was not made by Meta."),
    ("transient", 2, None, 503, "An unexpected error has occurred. Please retry your request later."),
)


def price(currency: str, chance: random.Random) -> Decimal:
    """A basket's total, in whole units where the currency has no smaller ones."""
    total = min(chance.lognormvariate(math.log(40), 0.6), 900.0) * RATES[currency]
    return Decimal(round(total)) if currency in _WHOLE else Decimal(f"{total:.2f}")


def a_day_of_events(conn: Connection, placed: Sequence[Placed], *, now: datetime, chance: random.Random) -> None:
    busy = [(one, number) for one in placed if one.owner.health not in QUIET for number in range(len(one.apps))]
    weights = [chance.paretovariate(1.3) for _ in busy]
    slots = int(24 * HOUR / _SLOT)
    for back in range(slots, 0, -1):
        at = now - _SLOT * back + chance.random() * _SLOT
        for one, number in chance.choices(busy, weights, k=round(_tide(at) * chance.uniform(2, 7))):
            _delivered(conn, one, number, at, chance)
    for count, refusal in enumerate(_REFUSALS * 4):
        one, number = busy[(count * 7 + 3) % len(busy)]
        _dead(conn, one, number, now - chance.uniform(0.5, 22) * HOUR, refusal, chance)
    for one in placed:
        if one.broken_at is not None:
            _waiting(conn, one, now, chance)
        elif one.mended_at is not None and one.mended_at > now - 24 * HOUR:
            _released(conn, one, one.mended_at, chance)


def _tide(at: datetime) -> float:
    """How busy the hour is, from 0.35 at night to 1 in the evening."""
    hour = at.hour + at.minute / 60
    return 0.675 - 0.325 * math.cos((hour - 7) / 24 * 2 * math.pi)


def _delivered(conn: Connection, one: Placed, number: int, at: datetime, chance: random.Random) -> None:
    app = one.apps[number]
    ids = _accept(conn, app, [_an_event(one, number, at, chance) for _ in range(chance.randint(1, 5))], at)
    sent_at = at + timedelta(seconds=chance.uniform(0.2, 2.0))
    attempt = _attempt(conn, one, app, len(ids), sent_at, chance, status=200)
    outbox.move(conn, "deliver", ids, attempt_id=attempt, delivered_at=sent_at)


def _released(conn: Connection, one: Placed, mended_at: datetime, chance: random.Random) -> None:
    """What had waited while the token was mended, and went out then."""
    for number, app in enumerate(one.apps):
        at = mended_at - timedelta(seconds=2)
        ids = _accept(conn, app, [_an_event(one, number, at, chance) for _ in range(chance.randint(2, 9))], at)
        sent_at = mended_at + timedelta(seconds=chance.uniform(1, 3))
        late = {"status": 200, "after_refresh": len(ids)}
        attempt = _attempt(conn, one, app, len(ids), sent_at, chance, **late)
        outbox.move(conn, "deliver", ids, attempt_id=attempt, delivered_at=sent_at, after_refresh=True)


def _dead(
    conn: Connection,
    one: Placed,
    number: int,
    at: datetime,
    refusal: tuple[str, int, int | None, int, str],
    chance: random.Random,
) -> None:
    failure, code, subcode, status, words = refusal
    ids = _accept(conn, one.apps[number], [_an_event(one, number, at, chance, purchase=True)], at)
    said = {"failure": failure, "code": code, "subcode": subcode, "status": status, "words": words}
    attempt = _attempt(conn, one, one.apps[number], 1, at + MINUTE, chance, **said)
    outbox.move(conn, "bury", ids, failure=failure, attempt_id=attempt, attempts=1 if code == 100 else 5)


def _waiting(conn: Connection, one: Placed, now: datetime, chance: random.Random) -> None:
    """What came in since Meta refuses the token."""
    assert one.broken_at is not None
    assert one.loss is not None
    failure, subcode, words = one.loss
    for number, app in enumerate(one.apps):
        said = {"status": 400, "failure": failure, "code": 190, "subcode": subcode, "words": words}
        attempt = _attempt(conn, one, app, 1, one.broken_at, chance, **said)
        for _ in range(chance.randint(4, 9)):
            at = one.broken_at + (now - one.broken_at) * chance.random()
            ids = _accept(conn, app, [_an_event(one, number, at, chance, purchase=chance.random() < 0.4)], at)
            outbox.move(conn, "park", ids, parked_by=one.token.fingerprint, failure=failure, attempt_id=attempt)


def _an_event(one: Placed, number: int, at: datetime, chance: random.Random, *, purchase: bool = False) -> NewEvent:
    _, slug, currency = one.owner.shops[number]
    app = one.apps[number]
    name, source, _ = _MIX[-1] if purchase else chance.choices(_MIX, [often for *_, often in _MIX])[0]
    event_id = f"{chance.randrange(16**32):032x}"
    value = price(currency, chance) if name in ("Purchase", "InitiateCheckout", "AddToCart") else None
    body: dict[str, Any] = {
        "event_name": name,
        "event_id": event_id,
        "event_time": int(at.timestamp()),
        "action_source": "website",
        "event_source_url": f"https://{slug}.myshopify.com/",
        "user_data": {
            "em": [f"{chance.randrange(16**64):064x}"],
            "client_user_agent": _BROWSER,
            "client_ip_address": f"81.2.{chance.randrange(256)}.{chance.randrange(1, 255)}",
        },
    }
    if value is not None:
        body["custom_data"] = {"value": float(value), "currency": currency}
    return NewEvent(
        app_id=app.id,
        pixel_id=app.pixel_id or "",
        event_name=name,
        event_id=event_id,
        source=source,
        event_time=at,
        deadline_at=at + WEEK,
        payload=encode(body),
        order_id=str(chance.randrange(1_000, 99_999)) if name == "Purchase" else None,
        value=value,
        currency=currency if value is not None else None,
    )


def _accept(conn: Connection, app: App, events: Sequence[NewEvent], at: datetime) -> list[int]:
    acceptance.accept(conn, events, now=at)
    mine = capi_event.c.event_id.in_([event.event_id for event in events])
    return list(conn.scalars(select(capi_event.c.id).where(capi_event.c.app_id == app.id, mine)))


def _attempt(
    conn: Connection, one: Placed, app: App, events: int, at: datetime, chance: random.Random, **said: Any
) -> int:
    return history.add_attempt(
        conn,
        at=at,
        pixel_id=app.pixel_id,
        fingerprint=one.token.fingerprint,
        events=events,
        duration_ms=chance.randrange(90, 600),
        trace_id=f"A{chance.randrange(16**20):020x}",
        **said,
    )
