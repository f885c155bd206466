"""What the delivery benchmarks send: events of about 1 KB, and an outbox filled with them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine

from core.clock import now
from core.meta.answers import TokenFacts
from core.meta.events import encode
from core.secret import Secret
from core.store import acceptance, apps, tokens
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.database import chunks, writing
from tests.world import APP_ID

DAY = timedelta(days=1)
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"


def shops(engine: Engine, count: int, *, name: str = "bench", ends: timedelta = 50 * DAY) -> list[App]:
    """So many apps, each with a pixel and a healthy token of its own, which nobody has to ask Meta about."""
    made, at = [], now()
    with writing(engine) as conn:
        for n in range(count):
            mail, domain = f"{name}{n}@example.com", f"{name}{n}.example"
            app = apps.add(conn, name=f"Shop {n}", email=mail, shop_domain=domain, pixel_id=f"{710_000 + n}")
            token = Secret(f"EAA{name}{n:024d}")
            apps.write_token(conn, app.id, token, expires_at=at + ends)
            tokens.see(conn, token.fingerprint, user_id=app.user_id, now=at, next_refresh_at=at + 20 * DAY)
            tokens.learn(conn, token.fingerprint, _facts(at + ends), now=at)
            made.append(apps.get(conn, app.id))
    return made


def _facts(ends: Any) -> TokenFacts:
    return TokenFacts(
        is_valid=True,
        kind="USER",
        meta_app_id=APP_ID,
        meta_user_id="1",
        expires_at=ends,
        never_expires=False,
        data_access_expires_at=ends,
        issued_at=ends - 60 * DAY,
        scopes=("ads_management",),
    )


def body(event_id: str) -> dict[str, Any]:
    """One event as Meta gets it, of about 1 KB."""
    person = hashlib.sha256(event_id.encode()).hexdigest()
    address = "https://lantern-and-loom.example/products/brass-lamp?utm_source=news"
    lamp = {"id": "LAMP-S", "quantity": 1, "item_price": 49.9}
    shade = {"id": "SHADE-L", "quantity": 1, "item_price": 10.0}
    return {
        "event_name": "AddToCart",
        "event_time": int(now().timestamp()),
        "event_id": event_id,
        "event_source_url": address,
        "action_source": "website",
        "user_data": {
            "em": [person],
            "external_id": [person],
            "client_ip_address": "203.0.113.7",
            "client_user_agent": _AGENT,
            "fbc": "fb.1.1790000000000.IwAR2F4-dbP0l7Mn1IawQQGCINEz7PYXQvwjNwB_qa2ofrHyiLjcbCRxTDMgk_aem_Ad1",
            "fbp": "fb.1.1790000000000.1234567890",
        },
        "custom_data": {
            "value": 59.9,
            "currency": "EUR",
            "content_name": "Brass lamp with a linen shade",
            "content_type": "product",
            "content_ids": ["LAMP-S", "SHADE-L"],
            "contents": [lamp, shade],
        },
    }


def fill(engine: Engine, to: Sequence[App], run: str, *, each: int, group: int = 2_000) -> int:
    """`each` due events for every app, as intake stores them, `group` in a transaction; how many in all."""
    shape = encode(body("EVENT"))
    wanted = [(app, f"{run}-{app.pixel_id}-{n:06d}") for app in to for n in range(each)]
    for some in chunks(wanted, group):
        at = now()
        events = [
            NewEvent(
                app.id,
                app.pixel_id or "",
                "AddToCart",
                event_id,
                "track",
                at,
                at + 7 * DAY,
                shape.replace(b"EVENT", event_id.encode()),
            )
            for app, event_id in some
        ]
        with writing(engine) as conn:
            acceptance.accept(conn, events, now=at)
    return each * len(to)
