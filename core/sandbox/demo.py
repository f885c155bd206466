"""The demo that `up --sandbox` plays: a past for an empty database, then shops that report, and tokens that end.

Within the first minute one token passes its stored end while Meta still takes it, and is mended by itself; another
ends at Meta for good, and waits for a reconnect; two events are refused for what they hold. Then it goes on.
"""

from __future__ import annotations

import contextlib
import logging
import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import FrameType
from typing import Any

import requests
from sqlalchemy import Engine

from core import clock, logs, settings
from core.errors import CoreError, Refused
from core.hosts import is_loopback
from core.sandbox.client import Sandbox
from core.sandbox.demo_cast import DIES_AT_META, OWNERS, PASSES_ITS_END, SENDS_NONSENSE
from core.sandbox.demo_day import price
from core.sandbox.demo_past import FIRST_END, seed
from core.sandbox.shop import Shop
from core.services.policy import Policy
from core.settings import Settings
from core.store import apps, database, migrate
from core.store.apps import App
from core.store.database import reading, writing

log = logging.getLogger("demo")

_CURRENCY = {f"{slug}.myshopify.com": currency for owner in OWNERS for _, slug, currency in owner.shops}
# Storefront calls and webhooks, as often as they come.
_DEEDS = ("pageview", "pageview", "pageview", "view_item", "add_to_cart", "cart", "checkout", "order")
_NONSENSE = (
    (2804087, "The fbc parameter holds a click id that was not made by Meta."),
    (None, "(#100) Param custom_data[contents][0][id] must be a non-empty UTF8 string"),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """Something that happens so many seconds after the endpoint answers, and again every so many seconds."""

    after: float
    play: Callable[[Demo], None]
    every: float | None = None


class Demo:
    """The running demo. `lively` shops report by themselves; the others only when a scene says so."""

    def __init__(self, engine: Engine, given: Settings, *, chance: random.Random) -> None:
        self.engine, self.chance = engine, chance
        self.meta = Sandbox(given.graph_url)
        self.shop = Shop(given.endpoint_url, given.shopify_api_secret[0], seed=7)
        self.endpoint_url = given.endpoint_url
        self.policy = Policy.of(given)
        self.stopping = threading.Event()
        self.reconnects: list[str] = []

    def seed(self) -> None:
        """A past, when there is none yet."""
        with reading(self.engine) as conn:
            known = bool(apps.every(conn))
        if not known:
            seed(self.engine, self.meta, self.policy, now=clock.now(), chance=self.chance)
            log.info("demo data written", extra={"shops": len(_CURRENCY)})

    def of(self, email: str) -> list[App]:
        with reading(self.engine) as conn:
            return apps.of_user(conn, apps.user_id_of(conn, email))

    def lively(self) -> list[App]:
        """Shops whose token works as far as the platform knows, without those the story is told with."""
        kept = {PASSES_ITS_END, DIES_AT_META, SENDS_NONSENSE}
        quiet = {owner.email for owner in OWNERS if owner.at_meta == "over" or (owner.days or 1) <= 0}
        with reading(self.engine) as conn:
            return [app for app in apps.every(conn) if app.email not in kept | quiet]

    def report(self, app: App, deed: str | None = None) -> None:
        """One call of the storefront or one webhook, with money of the shop's own."""
        domain = app.shop_domain or ""
        deed = deed or self.chance.choice(_DEEDS)
        currency = _CURRENCY.get(domain, "EUR")
        total = str(price(currency, self.chance))
        if deed == "cart":
            token = f"hWN{self.chance.getrandbits(96):024x}"
            if self.chance.random() < 0.8:  # the others were filled by somebody nobody has seen
                self.shop.track(app.public_id, "view_item", shop_domain=domain, cartToken=token)
            self.shop.cart(domain, id=token, token=token)
        elif deed in ("checkout", "order"):
            send = self.shop.order if deed == "order" else self.shop.checkout
            money = {"currency": currency, "presentment_currency": currency}
            send(domain, **money, total_price=total, current_total_price=total, subtotal_price=total)
        else:
            value: dict[str, Any] = {} if deed == "pageview" else {"value": total, "currency": currency}
            self.shop.track(app.public_id, deed, shop_domain=domain, **value)

    def run(self) -> None:
        """Traffic and scenes until told to stop."""
        if not self._endpoint_answers():
            return
        lively, began = self.lively(), clock.now()
        plan = _Plan(SCENES, began)
        while not self.stopping.wait(self.chance.uniform(0.3, 1.2)):
            try:
                for scene in plan.due(clock.now()):
                    scene.play(self)
                self.report(self.chance.choice(lively))
            except (requests.RequestException, CoreError) as error:
                log.warning("the demo waits", extra={"error": type(error).__name__})
                self.stopping.wait(2)

    def _endpoint_answers(self) -> bool:
        with requests.Session() as session:
            session.trust_env = False
            while not self.stopping.wait(0.3):
                with contextlib.suppress(requests.RequestException):
                    if session.get(f"{self.endpoint_url}/healthz", timeout=2).ok:
                        return True
        return False


class _Plan:
    """When each scene is due next."""

    def __init__(self, scenes: tuple[Scene, ...], began: datetime) -> None:
        self._next = {scene: began + timedelta(seconds=scene.after) for scene in scenes}

    def due(self, now: datetime) -> Iterator[Scene]:
        for scene, at in list(self._next.items()):
            if at <= now:
                if scene.every is None:
                    del self._next[scene]
                else:
                    self._next[scene] = now + timedelta(seconds=scene.every)
                yield scene


def _passes_its_end(demo: Demo) -> None:
    """Its stored end is over; Meta still takes it. The next event finds that out."""
    for app in demo.of(PASSES_ITS_END):
        demo.report(app, "order")


def _dies(demo: Demo) -> None:
    app = demo.of(DIES_AT_META)[0]
    if app.token is not None:
        demo.meta.expire(app.token)
        demo.report(app, "order")
        demo.report(app, "pageview")


def _sends_nonsense(demo: Demo) -> None:
    """Meta refuses what stands in the event; the stand-in is told to, since the endpoint lets nothing bad pass."""
    app = demo.of(SENDS_NONSENSE)[0]
    subcode, words = demo.chance.choice(_NONSENSE)
    demo.meta.fault(
        "events", "error", count=1, pixel=app.pixel_id, error={"code": 100, "subcode": subcode, "message": words}
    )
    demo.report(app, "order")


def _another_passes(demo: Demo) -> None:
    app = demo.chance.choice([app for app in demo.lively() if app.expires_at is not None])
    with writing(demo.engine) as conn:
        apps.correct_expiry(conn, demo.of(app.email), app.fingerprint or "", clock.now() - timedelta(seconds=1))
    demo.report(app, "order")


def _somebody_reconnects(demo: Demo) -> None:
    """A merchant logs in again: the platform writes a new token into its own table, and nothing else."""
    waiting = [owner for owner in OWNERS if owner.at_meta == "over" and owner.email not in demo.reconnects]
    if not waiting:
        return
    owner = waiting[-1]
    demo.reconnects.append(owner.email)
    token = demo.meta.create_token(user="2002")
    with writing(demo.engine) as conn:
        for app in apps.of_user(conn, apps.user_id_of(conn, owner.email)):
            apps.write_token(conn, app.id, token, expires_at=clock.now() + timedelta(days=60))


SCENES = (
    Scene(3, _sends_nonsense, every=420),
    Scene(8, _dies),
    Scene(14, _sends_nonsense),
    Scene(FIRST_END.total_seconds() + 1, _passes_its_end),
    Scene(240, _another_passes, every=150),
    Scene(360, _somebody_reconnects, every=600),
)


def main() -> None:
    given = settings.load()
    logs.keep_out(given.secrets())
    logs.setup(given.log_level)
    demo = _open(given)

    def told(_number: int, _frame: FrameType | None) -> None:
        demo.stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    demo.seed()
    demo.run()


def _open(given: Settings) -> Demo:
    """Refused anywhere but in front of the sandbox: it writes shops of its own."""
    host = given.graph_url.split("//", 1)[-1].rsplit(":", 1)[0]
    if not is_loopback(host) or not given.shopify_api_secret:
        raise Refused("the demo only plays in front of the sandbox: run `capi-console up --sandbox`")
    engine = database.open_engine(given.database_url, pool_size=2)
    migrate.prepare(engine, given.encryption_keys)
    return Demo(engine, given, chance=random.Random(2026))


if __name__ == "__main__":
    try:
        main()
    except CoreError as error:
        raise SystemExit(f"demo: {error}") from None
