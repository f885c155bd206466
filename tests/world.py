"""A small world for tests: Meta (the sandbox), a shop's apps, events, and the service that looks after them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from core.drills.shops import APP_ID, APP_SECRET, DAY, Shops
from core.meta.graph import Graph
from core.secret import Secret
from core.services.delivery import deliver
from core.services.policy import Policy
from core.services.refresh import TokenRefreshService
from core.store import apps, tokens
from core.store.apps import App
from core.store.database import reading
from core.store.schema import capi_event, capi_refresh, capi_token

__all__ = ["APP_ID", "APP_SECRET", "DAY", "World"]


@dataclass
class World(Shops):
    """Fixtures as nouns and verbs: `world.an_app(token)`, `world.an_event(app)`, `world.deliver(app)`."""

    def graph(self, secret: str = APP_SECRET) -> Graph:
        return Graph(base_url=self.meta.url, version="v24.0", app_id=APP_ID, app_secret=Secret(secret))

    def service(self, worker: str = "worker-1", **kwargs: Any) -> TokenRefreshService:
        policy = Policy(app_id=APP_ID)
        return TokenRefreshService(self.engine, self.graph(**kwargs), policy, worker=worker, clock=self.clock)

    def deliver(self, app: App, *, by: str = "worker-1") -> list[str]:
        service = self.service(by)
        return deliver(self.engine, service.graph, app.pixel_id or "", policy=service.policy, by=by, clock=self.clock)

    def state_of(self, event_id: str) -> str:
        return str(self.event(event_id).state)

    def event(self, event_id: str) -> Any:
        with reading(self.engine) as conn:
            return conn.execute(select(capi_event).where(capi_event.c.event_id == event_id)).one()

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
