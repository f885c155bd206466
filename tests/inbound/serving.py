"""The endpoint over real HTTP: uvicorn in a thread, on a real database file."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import requests
import uvicorn
from sqlalchemy import Engine, select
from starlette.applications import Starlette

from core.doors.endpoint import create_app, listen
from core.secret import Secret
from core.settings import Settings
from core.store import apps
from core.store.apps import App
from core.store.database import reading, writing
from core.store.platform_tables import app as app_table
from core.store.schema import capi_event, capi_outbox, capi_receipt
from tests.inbound.bodies import BROWSER, SECRET, SHOP, headers, raw, tracking


@dataclass
class Endpoint:
    """A running endpoint, one app in its database, and the questions tests ask."""

    url: str
    engine: Engine
    app: App
    asgi: Starlette

    def track(self, body: Any = None, **options: Any) -> requests.Response:
        options.setdefault("headers", {})
        options["headers"] = {"User-Agent": BROWSER, **options["headers"]}
        content = {"data": body} if isinstance(body, bytes) else {"json": body if body is not None else tracking()}
        return requests.post(f"{self.url}/api/track", timeout=10, **content, **options)

    def webhook(self, topic: str, body: Any, **options: Any) -> requests.Response:
        data = body if isinstance(body, bytes) else raw(body)
        sent = headers(data, options.pop("header_topic", topic), **options)
        return requests.post(f"{self.url}/webhooks/{topic}", data=data, headers=sent, timeout=10)

    def events(self) -> list[Any]:
        with reading(self.engine) as conn:
            return list(conn.execute(select(capi_event).order_by(capi_event.c.id)))

    def payloads(self) -> list[bytes]:
        with reading(self.engine) as conn:
            return [bytes(payload) for payload in conn.scalars(select(capi_outbox.c.payload))]

    def receipts(self) -> list[Any]:
        with reading(self.engine) as conn:
            return list(conn.execute(select(capi_receipt).order_by(capi_receipt.c.id)))

    def configure(self, **values: Any) -> None:
        with writing(self.engine) as conn:
            apps.configure(conn, self.app.id, **values)


@contextlib.contextmanager
def serving(app: Starlette, *, port: int = 0) -> Iterator[str]:
    """The address of this ASGI app while it runs; port 0 takes a free one."""
    listener = listen("127.0.0.1", port)
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, proxy_headers=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def an_installed_app(engine: Engine) -> App:
    with writing(engine) as conn:
        made = apps.add(conn, name="Lantern & Loom", email="shop@example.com", shop_domain=SHOP, pixel_id="1001")
        conn.execute(app_table.update().where(app_table.c.id == made.id).values(appId="app_public"))
        return apps.get(conn, made.id)


@contextlib.contextmanager
def an_endpoint(
    engine: Engine,
    *,
    secrets: tuple[str, ...] = (SECRET,),
    refresh_user: Callable[[str], int] | None = None,
    **settings: Any,
) -> Iterator[Endpoint]:
    made = an_installed_app(engine)
    known = Settings(SHOPIFY_API_SECRET=tuple(map(Secret, secrets)), **settings)
    asgi = create_app(engine, known, refresh_user=refresh_user)
    with serving(asgi) as url:
        yield Endpoint(url, engine, made, asgi)
