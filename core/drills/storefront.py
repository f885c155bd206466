"""Shops that report by HTTP as storefronts and Shopify do: what was not answered with a success is sent again, the same
body with the same event ids, to whichever endpoint the balancer names next."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import orjson
import requests

from core.store.apps import App

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36"
BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
# Shopify tries for hours; a drill that cannot be heard for so long has failed.
GIVE_UP = 120.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one shop: so many events, under these ids."""

    app: App
    event_ids: tuple[str, ...]
    bot: bool = False

    def body(self) -> bytes:
        events = [
            {
                "eventName": "pageview",
                "event_id": id_,
                "url": f"https://{self.app.shop_domain}/products/tea?n={id_}",
                "visitorId": f"visitor-{id_}",
                "userData": {"email": f"{id_}@example.com"},
            }
            for id_ in self.event_ids
        ]
        shared = {"appId": self.app.public_id}
        return orjson.dumps(shared | (events[0] if len(events) == 1 else {"events": events}))


@dataclass
class Storefront:
    """What was sent and what was answered: `sent`, `answered`: event id → when, in seconds since 1970. Once `stopped`,
    nobody waits for an answer any more."""

    urls: Sequence[str]
    answered: dict[str, float] = field(default_factory=dict)
    sent: dict[str, float] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    stopped: threading.Event = field(default_factory=threading.Event)
    _turn: itertools.count[int] = field(default_factory=itertools.count)
    _local: threading.local = field(default_factory=threading.local)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self, calls: Iterable[Call], *, threads: int = 8) -> None:
        """All of them, so many at a time; AssertionError when one was never taken."""
        with ThreadPoolExecutor(threads, "storefront") as pool:
            for _ in pool.map(self.call, calls):
                pass

    def call(self, call: Call) -> None:
        """Until it is answered with 200."""
        body, began, wait = call.body(), time.monotonic(), 0.05
        for id_ in call.event_ids:
            self.sent.setdefault(id_, time.time())
        while True:
            answer = self._post(body, BOT if call.bot else BROWSER)
            if isinstance(answer, dict):
                self._note(call, answer)
                return
            with self._lock:
                self.seen[answer] += 1
            if time.monotonic() - began > GIVE_UP:
                raise AssertionError(f"not taken within {GIVE_UP:g} s: {answer}")
            if self.stopped.wait(wait * (0.5 + random.random())):
                raise AssertionError(f"stopped before it was taken: {answer}")
            wait = min(wait * 2, 2.0)

    def _post(self, body: bytes, agent: str) -> dict[str, object] | str:
        """The answer of an endpoint, or why there was none."""
        url = self.urls[next(self._turn) % len(self.urls)]
        headers = {"Content-Type": "application/json", "User-Agent": agent}
        try:
            answer = self._session().post(f"{url}/api/track", data=body, headers=headers, timeout=10)
        except requests.RequestException as error:
            return type(error).__name__
        if answer.status_code != 200:
            return f"HTTP {answer.status_code}"
        told: dict[str, object] = answer.json()
        return told

    def _note(self, call: Call, answer: dict[str, object]) -> None:
        now = time.time()
        dropped = answer["dropped"]
        assert isinstance(dropped, list)
        with self._lock:
            self.answered |= dict.fromkeys(call.event_ids, now)
            self.seen["calls"] += 1
            self.seen["new"] += int(str(answer["accepted"]))
            self.seen.update(f"dropped: {one['reason']}" for one in dropped)

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False
        return session
