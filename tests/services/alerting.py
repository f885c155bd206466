"""What alert tests share: real receivers (SMTP and HTTP), tokens in trouble, and a clock that is moved by hand."""

from __future__ import annotations

import email
import email.policy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from sqlalchemy import Engine, insert, update

from core.desk.alert_message import compose
from core.secret import Secret
from core.services import alerts, telling
from core.services.channels import Channel, open_channels
from core.services.policy import Policy
from core.settings import Settings
from core.store.database import writing
from core.store.platform_tables import app, app_settings, user
from core.store.schema import capi_app, capi_event, capi_outbox, capi_token
from tests.processes import free_port

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
POLICY = Policy(app_id="1122334455")


def _knows(password: str, *told: Any) -> AuthResult:
    return AuthResult(success=told[-1].password == password.encode(), handled=False)


class MailServer:
    """A real SMTP server on loopback; `mails` are what it took. `password`: what it insists on."""

    def __init__(self, *, password: str | None = None) -> None:
        self.mails: list[EmailMessage] = []
        login: dict[str, Any] = {}
        if password is not None:
            login = {"authenticator": partial(_knows, password), "auth_required": True, "auth_require_tls": False}
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port(), **login)
        self.port = self._controller.port

    def __enter__(self) -> MailServer:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    async def handle_DATA(self, *told: Any) -> str:
        self.mails.append(email.message_from_bytes(told[-1].content, policy=email.policy.default))  # type: ignore[arg-type]
        return "250 OK"

    @property
    def address(self) -> str:
        return f"mailto://127.0.0.1:{self.port}?from=capi@example.com&to=team@example.com&mode=insecure"


@dataclass
class Receiver:
    """A real HTTP receiver on loopback; `bodies` are what it took, `status` what it answers."""

    port: int
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    status: int = 200
    location: str = ""

    @property
    def address(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook/s3cret-path"


@contextmanager
def a_receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.paths.append(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if receiver.status < 300 and body:
                receiver.bodies.append(json.loads(body))
            self.send_response(receiver.status)
            if receiver.location:
                self.send_header("Location", receiver.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


def settings_for(*addresses: str, private: bool = True, **more: Any) -> Settings:
    urls = tuple(Secret(one) for one in addresses)
    return Settings(_env_file=None, CAPI_ALERT_URLS=urls, CAPI_ALLOW_PRIVATE_URLS=private, **more)  # type: ignore[call-arg]


def channels_for(*addresses: str, private: bool = True) -> list[Channel]:
    """With Apprise's own pause between two messages (some seconds) taken out: the tests' clock is moved by hand."""
    channels = open_channels(settings_for(*addresses, private=private))
    for channel in channels:
        if channel.service is not None:
            channel.service.request_rate_per_sec = 0
    return channels


def tell(engine: Engine, channels: list[Channel], now: datetime, *, every: timedelta = 5 * MINUTE) -> int:
    return telling.tell(engine, channels, compose, now=now, every=every)


def scan_and_tell(engine: Engine, channels: list[Channel], now: datetime) -> int:
    """What the worker's two tasks do."""
    alerts.scan(engine, POLICY, now=now)
    return tell(engine, channels, now)


def many_apps(engine: Engine, count: int, *, now: datetime, ends_in: timedelta = 50 * DAY, start: int = 0) -> list[str]:
    """Apps with one token and one merchant each, written straight into the tables; the tokens' fingerprints."""
    numbers = range(start, start + count)
    names = [f"fp_{n:016x}" for n in numbers]
    ends, seen = now + ends_in, now - 40 * DAY
    with writing(engine) as conn:
        known = [{"fingerprint": f"fp_{n:016x}", "user_id": f"u{n}", "first_seen_at": seen} for n in numbers]
        conn.execute(insert(capi_token), known)
        conn.execute(insert(user), [{"id": f"u{n}", "email": f"owner{n}@example.com"} for n in numbers])
        apps = [{"id": f"a{n}", "appId": f"public{n}", "name": f"Shop {n}", "userId": f"u{n}"} for n in numbers]
        conn.execute(insert(app), apps)
        own = [{"id": f"s{n}", "appId": f"a{n}", "metaPixelId": str(n), "metaTokenExpiresAt": ends} for n in numbers]
        conn.execute(insert(app_settings), own)
        held = [{"app_id": f"a{n}", "shop_domain": f"shop{n}.example", "fingerprint": f"fp_{n:016x}"} for n in numbers]
        conn.execute(insert(capi_app), held)
    return names


def break_tokens(engine: Engine, names: list[str], *, now: datetime, words: str = "The session is invalid.") -> None:
    """Only their merchants can mend these tokens now."""
    broken = {"broken_since": now, "broken_failure": "token_dead", "broken_words": words, "needs_reconnect": True}
    with writing(engine) as conn:
        conn.execute(update(capi_token).where(capi_token.c.fingerprint.in_(names)).values(**broken))


def mend_tokens(engine: Engine, names: list[str]) -> None:
    mended = {"broken_since": None, "broken_failure": None, "broken_words": None, "needs_reconnect": False}
    with writing(engine) as conn:
        conn.execute(update(capi_token).where(capi_token.c.fingerprint.in_(names)).values(**mended, failures=0))


def wait_events(
    engine: Engine,
    number: int,
    count: int,
    *,
    now: datetime,
    left: timedelta,
    state: str = "parked",
    value: float | None = None,
    first_id: int = 0,
) -> None:
    """Events of one of `many_apps` that wait for its token and are lost in `left`."""
    received = now + left - 7 * DAY
    start = (int(received.timestamp() * 1000) << 22) + first_id
    shared = {"app_id": f"a{number}", "pixel_id": str(number), "state": state, "deadline_at": now + left}
    line = {
        "event_name": "Purchase",
        "source": "track",
        "value": value,
        "currency": "EUR" if value else None,
        "event_time": received,
        "received_at": received,
    }
    payload = {"next_attempt_at": now, "payload": b"{}", "parked_by": f"fp_{number:016x}"}
    with writing(engine) as conn:
        lines = [{"id": start + n, "event_id": f"e{number}-{start + n}"} | shared | line for n in range(count)]
        conn.execute(insert(capi_outbox), [{"id": start + n} | shared | payload for n in range(count)])
        conn.execute(insert(capi_event), lines)
