"""The road back: a merchant whose token is dead, the endpoint with its pages, Meta with its dialog, and browsers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from sqlalchemy import Engine, select

from core import clock as house_clock
from core.desk import cases as desk
from core.desk.operators import Operator
from core.doors.endpoint import create_app
from core.sandbox.client import Sandbox
from core.secret import Secret
from core.services.reconnect import Reconnect
from core.settings import Settings
from core.store.apps import App
from core.store.database import reading
from core.store.schema import capi_case
from tests.inbound.serving import serving
from tests.processes import free_port
from tests.world import APP_ID, APP_SECRET, World

OPERATOR = Operator("ada", "support")
OWNER = "7001"


@dataclass
class Time:
    """The real time, or as far ahead of it as a test wants."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return house_clock.now() + self.ahead


class Browser(requests.Session):
    """A browser that follows where it is sent, one step at a time or to the end; it never asks a proxy."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False

    def press(self, link: str) -> requests.Response:
        """The page's button; the answer is where it sends the browser."""
        return self.post(link, allow_redirects=False, timeout=20)

    def step(self, answer: requests.Response) -> requests.Response:
        """The next address, without following further."""
        return self.get(answer.headers["location"], allow_redirects=False, timeout=20)

    def walk(self, link: str) -> requests.Response:
        """From the button through the dialog (`at_once`) to the page at the end."""
        return self.post(link, timeout=20)

    def to_callback(self, link: str) -> str:
        """The button and the dialog; the address that the browser is sent back to, not yet asked."""
        return self.step(self.press(link)).headers["location"]


@dataclass
class Road:
    world: World
    url: str
    settings: Settings
    reconnect: Reconnect
    time: Time
    asked: list[Any] = field(default_factory=list)

    @property
    def meta(self) -> Sandbox:
        return self.world.meta

    def a_lost_app(self, *, user: str = OWNER, email: str | None = None, token: Secret | None = None) -> App:
        """An app whose token died, with an event that waits for it and an open case."""
        token = token or self.meta.create_token(user=user)
        app = self.world.an_app(token, email=email)
        self.lose(app, token)
        return app

    def lose(self, app: App, token: Secret) -> None:
        self.meta.kill(token)
        self.world.an_event(app)
        self.world.deliver(app)
        service = self.world.service()
        assert not service.refresh(token.fingerprint, trigger="on_error", by="test", user_id=app.user_id).usable

    def case(self, app: App) -> Any:
        """The newest case of this app's user, as it is stored."""
        c = capi_case.c
        with reading(self.world.engine) as conn:
            mine = select(capi_case).where(c.user_id == app.user_id)
            return conn.execute(mine.order_by(c.id.desc())).first()

    def invite(self, app: App) -> desk.Invitation:
        return desk.make_link(self.world.engine, self.settings, self.case(app).id, by=OPERATOR, now=self.time())

    def link(self, app: App) -> str:
        return self.invite(app).link


@contextlib.contextmanager
def a_road(engine: Engine, meta: Sandbox, **more: Any) -> Iterator[Road]:
    time = Time()
    world = World(engine, meta, clock=time)
    port = free_port()
    settings = Settings(
        FACEBOOK_APP_ID=APP_ID,
        FACEBOOK_APP_SECRET=Secret(APP_SECRET),
        CAPI_GRAPH_URL=meta.url,
        CAPI_DIALOG_URL=meta.url,
        CAPI_ENDPOINT_PORT=port,
        **more,
    )
    reconnect = Reconnect(world.service("endpoint"), settings)
    with serving(create_app(engine, settings, reconnect=reconnect), port=port) as url:
        meta.login(user=OWNER)
        yield Road(world, url, settings, reconnect, time)


def query(address: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


def everything(engine: Engine, tables: Callable[[], list[Any]]) -> dict[str, list[Any]]:
    """What stands in these tables, to be compared."""
    with reading(engine) as conn:
        return {table.name: [tuple(row) for row in conn.execute(select(table))] for table in tables()}
