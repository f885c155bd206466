"""A person or a shop is forgotten: what waits is emptied and never sent, what is known leads to nobody any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, func, select, update

from core.desk.explain import explain
from core.meta.events import encode
from core.meta.hashing import hashed
from core.services import bulk, delivery, privacy
from core.store import acceptance, audit, jobs, outbox, pixels, receipts, visitors
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.database import reading, writing
from core.store.hopeless import why_no_retry
from core.store.redaction import SHOP_PARTS, Subject
from core.store.schema import (
    capi_alias,
    capi_audit,
    capi_event,
    capi_job,
    capi_job_item,
    capi_join,
    capi_outbox,
    capi_pixel,
    capi_receipt,
    capi_visitor,
    ours,
)
from core.store.visitors import Join, Visitor
from tests.inbound.bodies import SHOP, order
from tests.inbound.serving import an_endpoint
from tests.processes import ROOT, eventually
from tests.world import DAY, World

ANA = str(hashed("em", "ana@example.com"))
ANA_PHONE = str(hashed("ph", "+390115550142"))
ANA_ID = str(hashed("external_id", f"{SHOP}:77"))
BOB = str(hashed("em", "bob@example.com"))
FBP = "fb.1.1760000000000.7"


@dataclass
class Place:
    """A world with one app, and what privacy is about in it."""

    world: World
    app: App
    serial: list[int] = field(default_factory=lambda: [0])

    @property
    def engine(self) -> Engine:
        return self.world.engine

    def event(self, state: str = "due", *, app: App | None = None, order_id: str | None = None, **more: Any) -> int:
        """The id of one event of `Ana` unless `user_data` says otherwise."""
        app, now = app or self.app, self.world.clock()
        self.serial[0] += 1
        event_id = more.pop("event_id", f"event-{self.serial[0]}")
        names, join = more.pop("aliases", ()), more.pop("join", None)
        body = {
            "event_name": "Purchase",
            "event_id": event_id,
            "event_time": int(now.timestamp()),
            "action_source": "website",
            "event_source_url": "https://shop.example/",
            "user_data": {"client_user_agent": "Mozilla/5.0", "em": [ANA]},
            "custom_data": {"value": 10, "currency": "EUR"},
        } | more
        skipped = "bot" if state == "skipped" else None
        new = NewEvent(
            app.id, app.pixel_id or "", "Purchase", event_id, "track", now, now + 7 * DAY, encode(body),
            order_id=order_id, skipped=skipped, aliases=names, join=join,
        )  # fmt: skip
        with writing(self.engine) as conn:
            assert acceptance.accept(conn, [new], now=now) == [True]
            where = (capi_event.c.event_id == event_id, capi_event.c.app_id == app.id)
            id_ = int(conn.execute(select(capi_event.c.id).where(*where)).scalar_one())
            if verb := {"parked": "park", "dead": "bury", "delivered": "deliver"}.get(state):
                changes = {"parked_by": "fp_x", "failure": "token_dead"} if verb == "park" else {"failure": "unknown"}
                outbox.move(conn, verb, [id_], **changes)
        return id_

    def order(self, kind: str, *subjects: Subject) -> int:
        with writing(self.engine) as conn:
            written = sorted(map(str, subjects))
            order = {"dedupe_key": f"{kind}:x", "by": "shopify", "reason": f"{kind} x"}
            return jobs.order(conn, kind, written, now=self.world.clock(), **order)

    def redact(self, *subjects: Subject, kind: str = "redact_customer") -> int:
        job = self.order(kind, *subjects)
        bulk.run(self.world.service(), job, threads=2)
        return job

    def line(self, id_: int) -> Any:
        with reading(self.engine) as conn:
            return conn.execute(select(capi_event).where(capi_event.c.id == id_)).one()

    def payload(self, id_: int) -> bytes | None:
        with reading(self.engine) as conn:
            found = conn.scalar(select(capi_outbox.c.payload).where(capi_outbox.c.id == id_))
        return None if found is None else bytes(found)

    def is_emptied(self, id_: int) -> bool:
        line = self.line(id_)
        return (line.state, line.failure, line.order_id, self.payload(id_)) == ("dead", "redacted", None, b"")

    def words(self, job: int) -> dict[str, str]:
        with reading(self.engine) as conn:
            items = conn.execute(select(capi_job_item).where(capi_job_item.c.job_id == job)).all()
        assert {item.outcome for item in items} <= {"ok", None}
        return {Subject.of(item.subject).what: item.words for item in items}

    def job(self, job: int) -> Any:
        with reading(self.engine) as conn:
            return conn.execute(select(capi_job).where(capi_job.c.id == job)).one()

    def count(self, table: Any) -> int:
        with reading(self.engine) as conn:
            return int(conn.execute(select(func.count()).select_from(table)).scalar_one())

    def audits(self) -> list[Any]:
        with reading(self.engine) as conn:
            assert audit.first_broken(conn) is None
            return list(conn.execute(select(capi_audit).order_by(capi_audit.c.id)))

    def customer(self, *digests: str) -> Subject:
        return Subject("customer", ",".join(digests), self.app.id)

    def the_order(self, order_id: str) -> Subject:
        return Subject("order", order_id, self.app.id)

    def shop(self) -> list[Subject]:
        return [Subject(part, "all", self.app.id) for part in SHOP_PARTS]

    def lease_runs_out(self, job: int) -> None:
        with writing(self.engine) as conn:
            conn.execute(update(capi_job).where(capi_job.c.id == job).values(lease_until=None))


@pytest.fixture
def place(world: World, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(privacy, "TURN", 0.3)
    monkeypatch.setattr(privacy, "REST", 0.02)
    return Place(world, world.an_app(world.meta.create_token()))


AGENT = {"client_user_agent": "Mozilla/5.0"}
PERSONS: list[dict[str, Any]] = [
    {"em": ANA},
    {"em": [BOB, ANA]},
    {"em": ANA + ".AQYBAQAA"},
    {"ph": [ANA_PHONE], "em": BOB},
    {"external_id": ANA_ID},
    {"external_id": ["x", ANA_ID.upper()]},
]


@pytest.mark.parametrize("state", ["due", "parked", "dead"])
def test_what_waits_with_a_persons_digest_is_emptied(place: Place, state: str) -> None:
    hers = [place.event(state, user_data=AGENT | person) for person in PERSONS]
    his = place.event(state, user_data=AGENT | {"em": BOB})
    before = place.payload(his)
    job = place.redact(place.customer(ANA, ANA_PHONE, ANA_ID))
    assert all(map(place.is_emptied, hers))
    assert (place.line(his).state, place.payload(his)) == (state, before)
    assert place.words(job) == {"customer": "payloads 6"}
    assert (place.job(job).state, place.job(job).done, place.job(job).failed) == ("done", 1, 0)
    (line,) = place.audits()
    assert (line.by, line.action, line.count, line.reason) == ("shopify", "redact_customer_done", 6, "payloads 6")


def test_what_was_emptied_is_never_sent_nor_retried(place: Place) -> None:
    id_ = place.event(order_id="5")
    place.redact(place.customer(ANA))
    line = place.line(id_)
    assert why_no_retry(line.state, line.failure, line.deadline_at, now=place.world.clock()) is not None
    with writing(place.engine) as conn:
        retry = jobs.order(
            conn, "retry_events", [str(id_)], dedupe_key="r", by="ann", reason=None, now=place.world.clock()
        )
    bulk.run(place.world.service(), retry, threads=1)
    with reading(place.engine) as conn:
        assert jobs.results(conn, retry) == {"skipped": 1}
    place.world.deliver(place.app)
    assert place.is_emptied(id_)
    assert place.world.meta.events() == []
    assert "forgotten" in explain("redacted").what


def test_an_order_is_forgotten_in_every_state(place: Place) -> None:
    states = ("due", "parked", "dead", "delivered", "skipped")
    bob = {"client_user_agent": "Mozilla/5.0", "em": BOB}
    ids = {state: place.event(state, order_id="501", user_data=bob) for state in states}
    other = place.event(order_id="502", user_data=bob)
    elsewhere = place.event(app=place.world.an_app(), order_id="501")
    job = place.redact(place.the_order("501"))
    assert {place.line(id_).order_id for id_ in ids.values()} == {None}
    assert [place.is_emptied(ids[state]) for state in states] == [True, True, True, False, False]
    assert [place.line(ids[state]).state for state in ("delivered", "skipped")] == ["delivered", "skipped"]
    assert (place.line(other).order_id, place.line(other).state) == ("502", "due")
    assert (place.line(elsewhere).order_id, place.line(elsewhere).state) == ("501", "due")
    assert place.words(job) == {"order": "order ids 5, payloads 3"}


def test_what_a_browser_told_under_another_name_of_the_order_is_found(place: Place) -> None:
    told = place.event(order_id="#1001", aliases=("order:#1001", "order:501", "checkout:ck-1"), user_data={"em": BOB})
    sent = place.event("delivered", order_id="502", aliases=("order:502",))
    job = place.redact(place.the_order("501"), place.the_order("502"), place.the_order("503"))
    assert place.is_emptied(told)
    assert place.line(sent).order_id is None
    with reading(place.engine) as conn:
        assert conn.scalars(select(capi_alias.c.alias)).all() == ["checkout:ck-1"]
    assert place.job(job).done == 3


def test_an_order_is_found_by_what_its_second_report_called_it(place: Place) -> None:
    place.event(order_id="1", aliases=("order:#1001",), user_data={"em": BOB})
    now = place.world.clock()
    second = NewEvent(
        place.app.id, "1", "Purchase", "again", "track", now, now + DAY, b"{}", aliases=("order:#1001", "order:501")
    )
    with writing(place.engine) as conn:
        assert acceptance.accept(conn, [second], now=now) == [False]
    assert place.count(capi_alias) == 2
    assert place.words(place.redact(place.the_order("501"))) == {"order": "aliases 2, order ids 1, payloads 1"}
    assert place.count(capi_alias) == 0


def test_the_browsers_of_a_person_go_and_others_stay(place: Place) -> None:
    now = place.world.clock()
    seen = [("checkout", "ck-1"), ("cart", "ct-1"), ("fbp", FBP), ("cart", "ct-2"), ("fbp", "fb.1.1.2")]
    other = place.world.an_app()
    with writing(place.engine) as conn:
        browsers = [
            Visitor(app.id, kind, key, "93.184.216.34", "UA") for app in (place.app, other) for kind, key in seen
        ]
        visitors.remember(conn, browsers, now=now)
    place.event("delivered", event_id="purchase.ck-1", order_id="9")
    place.event(event_id="x", aliases=("cart:ct-1",), user_data={"em": ANA, "fbp": FBP})
    job = place.redact(place.customer(ANA), place.the_order("9"))
    with reading(place.engine) as conn:
        left = {(row.app_id, row.kind, row.key) for row in conn.execute(select(capi_visitor))}
    assert left == {(place.app.id, "cart", "ct-2"), (place.app.id, "fbp", "fb.1.1.2")} | {(other.id, *k) for k in seen}
    assert place.words(job)["customer"] == "browsers 2, payloads 1"


def test_an_event_that_waits_for_its_browser_is_emptied_as_well(place: Place) -> None:
    until = place.world.clock() + timedelta(minutes=1)
    id_ = place.event(join=Join(until, cart="ct-1", checkout="ck-1"))
    job = place.redact(place.customer(ANA))
    assert place.is_emptied(id_)
    assert (place.count(capi_join), place.words(job)) == (0, {"customer": "payloads 1, waits 1"})


def test_what_is_being_sent_is_left_alone_and_looked_at_again(place: Place) -> None:
    """Due events of a leased pixel may be in a request: their answer decides. What is parked is in nobody's hands."""
    due, parked = place.event(order_id="5"), place.event("parked", order_id="5")
    with writing(place.engine) as conn:
        lease = pixels.take(conn, str(place.app.pixel_id), by="sender", now=place.world.clock())
    assert lease is not None
    job = place.redact(place.customer(ANA), place.the_order("5"))
    assert (place.job(job).state, place.job(job).done) == ("running", 0)
    assert (place.line(due).state, place.line(due).order_id) == ("due", "5")
    assert b"em" in (place.payload(due) or b"")
    assert place.is_emptied(parked)
    with writing(place.engine) as conn:
        pixels.give_up(conn, lease)
    bulk.run(place.world.service(), job, threads=2)
    assert place.job(job).done == 0, "its own lease keeps others away for a while"
    place.lease_runs_out(job)
    bulk.run(place.world.service("another"), job, threads=2)
    assert place.is_emptied(due)
    assert place.job(job).state == "done"
    assert sum(int(word.split()[1]) for words in place.words(job).values() for word in words.split(", ")
               if word.startswith("payloads")) == 2  # fmt: skip


@pytest.mark.parametrize("wait", [None, timedelta(hours=1)])
def test_a_pixel_that_waits_out_a_refusal_or_was_never_used_is_no_obstacle(
    place: Place, wait: timedelta | None
) -> None:
    id_ = place.event()
    now = place.world.clock()
    if wait is not None:
        with writing(place.engine) as conn:
            conn.execute(capi_pixel.insert().values(pixel_id=place.app.pixel_id, wait_until=now + wait, failures=3))
    place.redact(place.customer(ANA))
    assert place.is_emptied(id_)
    with reading(place.engine) as conn:
        pixel = conn.execute(select(capi_pixel).where(capi_pixel.c.pixel_id == place.app.pixel_id)).one()
    assert (pixel.lease_by, pixel.wait_until) == (None, now + wait if wait else None)


def test_an_event_is_sent_or_forgotten_never_both(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers deliver while people are forgotten: what Meta heard says so in the ledger, the rest is emptied."""
    monkeypatch.setattr(delivery, "MAX_EVENTS", 20)
    place.world.meta.fault("events", "latency", seconds=0.03)
    bob = {"client_user_agent": "Mozilla/5.0", "em": BOB}
    hers = [place.event(event_id=f"a{n}") for n in range(100)]
    his = [place.event(event_id=f"b{n}", user_data=bob) for n in range(100)]
    job = place.order("redact_customer", place.customer(ANA))

    def send(name: str) -> None:
        batches = iter(range(3))
        service = place.world.service(name)
        for _ in range(4):  # a gap between turns, as workers have them
            delivery.deliver(
                place.engine,
                service.graph,
                str(place.app.pixel_id),
                policy=service.policy,
                by=name,
                stop=lambda: next(batches, None) is None,
            )

    def forget() -> None:
        for _ in range(200):
            bulk.run(place.world.service("forgetter"), job, threads=1)
            if place.job(job).state == "done":
                return
            place.lease_runs_out(job)

    with ThreadPoolExecutor(3) as pool:
        works = [pool.submit(send, "worker-1"), pool.submit(send, "worker-2"), pool.submit(forget)]
        for one in works:
            one.result()
    place.world.meta.clear_faults()
    place.world.deliver(place.app)
    heard = {event["event_id"] for event in place.world.meta.events()}
    assert {place.line(id_).event_id for id_ in his} <= heard
    for id_ in hers:
        line = place.line(id_)
        assert place.is_emptied(id_) is not (line.event_id in heard)
        assert line.state == ("delivered" if line.event_id in heard else "dead")
    assert place.job(job).state == "done"


def _a_shop(place: Place, app: App, events: int = 2) -> list[int]:
    now, states = place.world.clock(), ("due", "parked", "dead", "delivered", "skipped")
    ids = [
        place.event(state, app=app, order_id=f"{state}{n}", aliases=(f"order:{state}{n}", f"cart:{state}{n}"))
        for state in states
        for n in range(events)
    ]
    ids.append(place.event(app=app, join=Join(now, cart="c")))
    with writing(place.engine) as conn:
        keys = [("cart", f"c{n}") for n in range(events)] + [("fbp", FBP)]
        visitors.remember(conn, [Visitor(app.id, kind, key, "1.2.3.4") for kind, key in keys], now=now)
        told = {"app_id": app.id, "shop_domain": SHOP, "detail": "webhook 1"}
        for _ in range(events):
            receipts.record(conn, source="carts/create", reason="stale", status=200, now=now, **told)
    return ids


def _about(place: Place, app: App) -> list[tuple[Any, ...]]:
    with reading(place.engine) as conn:
        tables = (capi_event, capi_outbox, capi_visitor, capi_alias, capi_join, capi_receipt)
        rows = [tuple(row) for table in tables for row in conn.execute(select(table).where(table.c.app_id == app.id))]
    return sorted(rows, key=repr)


@pytest.mark.parametrize("chunk", [1, 3, 500])
def test_a_shop_is_forgotten_and_its_neighbours_are_not(
    place: Place, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy, "CHUNK", chunk)
    other = place.world.an_app()
    ids = _a_shop(place, place.app)
    _a_shop(place, other)
    before = _about(place, other)
    job = place.redact(*place.shop(), kind="redact_shop")
    assert _about(place, other) == before
    with reading(place.engine) as conn:
        mine = {
            table.name: conn.execute(select(table).where(table.c.app_id == place.app.id)).all()
            for table in (capi_event, capi_outbox, capi_visitor, capi_alias, capi_join, capi_receipt)
        }
    assert [mine[name] for name in ("capi_visitor", "capi_alias", "capi_join")] == [[], [], []]
    assert {bytes(row.payload) for row in mine["capi_outbox"]} == {b""}
    assert {(row.shop_domain, row.detail) for row in mine["capi_receipt"]} == {(None, None)}
    assert {row.order_id for row in mine["capi_event"]} == {None}
    assert {(row.state, row.failure) for row in mine["capi_event"] if row.state == "dead"} == {("dead", "redacted")}
    assert sorted({row.state for row in mine["capi_event"]}) == ["dead", "delivered", "skipped"]
    assert len(mine["capi_event"]) == len(ids)
    assert (place.job(job).state, place.job(job).done) == ("done", 5)
    assert {line.action: line.count for line in place.audits()} == {"redact_shop_done": _sum(place, job)}


def _sum(place: Place, job: int) -> int:
    return sum(privacy._tally(list(place.words(job).values())).values())


def test_what_is_done_is_counted_once_however_small_the_pieces(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "CHUNK", 2)
    for n in range(9):
        place.event("parked", order_id=str(n), aliases=(f"order:{n}",))
    assert place.words(place.redact(place.customer(ANA))) == {"customer": "aliases 9, order ids 9, payloads 9"}


def test_nothing_held_is_an_answer(place: Place) -> None:
    job = place.redact(place.customer(ANA), place.the_order("9"))
    assert set(place.words(job).values()) == {"nothing is held"}
    (line,) = place.audits()
    assert (line.count, line.reason) == (0, "nothing is held")


def test_a_cancelled_redaction_goes_no_further(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "CHUNK", 1)
    for _ in range(6):
        place.event("parked")
    job = place.order("redact_customer", place.customer(ANA))
    real, pieces = privacy._piece, iter(range(6))

    def piece(*args: Any) -> bool:
        if next(pieces) == 2:
            with writing(place.engine) as conn:
                jobs.end(conn, job, now=place.world.clock(), state="cancelled")
        return real(*args)

    monkeypatch.setattr(privacy, "_piece", piece)
    bulk.run(place.world.service(), job, threads=1)
    assert place.world.states() == {"dead": 2, "parked": 4}
    assert (place.job(job).state, place.words(job)) == ("cancelled", {"customer": "payloads 2"})


_KILLED = """
import sys, time
from core.services import bulk, delivery, privacy
from core.services.policy import Policy
from core.services.refresh import TokenRefreshService
from core.store.database import open_engine
privacy.CHUNK, real = 1, privacy._piece
def slow(*args):
    time.sleep(0.05)
    return real(*args)
privacy._piece = slow
engine = open_engine(sys.argv[1])
service = TokenRefreshService(engine, None, Policy(), worker="killed")
bulk.run(service, int(sys.argv[2]), threads=3)
"""


def test_a_job_that_was_killed_goes_on_and_counts_right(place: Place, database_url: str) -> None:
    ids = _a_shop(place, place.app, events=8)
    job = place.order("redact_shop", *place.shop())
    run = subprocess.Popen([sys.executable, "-c", _KILLED, database_url, str(job)], cwd=ROOT, env={**os.environ})
    eventually(lambda: "payloads 3" in (place.words(job)["payloads"] or ""), saying=lambda: str(place.words(job)))
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert place.job(job).state == "running"
    place.lease_runs_out(job)
    bulk.run(place.world.service("second"), job, threads=3)
    assert place.job(job).state == "done"
    counts = privacy._tally(list(place.words(job).values()))
    assert counts == {
        "payloads": 8 * 3 + 1,
        "order ids": 8 * 5,
        "aliases": 8 * 4 * 2,  # what was skipped at once claims none
        "browsers": 8 + 1,
        "receipts": 8,
        "waits": 1,
    }
    assert {place.line(id_).order_id for id_ in ids} == {None}
    assert place.count(capi_alias) + place.count(capi_visitor) + place.count(capi_join) == 0
    (line,) = place.audits()
    assert line.count == sum(counts.values())


def test_what_is_held_is_listed_without_its_values(place: Place) -> None:
    person = {"em": ANA, "ph": ANA_PHONE, "fbp": FBP, "client_user_agent": "Mozilla/5.0 (X11)"}
    due = place.event(order_id="501", event_id="purchase.ck-1", user_data=person)
    sent = place.event("delivered", order_id="501", event_id="purchase.ck-2")
    with writing(place.engine) as conn:
        now = place.world.clock()
        visitors.remember(conn, [Visitor(place.app.id, "checkout", "ck-2", "93.184.216.34", fbp=FBP)], now=now)
    before = [place.line(id_) for id_ in (due, sent)]
    job = place.redact(place.customer(ANA, ANA_PHONE), place.the_order("501"), kind="customer_data")
    words = place.words(job)
    at = f"{place.line(due).event_time:%Y-%m-%d %H:%M} UTC"
    told = f"Purchase purchase.ck-1, {at}, due: client_user_agent, currency, em, fbp, order_id, ph, value"
    assert words["customer"] == f"events 1\n{told}"
    assert words["order"].splitlines() == [
        "browsers 1, events 2",
        told,
        f"Purchase purchase.ck-2, {at}, delivered: order_id",
        f"a browser by its checkout, seen {now:%Y-%m-%d %H:%M} UTC: address, fbp",
    ]
    assert not any(value in str(words) for value in (ANA, ANA_PHONE, FBP, "X11", "93.184"))
    assert [place.line(id_) for id_ in (due, sent)] == before
    (line,) = place.audits()
    assert (line.action, line.count, line.reason) == ("customer_data_done", 4, "browsers 1, events 3")


def test_from_the_webhook_to_the_last_table(engine: Engine, meta: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order comes in, its buyer is forgotten over HTTP, and no table holds a trace of the person."""
    monkeypatch.setattr(privacy, "TURN", 0.3)
    world = World(engine, meta)
    body = order(id=501, email="Ana.Conti@example.com", phone="+39 011 555 0142", customer={"id": 77})
    with an_endpoint(engine) as endpoint:
        assert endpoint.webhook("orders/create", body).json()["accepted"] == 1
        held = endpoint.payloads()[0]
        customer = {"id": 77, "email": "ana.conti@EXAMPLE.com", "phone": "+390115550142"}
        asked = {"shop_id": 1, "shop_domain": SHOP, "customer": customer, "orders_to_redact": [501]}
        assert endpoint.webhook("customers/redact", asked).status_code == 200
        with reading(engine) as conn:
            (job,) = jobs.due(conn, now=world.clock())
        bulk.run(world.service(), int(job), threads=2)
        (event,) = endpoint.events()
        assert (event.state, event.failure, event.order_id) == ("dead", "redacted", None)
        assert endpoint.payloads() == [b""]
        assert endpoint.webhook("customers/redact", asked).status_code == 200
    with reading(engine) as conn:
        every = repr([tuple(row) for table in ours.sorted_tables for row in conn.execute(select(table))]).lower()
        assert conn.scalar(select(func.count()).select_from(capi_job)) == 1
    person = orjson.loads(held)["user_data"]
    assert {"em", "ph", "external_id"} <= set(person)
    assert not any(word in every for word in ("conti", "0115550142", "555 0142", "lamp-b", "turin"))
    kept = {key for key in ("fn", "ln", "client_ip_address", "fbp") if str(person.get(key)) in every}
    assert kept == set()


def test_a_subject_is_read_as_it_was_written() -> None:
    subject = Subject("order", "1", "an app id with blanks")
    assert Subject.of(str(subject)) == subject
    assert {*SHOP_PARTS, "customer", "order"} == set(privacy.PARTS)
