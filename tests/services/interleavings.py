"""The state machine of refreshes: everybody who may touch a token, in any order, stopped and killed anywhere.

What must hold after every step: no app's token is replaced by an older one except by the platform itself; of one
user's apps none keeps a token that a refresh replaced for another of them; one exchange at a time for one token; no
event stays parked once its token can be used. And in the end everything that can be delivered has been.
"""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Engine, select, text, update

from core.meta.answers import TokenFacts
from core.meta.events import encode
from core.meta.failures import Failure
from core.meta.graph import GraphError
from core.secret import Secret
from core.services import schedule, watch
from core.services.delivery import deliver
from core.services.policy import Policy
from core.services.refresh import TokenRefreshService
from core.store import acceptance, apps, tokens
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.database import is_embedded, reading, writing
from core.store.platform_tables import app_settings
from core.store.schema import capi_event, capi_outbox, capi_token, ours
from core.store.wake import Work
from tests.services.actors import Actor, Meta, gate, note_lease

START = datetime(2026, 11, 1, tzinfo=UTC)
APP_ID = "1122334455"
DAY = timedelta(days=1)
# Two apps of one user on one pixel, a third on its own, and another user's app.
SHOPS = (("ann", "1"), ("ann", "1"), ("ann", "2"), ("bob", "3"))
SPANS = (timedelta(seconds=1), timedelta(seconds=61), timedelta(minutes=11), timedelta(hours=13), 31 * DAY)
MOST_ACTORS = 4
_serial = itertools.count(1)

_TOKENS = 'SELECT "appId", "metaAccessToken" FROM "AppSettings"'

which_app = st.integers(0, len(SHOPS) - 1)
which_actor = st.integers(0, MOST_ACTORS - 1)


def set_up(engine: Engine) -> list[str]:
    """The shops, once for all examples; the ids of their apps."""
    with writing(engine) as conn:
        return [
            apps.add(conn, name="Shop", email=f"{who}@example.com", shop_domain=None, pixel_id=pixel).id
            for who, pixel in SHOPS
        ]


def machine(engine: Engine, app_ids: list[str]) -> type[RuleBasedStateMachine]:
    """The machine on this database; `counts` says what it has done."""
    return type("Refreshes", (Refreshes,), {"engine": engine, "app_ids": app_ids, "counts": Counter()})


class Refreshes(RuleBasedStateMachine):
    engine: Engine
    app_ids: list[str]
    counts: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.meta = Meta(lambda: self.now, APP_ID)
        self.actors: list[Actor] = []
        self.crashed: list[Actor] = []
        self.policy = Policy(app_id=APP_ID)
        self._empty()

    @initialize(days=st.sampled_from([5, 1, 20, 50]), shared=st.booleans(), keeps_end=st.booleans())
    def begin(self, days: int, shared: bool, keeps_end: bool) -> None:
        """Ann's apps hold one token or two, Bob's the same as Ann's or his own."""
        ann = self.meta.issue("1", days=days, keeps_end=keeps_end)
        third = ann if shared else self.meta.issue("1", days=days + 3)
        bob = ann if shared else self.meta.issue("2", days=days)
        for at, token in enumerate((ann, ann, third, bob)):
            self._store(at, token)
        self.held = self._held()

    @precondition(lambda self: len(self.actors) < MOST_ACTORS)
    @rule(at=which_app, trigger=st.sampled_from(["scheduled", "on_error", "manual", "bulk"]))
    def refresh(self, at: int, trigger: str) -> None:
        app = self._app(at)
        if app.token is None:
            return
        service, token = self._service(), app.token
        known = self.meta.of(token)
        if trigger == "on_error" and not self.meta.works(token):
            failure = Failure.TOKEN_DEAD if known.dead else Failure.TOKEN_EXPIRED
            error = GraphError(failure, code=190, subcode=known.dead or 463, fingerprint=token.fingerprint)
            self._start("on error", lambda: service.handle_facebook_api_error(error, app.id))
        elif trigger == "scheduled":
            self._start("scheduled", lambda: service.check_and_refresh_token(app.id))
        else:
            user = app.user_id if trigger == "manual" else None
            self._start(trigger, lambda: service.refresh(token.fingerprint, trigger=trigger, by="test", user_id=user))

    @precondition(lambda self: len(self.actors) < MOST_ACTORS)
    @rule(at=which_app)
    def reconnect(self, at: int) -> None:
        """The owner has logged in: a fresh token, to be stored for all apps that hold the one before."""
        app = self._app(at)
        if app.token is None:
            return
        service, old, new = self._service(), app.token.fingerprint, self.meta.issue(self.meta.of(app.token).user)
        ends = self.meta.of(new).ends_at
        facts = TokenFacts(True, "USER", APP_ID, "1", ("ads_management",), ends, False, None, None)
        given: dict[str, Any] = {"trigger": "reconnect", "by": "owner", "user_id": app.user_id}
        self._start("reconnect", lambda: service.take_over(old, new, facts, **given))

    @precondition(lambda self: len(self.actors) < MOST_ACTORS)
    @rule(at=which_app)
    def send(self, at: int) -> None:
        """An event comes in and a worker delivers what is due for its pixel."""
        self._event(at)
        self._start("deliver", lambda: self._deliver(SHOPS[at][1]))

    @precondition(lambda self: len(self.actors) < MOST_ACTORS)
    @rule()
    def sweep(self) -> None:
        """What a worker does with the most urgent work that it finds."""
        work = [*watch.due_work(self.engine, now=self.now), *self._due()]
        if work:
            self._start("sweep", lambda: self._work(*work[0]))

    @precondition(lambda self: self.actors)
    @rule(at=which_actor, gates=st.sampled_from([1, 1, 2, 3]))
    def go_on(self, at: int, gates: int) -> None:
        actor = self.actors[at % len(self.actors)]
        for _ in range(gates):
            if not actor.done:
                self._step(actor)

    @precondition(lambda self: self.actors)
    @rule(at=which_actor)
    def go_on_to_the_end(self, at: int) -> None:
        actor = self.actors[at % len(self.actors)]
        while not actor.done and actor.at != "waits":
            self._step(actor)

    @precondition(lambda self: self.actors)
    @rule(at=which_actor)
    def crash(self, at: int) -> None:
        """Killed where it stands: its lease stays, what Meta has given it is lost."""
        self.counts["crashes"] += 1
        self.crashed.append(self.actors.pop(at % len(self.actors)))

    @rule(at=which_app, days=st.sampled_from([2, 60]))
    def foreign_write(self, at: int, days: int) -> None:
        """The platform's own login stores a token for one app."""
        self._store(at, self.meta.issue(SHOPS[at][0], days=days))
        self.held = self._held()

    @rule(at=which_app, subcode=st.sampled_from([458, 460]))
    def die(self, at: int, subcode: int) -> None:
        token = self._app(at).token
        if token is not None:
            self.meta.of(token).dead = subcode

    @rule(span=st.sampled_from(SPANS))
    def wait(self, span: timedelta) -> None:
        self.now += span

    @rule()
    def watch(self) -> None:
        """The tasks that every worker's timetable has."""
        watch.notice_tokens(self.engine, self.policy, now=self.now)
        watch.release_replaced(self.engine, now=self.now)
        self._none_parked_for_nothing()

    @invariant()
    def one_exchange_at_a_time(self) -> None:
        assert self.meta.broken == []

    def teardown(self) -> None:
        try:
            if hasattr(self, "held"):
                self._come_to_rest()
                self._all_delivered()
        finally:
            self.counts["examples"] += 1
            self.counts["exchanges"] += self.meta.exchanges
            for actor in (*self.actors, *self.crashed):
                actor.bury()

    # What the rules are made of

    def _start(self, name: str, work: Any) -> None:
        actor = Actor(name, work)
        self.counts["actors"] += 1
        self.actors.append(actor)
        self._step(actor)

    def _step(self, actor: Actor) -> None:
        before = self.held
        actor.step()
        assert self.engine.pool.checkedout() == 0, f"{actor.name} holds a transaction open at: {actor.at}"  # type: ignore[attr-defined]
        if actor.done:
            self.actors.remove(actor)
        self._newer_only(before, actor.name)

    def _newer_only(self, before: list[str | None], name: str) -> None:
        self.held = self._held()
        users = [who for who, _ in SHOPS]
        for user, old, new in zip(users, before, self.held, strict=True):
            if old == new:
                continue
            assert old is not None
            assert new is not None, f"{name} took a token away"
            newer = self.meta.of(new).serial > self.meta.of(old).serial
            assert newer or not self.meta.works(old), f"{name} replaced {old} by the older {new}"
            left = [one for one, who in zip(self.held, users, strict=True) if who == user and one == old]
            assert not left, f"{name} left an app of the same user with {old}"

    def _none_parked_for_nothing(self) -> None:
        waiting, o, e = self._held(), capi_outbox.c, capi_event.c
        with reading(self.engine) as conn:
            parked = select(o.app_id, o.parked_by, o.next_attempt_at, e.failure).join(capi_event, e.id == o.id)
            for row in conn.execute(parked.where(o.state == "parked")):
                holds = waiting[self.app_ids.index(row.app_id)]
                assert row.parked_by == holds, "parked for a token that the app no longer holds"
                known = tokens.get(conn, holds)
                assert known is None or known.broken_since or row.next_attempt_at > self.now, (
                    "parked for a token in use"
                )

    def _come_to_rest(self) -> None:
        """Everybody finishes, leases run out, and the workers do what is due for some days."""
        for _ in range(200):
            if not self.actors:
                break
            self._step(self.actors[0])
            if self.actors and self.actors[0].at == "waits":
                self.now += timedelta(seconds=61)
                self.actors.append(self.actors.pop(0))
        assert not self.actors, f"never comes to an end: {[(a.name, a.at) for a in self.actors]}"
        for span in (timedelta(seconds=61), timedelta(minutes=11), timedelta(hours=2)):
            self.now += span
            for _ in range(4):
                self.watch()
                work = watch.due_work(self.engine, now=self.now)
                for kind, subject in work:
                    before = self._held()
                    self._work(kind, subject)
                    self._newer_only(before, str(kind))
                if not work:
                    break
            if not self._left():
                break

    def _all_delivered(self) -> None:
        """What still waits, waits for a token that Meta does not take, or whose owner is asked for another."""
        self._none_parked_for_nothing()
        assert self.meta.broken == []
        with reading(self.engine) as conn:
            t = capi_token.c
            asked = set(conn.scalars(select(t.fingerprint).where(t.needs_reconnect)))
        for app_id, state in self._left():
            holds = self.held[self.app_ids.index(app_id)]
            assert holds in asked or not self.meta.works(holds), f"an event is still {state} though {holds} works"

    def _left(self) -> list[Any]:
        with reading(self.engine) as conn:
            return list(conn.execute(select(capi_outbox.c.app_id, capi_outbox.c.state)))

    def _work(self, kind: Work, subject: str) -> None:
        if kind is Work.DELIVER:
            self._deliver(subject)
        elif kind is Work.REFRESH:
            with reading(self.engine) as conn:
                known = tokens.get(conn, subject)
            trigger = "on_error" if known and known.broken_since else "scheduled"
            self._service().refresh(subject, trigger=trigger, by="worker")

    def _due(self) -> list[tuple[Work, str]]:
        return [(Work.REFRESH, one) for one in schedule.due_refreshes(self.engine, self.policy, now=self.now)]

    def _deliver(self, pixel: str) -> None:
        service = self._service()
        again: dict[str, Any] = {"policy": self.policy, "by": service.worker, "clock": lambda: self.now}
        mended = [
            service.refresh(one, trigger="on_error", by="worker").usable
            for one in deliver(self.engine, self.meta, pixel, **again)  # type: ignore[arg-type]
        ]
        if any(mended):
            deliver(self.engine, self.meta, pixel, **again)  # type: ignore[arg-type]

    def _service(self) -> TokenRefreshService:
        name = f"worker-{next(_serial)}"
        service = TokenRefreshService(self.engine, self.meta, self.policy, worker=name, clock=lambda: self.now)  # type: ignore[arg-type]
        service.flight.sleep = _waits

        def new_lease() -> str:
            note_lease(self.now)
            return f"{name}:{next(_serial)}"

        service.flight.new_lease = new_lease  # type: ignore[method-assign]
        return service

    def _event(self, at: int) -> None:
        name = f"event-{next(_serial)}"
        body = {"event_name": "PageView", "event_id": name, "event_time": int(self.now.timestamp())}
        more = {"action_source": "website", "user_data": {"client_user_agent": "x", "em": ["a" * 64]}}
        times = (self.now, self.now + 9_000 * DAY)  # no deadline ends an event here
        new = NewEvent(self.app_ids[at], SHOPS[at][1], "PageView", name, "track", *times, encode(body | more))
        with writing(self.engine) as conn:
            acceptance.accept(conn, [new], now=self.now)

    def _app(self, at: int) -> App:
        with reading(self.engine) as conn:
            return apps.get(conn, self.app_ids[at])

    def _held(self) -> list[str | None]:
        """The fingerprints that the apps hold, read past our own keepers."""
        with self.engine.connect() as conn:
            found = {row[0]: row[1] for row in conn.exec_driver_sql(_TOKENS)}
        return [_name(found.get(one)) for one in self.app_ids]

    def _store(self, at: int, token: Secret) -> None:
        """As the platform does it: our tables do not hear of it."""
        row = update(app_settings).where(app_settings.c.appId == self.app_ids[at])
        with writing(self.engine) as conn:
            conn.execute(row.values(metaAccessToken=token, metaTokenExpiresAt=self.meta.of(token).ends_at))

    def _empty(self) -> None:
        with writing(self.engine) as conn:
            if is_embedded(self.engine):
                for table in reversed(ours.sorted_tables):
                    conn.execute(table.delete())
            else:
                conn.execute(text(f"TRUNCATE {', '.join(table.name for table in ours.sorted_tables)}"))


@cache
def _name(token: str | None) -> str | None:
    return Secret(token).fingerprint if token else None


def _waits(_: float) -> None:
    gate("waits")
