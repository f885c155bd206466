"""Each failpoint in its turn: a process is led to it, dies there, and the next one must make good what it left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import requests
from sqlalchemy import select, update

from core import clock
from core.desk import cases, commands
from core.desk.operators import Operator
from core.drills.crew import PATIENCE, Crew
from core.drills.processes import Process, environment, eventually
from core.drills.shops import DAY
from core.secret import Secret
from core.settings import load as load_settings
from core.store import acceptance, keyring, outbox, rekey
from core.store.apps import App
from core.store.database import reading, writing
from core.store.schema import capi_event, capi_job, capi_outbox, capi_schedule, capi_token

if TYPE_CHECKING:
    from core.drills.crash import Trade

ENDPOINT, WORKER = "endpoint-1", "worker-1"
BY = Operator("drill", "admin")
INTAKE = ("intake.before_commit", "intake.after_commit")
REKEY = ("rekey.before_commit", "rekey.mid_way")
RECONNECT = "reconnect.before_store"


@dataclass
class Places:
    """Rounds through all places. `hits`: place → deaths there; `missed`: what was not reached, or not made good;
    `written`: ids of events that were not reported by HTTP; `broken`: tokens to be exchanged, beside the trade's."""

    crew: Crew
    trade: Trade
    keys: list[str]
    hits: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    broken: list[Secret] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stage, self.shops = self.crew.stage, self.crew.stage.shops
        self.leading: dict[str, Callable[[], object]] = {
            "delivery.after_claim": self._events,
            "send.before_post": self._events,
            "send.after_accept": self._events,
            "send.after_refusal": self._refusal,
            "send.after_commit": self._events,
            "refresh.before_exchange": self._break,
            "refresh.after_exchange": self._break,
            "refresh.after_store": self._break,
            "job.before_record": self._refresh_job,
            "job.mid_chunk": self._retry_job,
            "rollup.before_commit": lambda: self._due("hourly counts"),
            "retention.before_commit": lambda: self._due("retention"),
        }
        self.rounds = 0

    @property
    def every(self) -> tuple[str, ...]:
        return (*INTAKE, *self.leading, RECONNECT, *REKEY)

    def round(self) -> None:
        """Once through all places; begins and ends with one endpoint and no worker."""
        self.rounds += 1
        self._intake()
        for place, lead in self.leading.items():
            lead()
            self.crew.start(WORKER, failpoints=f"{place}=kill")
            self._note(place, died=self.crew.dies(WORKER))
        lost = self._lost_merchant()
        self.crew.up(WORKER)
        eventually(self._mended, within=2 * PATIENCE, saying=self.crew.running[WORKER].log.read_text)
        self._reconnect(lost)
        for place in REKEY:
            self._rekey(place)
        eventually(lambda: set(self.shops.states()) == {"delivered"}, within=PATIENCE, saying=self._left)
        self.crew.kill(WORKER)

    def _note(self, place: str, *, died: bool) -> None:
        self.hits[place] += died
        if not died:
            self.missed.append(place)

    def _intake(self) -> None:
        """The same call is sent again and again until an endpoint lives long enough to answer it."""
        app = self._shop()
        self.crew.kill(ENDPOINT)
        with self.trade.hands(1) as pool:
            call = pool.submit(self.trade.report, app, 3)
            for place in INTAKE:
                self.crew.start(ENDPOINT, failpoints=f"{place}=kill")
                self._note(place, died=self.crew.dies(ENDPOINT))
            self.crew.up(ENDPOINT)
            call.result()

    def _shop(self) -> App:
        return self.shops.an_app(self.shops.meta.create_token())

    def _events(self) -> App:
        app = self._shop()
        self.trade.report(app, 3)
        return app

    def _refusal(self) -> None:
        app = self._events()
        self.shops.meta.fault("events", "transient_1", count=1, pixel=app.pixel_id)

    def _break(self) -> None:
        for app in self.trade.a_broken_merchant():
            self.trade.report(app)

    def _refresh_job(self) -> None:
        tokens = [self.shops.meta.create_token(expires_in=20 * 86_400) for _ in range(2)]
        for token in tokens:
            self.shops.an_app(token, expires_in=20 * DAY)
        self.broken += tokens
        found = [token.fingerprint for token in tokens]
        commands.order_refresh(self.stage.engine, found, by=BY, reason="drill", now=clock.now())

    def _retry_job(self) -> None:
        app = self._shop()
        events = [self.shops.new_event(app) for _ in range(30)]
        ids = [event.event_id for event in events]
        with writing(self.stage.engine) as conn:
            acceptance.accept(conn, events, now=clock.now())
            rows = list(conn.scalars(select(capi_event.c.id).where(capi_event.c.event_id.in_(ids))))
            outbox.move(conn, "bury", rows, failure="invalid_event")
        self.written += ids
        commands.order_retry(self.stage.engine, rows, by=BY, reason="drill", now=clock.now())

    def _due(self, task: str) -> None:
        s, past = capi_schedule.c, clock.now() - timedelta(seconds=1)
        with writing(self.stage.engine) as conn:
            conn.execute(update(capi_schedule).where(s.task == task).values(due_at=past))

    def _lost_merchant(self) -> App:
        """Meta refuses the token for good: only its owner can help."""
        user = str(7_000 + self.rounds)
        token = self.shops.meta.create_token(user=user)
        app = self.shops.an_app(token, email=f"lost{self.rounds}@example.com")
        self.shops.meta.kill(token)
        self.shops.meta.login(user=user)
        self.trade.report(app)
        return app

    def _mended(self) -> bool:
        """Everything but the lost merchant's event is on its way, and every job is done."""
        o, t, j = capi_outbox.c, capi_token.c, capi_job.c
        waits = t.broken_since.is_not(None) & t.needs_reconnect.is_(False)
        with reading(self.stage.engine) as conn:
            due = conn.scalar(select(o.id).where(o.state == "due").limit(1))
            undone = conn.scalar(select(j.id).where((j.state != "done") | (j.done != j.total)).limit(1))
            lost = conn.scalar(select(t.fingerprint).where(t.needs_reconnect.is_(True)).limit(1))
            waiting = conn.scalar(select(t.fingerprint).where(waits).limit(1))
        return lost is not None and (due, undone, waiting) == (None, None, None)

    def _left(self) -> str:
        return f"{self.shops.states()} {self.crew.running[WORKER].log.read_text()}"

    def _reconnect(self, app: App) -> None:
        """The endpoint dies with the merchant's new token in hand; their second try must do."""
        engine, now = self.stage.engine, clock.now()
        own = {"CAPI_ENDPOINT_PORT": str(self.crew.port(ENDPOINT))}
        settings = load_settings(environment(self.stage.url, self.stage.meta.sandbox.url, **own))
        with reading(engine) as conn:
            case = cases.case_of_app(conn, app.id, now=now)
        link = cases.make_link(engine, settings, case.id, by=BY, now=now).link
        self.crew.kill(ENDPOINT)
        self.crew.start(ENDPOINT, failpoints=f"{RECONNECT}=kill")
        eventually(lambda: self.crew.answers(ENDPOINT), within=PATIENCE)
        with suppress(requests.RequestException):
            _log_in(link)
        self._note(RECONNECT, died=self.crew.dies(ENDPOINT))
        self.crew.up(ENDPOINT)
        _log_in(link)

    def _rekey(self, place: str) -> None:
        """A rotation is cut short, and made once more; then every token has the newest key."""
        self.keys.reverse()
        codes = [self._rotate(CAPI_DRILL="1", CAPI_FAILPOINTS=f"{place}=kill"), self._rotate()]
        self._note(place, died=codes[0] == -9)
        newest = keyring.Keyring([Secret(key) for key in self.keys]).newest
        with reading(self.stage.engine) as conn:
            census = rekey.census(conn)
        if codes[1] != 0 or newest is None or set(census.by_key) != {newest.id} or census.unreadable:
            self.missed.append(f"{place}: {census}")

    def _rotate(self, **more: str) -> int:
        env = environment(self.stage.url, self.stage.meta.sandbox.url, CAPI_ENCRYPTION_KEYS=",".join(self.keys), **more)
        log, born = self.stage.folder / "rotate.log", self.stage.nursery.start
        process = Process("keys", "rotate", env=env, log=log, born=born)
        return process.popen.wait(PATIENCE)


def _log_in(link: str) -> None:
    """The merchant's browser, from the button through the dialog to the page at the end."""
    with requests.Session() as browser:
        browser.trust_env = False
        browser.post(link, timeout=20)
