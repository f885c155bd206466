"""A stand-in for Meta that costs as little as can be, in a process of its own: it counts events, notes each event_id,
exchanges tokens, and answers after a latency that can be set. It judges nothing: for that there is the sandbox.

    python -m tests.bench.meta PORT
"""

from __future__ import annotations

import asyncio
import functools
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from typing import Any
from urllib.parse import parse_qs

import httptools
import orjson
import requests
import uvloop

from tests.bench import places
from tests.processes import free_port
from tests.world import APP_ID

# As we send it, and as the SDK does: JSON within JSON within a form.
_IDS = re.compile(rb'"event_id":"([^"]+)"|%5C%22event_id%5C%22%3A\+?%5C%22([^%]+)%5C%22')
_SOON, _LASTS = 5 * 86_400, 60 * 86_400
_SCOPES = ["ads_management", "business_management"]


class Counts:
    """What came in since it was reset."""

    def __init__(self) -> None:
        self.latency = 0.0
        self.reset()

    def reset(self) -> None:
        self.ids: set[bytes] = set()
        self.events = 0
        self.calls: dict[str, int] = {}
        self.first = self.last = self.first_call = self.last_call = 0.0

    def told(self) -> bytes:
        known = {"events": self.events, "distinct": len(self.ids), "calls": self.calls}
        times = {name: getattr(self, name) for name in ("first", "last", "first_call", "last_call")}
        return orjson.dumps(known | times)


class Connection(asyncio.Protocol):
    """One kept connection; requests come one after the other."""

    def __init__(self, counts: Counts, serial: Iterator[int]) -> None:
        self.counts, self.serial = counts, serial

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.url, self.parts = b"", []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.parts.append(body)

    def on_message_complete(self) -> None:
        path, _, query = self.url.partition(b"?")
        kind = path.rsplit(b"/", 1)[1].decode()
        if path.startswith(b"/_bench/"):
            self._send(self._told(kind, query))
            return
        kinds = {"events": self._events, "access_token": self._exchanged, "debug_token": self._known}
        answer = kinds.get(kind, lambda _: b'{"id":"1","name":"A pixel"}')(query)
        counts = self.counts
        counts.calls[kind] = counts.calls.get(kind, 0) + 1
        counts.last_call = time.time()
        counts.first_call = counts.first_call or counts.last_call
        if counts.latency:
            asyncio.get_running_loop().call_later(counts.latency, self._send, answer)
        else:
            self._send(answer)

    def _events(self, _query: bytes) -> bytes:
        ids = [one or other for one, other in _IDS.findall(b"".join(self.parts))]
        counts = self.counts
        counts.ids.update(ids)
        counts.events += len(ids)
        counts.last = time.time()
        counts.first = counts.first or counts.last
        return b'{"events_received":%d,"messages":[],"fbtrace_id":"A%010d"}' % (len(ids), next(self.serial))

    def _exchanged(self, _query: bytes) -> bytes:
        token = f"EAAfresh{next(self.serial):024d}"
        return orjson.dumps({"access_token": token, "token_type": "bearer", "expires_in": _LASTS})

    def _known(self, query: bytes) -> bytes:
        now = int(time.time())
        token = parse_qs(query.decode())["input_token"][0]
        data = {"app_id": APP_ID, "type": "USER", "is_valid": True, "scopes": _SCOPES, "user_id": "1"}
        ends = now + (_SOON if token.startswith("EAAends") else _LASTS)
        return orjson.dumps({"data": data | {"expires_at": ends, "issued_at": now, "data_access_expires_at": ends}})

    def _told(self, what: str, query: bytes) -> bytes:
        if what == "reset":
            self.counts.reset()
            self.counts.latency = float(parse_qs(query.decode())["latency"][0])
        return self.counts.told()

    def _send(self, body: bytes) -> None:
        head = b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        if not self.transport.is_closing():
            self.transport.write(head % (HTTPStatus.OK, len(body)) + body)


@dataclass(frozen=True, slots=True)
class Meta:
    """The stand-in as a benchmark sees it."""

    url: str

    def reset(self, *, latency: float) -> None:
        """Forget what came; from now on every answer takes this many seconds."""
        requests.get(f"{self.url}/_bench/reset", params={"latency": str(latency)}, timeout=10)

    def told(self) -> dict[str, Any]:
        """`events`, `distinct` ids of them, `calls` by kind, and when the `first` and `last` batch and call came."""
        found: dict[str, Any] = requests.get(f"{self.url}/_bench/told", timeout=10).json()
        return found

    def until(self, enough: Callable[[dict[str, Any]], bool], *, within: float) -> dict[str, Any]:
        """What it tells once that is enough; AssertionError after `within` seconds."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            if enough(found := self.told()):
                return found
            time.sleep(0.05)
        raise AssertionError(f"not within {within} s: {self.told()}")


@contextmanager
def standing_in() -> Iterator[Meta]:
    port = free_port()
    with places.module("tests.bench.meta", str(port)) as process:
        meta = Meta(f"http://127.0.0.1:{port}")
        places.answers(f"{meta.url}/_bench/told", process)
        yield meta


async def serve(port: int) -> None:
    make = functools.partial(Connection, Counts(), count(1))
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
