"""A load generator in a process of its own: tracking calls of about 1 KB over kept connections, as fast as answers come
or at a steady rate. Prints one line of JSON. Its bytes are made ahead: it costs a fraction of what a server does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import time
from collections import Counter, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

import uvloop

EVENTS_OF_A_BROWSER = 10
PAGES = 997
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
_HEAD = """POST /api/track HTTP/1.1
Host: 127.0.0.1
User-Agent: {browser}
Accept: */*
Accept-Language: en-GB,en;q=0.9
Content-Type: text/plain;charset=UTF-8
Origin: https://lantern-and-loom.example
Referer: https://lantern-and-loom.example/
Content-Length: {length}

"""
# What our storefront script sends, of somebody who is signed in.
_BODY = {
    "appId": "APP",
    "eventName": "NAME",
    "url": "https://lantern-and-loom.example/products/brass-lamp-PAGE?utm_source=news&utm_medium=email&utm_campaign=autumn",
    "referrer": "https://lantern-and-loom.example/collections/lamps",
    "pageTitle": "Brass lamp with a linen shade",
    "timestamp": "AT",
    "event_id": "RUN-EVENT",
    "userData": {"email": "ann.BROWSER@example.com"},
    "customData": {
        "value": 59.9,
        "currency": "EUR",
        "content_name": "Brass lamp",
        "contents": [
            {
                "id": 44120933,
                "product_id": 8801,
                "sku": "LAMP-S",
                "quantity": 1,
                "item_price": 49.9,
                "title": "Brass lamp",
            },
            {
                "id": 44120934,
                "product_id": 8802,
                "sku": "SHADE-L",
                "quantity": 1,
                "item_price": 10,
                "title": "Linen shade",
            },
        ],
    },
    "sentAt": "AT",
    "fbc": "fb.1.1790000000000.IwAR2F4-dbP0l7Mn1IawQQGCINEz7PYXQvwjNwB_qa2ofrHyiLjcbCRxTDMgk_aem_Ad1",
    "fbp": "fb.1.1790000000000.BROWSER",
    "cartToken": "Z2NwLWV1cm9wZS13ZXN0MTowMUpBBROWSER",
    "consent": {"marketing": True, "saleOfData": True},
}
_FIELDS = re.compile(rb"NAME\"|PAGE|EVENT|BROWSER")


def calls(app: str, run: str) -> Iterator[bytes]:
    """Endless different calls of one app: of ten that a browser sends, nine look at a product and one adds to cart."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    known = json.dumps(_BODY, separators=(",", ":")).replace("APP", app).replace("RUN", run).replace("AT", at)
    shape = _FIELDS.sub(lambda found: {b'NAME"': b"%-12b", b"PAGE": b"%03d"}.get(found[0], b"%010d"), known.encode())
    length = len(shape % (b"", *([0] * shape.count(b"%0"))))
    whole = _HEAD.format(browser=_BROWSER, length=length).replace("\n", "\r\n").encode() + shape
    own = int.from_bytes(app.encode()[-3:]) % 8_000_000_000
    for n in count():
        browser = own + n // EVENTS_OF_A_BROWSER
        name = b'AddToCart"' if n % EVENTS_OF_A_BROWSER == 9 else b'ViewContent"'
        yield whole % (name, n % PAGES, n, browser, browser, browser)


class Client(asyncio.Protocol):
    """One kept connection: sends a call, notes how long its answer took, asks `then` what is next."""

    def __init__(self, source: Iterator[bytes], load: Load) -> None:
        self.source, self.load, self.buffer, self.since = source, load, b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, since: float) -> None:
        self.since = since
        self.transport.write(next(self.source))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, mark, body = self.buffer.partition(b"\r\n\r\n")
        if mark and len(body) >= int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]):
            self.buffer = b""
            self.load.answered(self, head[9:12].decode())

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.load.lost += not self.load.ended


class Load:
    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.ended, self.lost = given, False, 0
        self.took: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.idle: deque[Client] = deque()

    async def run(self) -> dict[str, object]:
        loop, given, names = asyncio.get_running_loop(), self.given, self.given.apps.split(",")
        for n in range(given.connections):
            source = calls(names[n % len(names)], f"{given.run}-{n:03d}")
            _, client = await loop.create_connection(lambda s=source: Client(s, self), "127.0.0.1", given.port)
            self.idle.append(client)
        began, cpu = time.perf_counter(), _cpu()
        await (self._steadily(began) if given.rate else self._closed(began))
        seconds, cpu = time.perf_counter() - began, _cpu() - cpu
        self.ended = True
        took = sorted(self.took)
        return {
            "requests": len(took),
            "seconds": seconds,
            "rate": self.statuses["200"] / seconds,
            "statuses": self.statuses,
            "lost": self.lost,
            "cpu": cpu / seconds,
            "p50": took[len(took) // 2] * 1000,
            "p99": took[len(took) * 99 // 100] * 1000,
            "longest": took[-1] * 1000,
        }

    async def _closed(self, began: float) -> None:
        """Each connection sends again as soon as it is answered."""
        for client in self.idle:
            client.send(time.perf_counter())
        self.idle.clear()
        await asyncio.sleep(self.given.seconds - (time.perf_counter() - began))

    async def _steadily(self, began: float) -> None:
        """So many a second whatever the answers do; a call that finds no free connection waits, and that counts."""
        for n in range(int(self.given.rate * self.given.seconds)):
            due = began + n / self.given.rate
            await asyncio.sleep(due - time.perf_counter())
            while not self.idle:
                await asyncio.sleep(0.001)
            self.idle.popleft().send(due)
        while len(self.idle) + self.lost < self.given.connections:
            await asyncio.sleep(0.01)

    def answered(self, client: Client, status: str) -> None:
        now = time.perf_counter()
        if self.ended:
            return
        self.took.append(now - client.since)
        self.statuses[status] += 1
        if self.given.rate:
            self.idle.append(client)
        else:
            client.send(now)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--apps", required=True, help="public ids of apps, comma separated")
    options.add_argument("--run", required=True, help="what makes this run's event ids its own")
    options.add_argument("--connections", type=int, default=64)
    options.add_argument("--seconds", type=float, default=5)
    options.add_argument("--rate", type=float, default=0, help="calls a second; 0: as fast as answers come")
    print(json.dumps(uvloop.run(Load(options.parse_args()).run())))


if __name__ == "__main__":
    main()
