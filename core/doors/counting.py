"""Where figures are counted: at the doors, around what does the work and knows nothing of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Engine
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.doors.intake import Entry, Intake
from core.doors.metrics import EndpointMetrics, WorkerMetrics
from core.meta.graph import Exchanged, Graph, GraphError, Pixel, Sent, TokenFacts
from core.secret import Secret

T = TypeVar("T")
OK = "ok"


class CountingGraph(Graph):
    """Every call to Meta by what it came to, and how long it took."""

    def __init__(self, metrics: WorkerMetrics, **settings: Any) -> None:
        super().__init__(**settings)
        self._metrics = metrics

    def send(self, pixel_id: str, payloads: Sequence[bytes], token: Secret, **more: Any) -> Sent:
        ask = super().send
        return self._count("events", lambda: ask(pixel_id, payloads, token, **more), len(payloads))

    def exchange(self, token: Secret, **more: Any) -> Exchanged:
        ask = super().exchange
        return self._count("exchange", lambda: ask(token, **more))

    def debug_token(self, token: Secret) -> TokenFacts:
        ask = super().debug_token
        return self._count("debug_token", lambda: ask(token))

    def probe_pixel(self, pixel_id: str, token: Secret, **more: Any) -> Pixel:
        ask = super().probe_pixel
        return self._count("pixel", lambda: ask(pixel_id, token, **more))

    def check_app(self) -> None:
        self._count("app", super().check_app)

    def _count(self, call: str, ask: Callable[[], T], events: int = 0) -> T:
        started, outcome = time.perf_counter(), OK
        try:
            return ask()
        except GraphError as error:
            outcome = str(error.failure)
            raise
        finally:
            self._metrics.calls.labels(call, outcome).inc()
            self._metrics.seconds.labels(call).observe(time.perf_counter() - started)
            if events:
                self._metrics.events.labels(outcome).inc(events)


class CountingIntake(Intake):
    """Events by where they came from, and how long their commit took."""

    def __init__(self, engine: Engine, metrics: EndpointMetrics, *, clock: Callable[[], datetime]) -> None:
        super().__init__(engine, clock=clock)
        self._metrics = metrics
        metrics.waiting.set_function(lambda: self.backed_up)

    async def write(self, entry: Entry) -> list[bool]:
        started = time.perf_counter()
        new = await super().write(entry)
        self._metrics.intake.observe(time.perf_counter() - started)
        for event, is_new in zip(entry.events, new, strict=True):
            self._metrics.events.labels(event.source, "new" if is_new else "repeated").inc()
        return new


class CountingApp:
    """Answers by route and status; a path that is none of ours is `other`."""

    def __init__(self, app: ASGIApp, metrics: EndpointMetrics, routes: frozenset[str]) -> None:
        self.app, self._metrics, self._routes = app, metrics, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route = scope["path"] if scope["path"] in self._routes else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.responses.labels(route, message["status"]).inc()
            await send(message)

        await self.app(scope, receive, counted)
