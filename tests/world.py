"""A small world for tests: Meta (the sandbox), a shop's apps, events, and the service that looks after them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, select

from core.clock import now as real_now
from core.meta.events import encode
from core.meta.graph import Graph
from core.sandbox.client import Sandbox
from core.secret import Secret
from core.services.delivery import deliver
from core.services.policy import Policy
from core.services.refresh import TokenRefreshService
from core.store import acceptance, apps, tokens
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.database import reading, writing
from core.store.schema import capi_event, capi_refresh, capi_token

APP_ID, APP_SECRET = "1122334455", "sandbox-app-secret"
DAY = timedelta(days=1)


@dataclass
class World:
    """Fixtures as nouns and verbs: `world.an_app(token)`, `world.an_event(app)`, `world.deliver(app)`."""

    engine: Engine
    meta: Sandbox
    clock: Callable[[], datetime] = real_now
    _serial: Any = field(default_factory=lambda: itertools.count(1))

    def graph(self, secret: str = APP_SECRET) -> Graph:
        return Graph(base_url=self.meta.url, version="v24.0", app_id=APP_ID, app_secret=Secret(secret))

    def service(self, worker: str = "worker-1", **kwargs: Any) -> TokenRefreshService:
        policy = Policy(app_id=APP_ID)
        return TokenRefreshService(self.engine, self.graph(**kwargs), policy, worker=worker, clock=self.clock)

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

    def deliver(self, app: App, *, by: str = "worker-1") -> list[str]:
        service = self.service(by)
        return deliver(self.engine, service.graph, app.pixel_id or "", policy=service.policy, by=by, clock=self.clock)

    def state_of(self, event_id: str) -> str:
        return str(self.event(event_id).state)

    def event(self, event_id: str) -> Any:
        with reading(self.engine) as conn:
            return conn.execute(select(capi_event).where(capi_event.c.event_id == event_id)).one()

    def states(self) -> dict[str, int]:
        with reading(self.engine) as conn:
            rows = conn.execute(select(capi_event.c.state)).scalars().all()
        return {state: rows.count(state) for state in set(rows)}

    def app(self, app: App) -> App:
        with reading(self.engine) as conn:
            return apps.get(conn, app.id)

    def token(self, fingerprint: str) -> Any:
        with reading(self.engine) as conn:
            return tokens.get(conn, fingerprint)

    def refreshes(self) -> list[Any]:
        with reading(self.engine) as conn:
            return list(conn.execute(select(capi_refresh).order_by(capi_refresh.c.id)))

    def known_tokens(self) -> list[Any]:
        with reading(self.engine) as conn:
            return list(conn.execute(select(capi_token)))
