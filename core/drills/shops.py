"""Shops, their tokens and events for a drill: Meta (the sandbox) on one side, a scratch database on the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, func, select

from core.clock import now as real_now
from core.meta.events import encode
from core.sandbox.client import Sandbox
from core.secret import Secret
from core.store import acceptance, apps
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.database import reading, writing
from core.store.schema import capi_event

APP_ID, APP_SECRET = "1122334455", "sandbox-app-secret"
DAY = timedelta(days=1)


@dataclass
class Shops:
    """Nouns and verbs: `shops.an_app(token)`, `shops.an_event(app)`, `shops.states()`."""

    engine: Engine
    meta: Sandbox
    clock: Callable[[], datetime] = real_now
    _serial: Any = field(default_factory=lambda: itertools.count(1))

    def an_app(
        self,
        token: Secret | None = None,
        *,
        expires_in: timedelta | None = 50 * DAY,
        email: str | None = None,
        pixel: str | None = None,
    ) -> App:
        n = next(self._serial)
        with writing(self.engine) as conn:
            app = apps.add(
                conn,
                name=f"Shop {n}",
                email=email or f"owner{n}@example.com",
                shop_domain=f"shop{n}.myshopify.com",
                pixel_id=pixel or str(900_000 + n),
            )
        with writing(self.engine) as conn:
            if token is not None:
                ends = self.clock() + expires_in if expires_in is not None else None
                apps.write_token(conn, app.id, token, expires_at=ends)
            return apps.get(conn, app.id)

    def an_event(self, app: App, *, event_id: str | None = None, age: timedelta = timedelta(0), **more: Any) -> str:
        new = self.new_event(app, event_id=event_id, age=age, **more)
        with writing(self.engine) as conn:
            acceptance.accept(conn, [new], now=self.clock())
        return new.event_id

    def new_event(
        self, app: App, *, event_id: str | None = None, age: timedelta = timedelta(0), **more: Any
    ) -> NewEvent:
        """An event that is not written yet."""
        at = self.clock() - age
        event_id = event_id or f"event-{next(self._serial)}"
        body = {
            "event_name": "PageView",
            "event_id": event_id,
            "event_time": int(at.timestamp()),
            "action_source": "website",
            "event_source_url": "https://shop.example/",
            "user_data": {"client_user_agent": "Mozilla/5.0", "em": ["a" * 64]},
        } | more
        name = str(body["event_name"])
        return NewEvent(app.id, app.pixel_id or "", name, event_id, "track", at, at + 7 * DAY, encode(body))

    def states(self) -> dict[str, int]:
        """State → how many events are in it."""
        s = capi_event.c.state
        with reading(self.engine) as conn:
            return {row[0]: row[1] for row in conn.execute(select(s, func.count()).group_by(s))}
