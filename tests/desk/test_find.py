"""Find: whatever a person has in hand, exactly, and one thing's story from its webhook to Meta's acceptance."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, select, text

from core.desk import app_options, commands, events, find, find_lines, find_merchant, find_story
from core.desk.detail import EventDetail
from core.desk.explain import FAILURES, REASONS, RECEIPTS
from core.desk.explain_tokens import INCIDENTS
from core.desk.find_shape import Period, Story
from core.desk.operators import Operator
from core.errors import NotFound
from core.inbound.visitors import join_waiting
from core.services import bulk, watch
from core.store import apps, audit, outbox
from core.store.database import reading, writing
from core.store.schema import capi_attempt, capi_event, capi_incident, capi_receipt, capi_refresh
from tests.desk import trouble
from tests.desk.rows import MARK, seed
from tests.inbound.bodies import SHOP, order, tracking
from tests.inbound.serving import Endpoint, an_endpoint
from tests.world import DAY, World

ANN = Operator("Ann", "support")


@pytest.fixture
def rows(engine: Engine, now: datetime) -> Engine:
    """Sixty shops, four hundred events in every state."""
    seed(engine, now=now, apps=60, events=400)
    return engine


@pytest.fixture
def endpoint(world: World) -> Iterator[Endpoint]:
    with an_endpoint(world.engine) as running:
        yield running


def _find(engine: Engine, typed: str | None) -> find.Found:
    with reading(engine) as conn:
        return find.find(conn, typed)


def _one(engine: Engine, sql: str) -> Any:
    with reading(engine) as conn:
        return conn.execute(text(sql)).first()


def _story(engine: Engine, typed: str, now: datetime) -> Story:
    (hit,) = _find(engine, typed).hits
    with reading(engine) as conn:
        return find_story.story(conn, hit.kind, hit.key, now=now)


# ---- what can be typed


# SQL for what is typed → kind, by what it is found
KINDS = {
    "SELECT order_id FROM capi_event WHERE order_id = '#1004'": ("event", "order"),
    "SELECT event_id FROM capi_event WHERE event_id = 'evt-7'": ("event", "event id"),
    "SELECT trace_id FROM capi_attempt WHERE trace_id = 'TrAcE0003'": ("request", "trace id"),
    "SELECT trace_id FROM capi_refresh WHERE trace_id = 'AbCdEf00002'": ("refresh", "trace id"),
    "SELECT shop_domain FROM capi_app WHERE app_id = 'app-00003'": ("app", "shop"),
    "SELECT 'HTTPS://' || shop_domain || '/admin' FROM capi_app WHERE app_id = 'app-00003'": ("app", "shop"),
    "SELECT replace(shop_domain, '.myshopify.com', '') FROM capi_app WHERE app_id = 'app-00003'": ("app", "shop"),
    'SELECT "metaPixelId" FROM "AppSettings" WHERE "appId" = \'app-00004\'': ("app", "pixel"),
    'SELECT "appId" FROM "App" WHERE id = \'app-00005\'': ("app", "app id"),
    "SELECT 'app-00005'": ("app", "app id"),
}


def test_what_a_thing_is_is_found_out(rows: Engine, now: datetime) -> None:
    for sql, wanted in KINDS.items():
        found = _find(rows, f"  {_one(rows, sql)[0]}\n")
        assert wanted in {(hit.kind, hit.by) for hit in found.hits}, sql
        for hit in found.hits:
            with reading(rows) as conn:
                told = find_story.story(conn, hit.kind, hit.key, now=now)
            assert told.now.what
            assert told.now.do
            assert MARK not in repr(told)


ODD = {
    None: None,
    "": None,
    " \t\x00\u200b ": None,
    "%": None,
    "_": None,
    "evt-%": None,
    "evt-7'; DROP TABLE capi_event; --": None,
    "\ud800\udfff": None,
    "ＡＢＣ\u202e": None,
    "x" * 10_000: find.TOO_LONG,
    "owner3@dune.example": find.EMAIL,
    "order of owner3@dune.example": find.EMAIL,
}


def test_odd_input_finds_nothing_and_breaks_nothing(rows: Engine) -> None:
    for typed, problem in ODD.items():
        found = _find(rows, typed)
        assert (found.hits, found.problem, found.more) == ((), problem, False), typed
        assert len(found.typed) <= find.LONGEST


def test_control_characters_within_are_no_hindrance(rows: Engine) -> None:
    assert [hit.name for hit in _find(rows, "\x00evt-7\x1b\n").hits] == [hit.name for hit in _find(rows, "evt-7").hits]


def test_an_order_is_found_by_every_name_it_has(world: World, endpoint: Endpoint) -> None:
    body = order(name="#7001", order_number=7001)
    endpoint.webhook("orders/create", body)
    names = (
        str(body["id"]),
        "#7001",
        "7001",
        f"gid://shopify/Order/{body['id']}",
        "ck-31f0",
        "purchase.ck-31f0",
        f"7001 {SHOP}",
        f"{SHOP}  #7001",
        "app_public 7001",
    )
    hits = {name: [(hit.kind, hit.name) for hit in _find(world.engine, name).hits] for name in names}
    assert {name: len(found) for name, found in hits.items()} == dict.fromkeys(names, 1)
    assert len({str(found) for found in hits.values()}) == 1
    assert _find(world.engine, "7001 other.myshopify.com").hits == ()


def test_many_shops_have_an_order_with_this_number(rows: Engine, now: datetime) -> None:
    with writing(rows) as conn:
        conn.execute(text("UPDATE capi_event SET order_id = '#7' WHERE order_id IS NOT NULL"))
    found = _find(rows, "7")
    assert (len(found.hits), found.more) == (find.MOST, True)
    shop = found.hits[0].shop
    assert {hit.shop for hit in _find(rows, f"7 {shop}").hits} == {shop}


def test_a_request_shows_the_events_that_were_in_it(world: World) -> None:
    app = world.an_app(world.meta.create_token())
    sent = [world.an_event(app) for _ in range(3)]
    world.deliver(app)
    with reading(world.engine) as conn:
        trace = conn.scalar(select(capi_attempt.c.trace_id))
    found = _find(world.engine, trace)
    assert [hit.kind for hit in found.hits] == ["request", "event", "event", "event"]
    assert {hit.name for hit in found.hits[1:]} == {f"PageView, event {one}" for one in sent}


def test_a_request_with_one_event_is_that_events_story(world: World) -> None:
    app = world.an_app(world.meta.create_token(pixels=["1"]))  # not for this app's pixel
    sent = world.an_event(app)
    world.deliver(app)
    with reading(world.engine) as conn:
        trace = conn.scalar(select(capi_attempt.c.trace_id))
    assert [(hit.kind, hit.by, hit.state) for hit in _find(world.engine, trace).hits] == [
        ("event", "trace id", "parked")
    ]
    assert sent in _find(world.engine, trace).hits[0].name


# ---- stories


def _whats(told: Story) -> list[str]:
    return [line.what for line in told.lines]


def _in_order(whats: list[str], wanted: list[str]) -> None:
    """Each of `wanted` begins a line, in this order."""
    places = [next((i for i, what in enumerate(whats) if what.startswith(start)), None) for start in wanted]
    assert None not in places, (wanted[places.index(None)], whats)
    assert places == sorted(places), whats  # type: ignore[type-var]


def _an_order_meets_a_dead_token(world: World, endpoint: Endpoint, **death: Any) -> Any:
    """A browser is seen, its order comes by webhook, and Meta refuses the shop's token; (token, ledger line)."""
    token = world.meta.create_token(user="77", expires_in=5 * 24 * 3600)
    with writing(world.engine) as conn:
        apps.write_token(conn, endpoint.app.id, token, expires_at=world.clock() + 5 * DAY)
    if death:
        world.meta.kill(token, **death)
    else:
        world.meta.fault("events", "error", token=token, error={"code": 190, "subcode": 463})
    endpoint.track(tracking(eventName="pageview", checkoutToken="ck-31f0"))
    endpoint.webhook("orders/create", order(name="#7001", order_number=7001))
    join_waiting(world.engine, now=world.clock())
    assert world.deliver(world.app(endpoint.app)) == [token.fingerprint]
    return token, next(row for row in endpoint.events() if row.event_name == "Purchase")


def test_the_whole_story_of_an_order(world: World, endpoint: Endpoint) -> None:
    token, sent = _an_order_meets_a_dead_token(world, endpoint)
    waits = _story(world.engine, "#7001", world.clock())
    assert waits.now.what.startswith("It waits, and is lost in 6 days 23 hours")
    assert waits.tone == "wait"
    assert _whats(waits)[-1] == "From here on Meta takes it no more"
    assert world.service().refresh(token.fingerprint, trigger="on_error", by="worker-1").usable
    world.deliver(world.app(endpoint.app))
    told = _story(world.engine, "#7001", world.clock())
    _in_order(
        _whats(told),
        [
            "Its browser was seen in the shop, by the checkout",
            "Shopify's webhook orders/create reported it, and it was stored",
            "What else it is called was noted",
            "Meta refused 1 request for it: Meta says the access token has expired",
            "It was parked: its token did not work. No try is counted against it",
            "Token refresh, because the token was refused: A new token with a later end is stored",
            "Its token works again: it was released and is due once more",
            "Meta accepted it, ",
        ],
    )
    assert [line.whose for line in told.lines][-1] == "Meta"
    details = "\n".join(one for line in told.lines for one in line.detail)
    with reading(world.engine) as conn:
        traces = list(conn.scalars(select(capi_attempt.c.trace_id)))
        (refresh,) = conn.execute(select(capi_refresh)).all()
    assert len(traces) == 2
    assert all(trace in details for trace in traces)
    assert f"token {token.fingerprint} → {refresh.new_fingerprint}" in details
    assert "code 190, subcode 463" in details
    assert "order 7001, order #7001, order 18446744073709551617" not in (told.merchant or "")
    assert sent.state == "parked"
    assert endpoint.events()[-1].state == "delivered"


def test_the_story_of_a_case_and_a_merchant_who_comes_back(world: World, endpoint: Endpoint) -> None:
    token, sent = _an_order_meets_a_dead_token(world, endpoint, subcode=460)
    world.service().refresh(token.fingerprint, trigger="on_error", by="worker-1")
    told = _story(world.engine, "7001", world.clock())
    _in_order(
        _whats(told),
        [
            "Shopify's webhook",
            "Meta refused the request with 2 events: The access token is gone for good",
            "The token stopped working",
            "It was parked",
            "Token refresh, because the token was refused: Only the merchant can mend this token",
            "Only its owner can mend the token: a reconnect case was opened",
            "From here on Meta takes it no more",
        ],
    )
    assert (told.now.whose, told.now.do) == ("Merchant", "Send the merchant the reconnect link (page Reconnect)")
    assert "open the link that we send you" in (told.merchant or "")
    app = _story(world.engine, SHOP, world.clock())
    assert app.now.what == "Only the merchant can mend the token; 2 events wait"
    assert "2 events of your shop wait to be passed on to Facebook" in (app.merchant or "")
    fresh = world.meta.create_token(user="77")
    with writing(world.engine) as conn:
        apps.write_token(conn, endpoint.app.id, fresh, expires_at=world.clock() + 60 * DAY)
    watch.release_replaced(world.engine, now=world.clock())
    world.deliver(world.app(endpoint.app))
    told = _story(world.engine, "7001", world.clock())
    assert (_whats(told)[-1].startswith("Meta accepted it"), told.tone) == (True, "good")
    assert sent.state == "parked"


def test_what_operators_and_incidents_did_is_in_the_story(world: World) -> None:
    app = world.an_app(world.meta.create_token())
    sent = world.event(world.an_event(app))
    with writing(world.engine) as conn:
        outbox.move(conn, "bury", [sent.id], failure="invalid_event")
        gone = {"kind": "meta_away", "opened_at": world.clock(), "seen_at": world.clock(), "probe_at": world.clock()}
        conn.execute(insert(capi_incident).values(**gone, closed_at=world.clock(), words="Service unavailable"))
    job = commands.order_retry(world.engine, [sent.id], by=ANN, reason="feed is mended", now=world.clock())
    bulk.run(world.service(), job, threads=1)
    with reading(world.engine) as conn:
        told = find_story.story(conn, "event", str(sent.id), now=world.clock())
    lines = {line.what: line for line in told.lines}
    assert lines["Ann ordered it to be sent again: sent again"].detail == (f"job {job}, because: feed is mended",)
    assert 'Meta: "Service unavailable"' in lines[f"Incident, for all shops: {INCIDENTS['meta_away'].what}"].detail
    assert f"The incident is over: {INCIDENTS['meta_away'].what}" in lines


def test_what_operators_did_with_an_app_is_in_its_story(
    endpoint: Endpoint, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, ada = endpoint.app, Operator("Ada", "admin")
    subjects = (
        ("set_token", f"{app.public_id} fp_1"),
        ("pause_app", f"app {app.id}"),
        ("diagnose", f"test event for {app.public_id}, pixel 1"),
        ("set_app", f"{app.public_id}2: paused=True"),
        ("set_app", f"{app.public_id.replace('_', '-')}: paused=True"),
    )
    with writing(world.engine) as conn:
        for action, subject in subjects:
            audit.write(conn, by="Eve", action=action, subject=subject, count=1, reason=None, now=world.clock())
    app_options.set_app(world.engine, app.id, {}, paused=True, reason="it asked", by=ada, now=world.clock())
    lines = [line for line in _story(world.engine, app.public_id, world.clock()).lines if line.whose in ("Eve", "Ada")]
    assert sorted(line.what for line in lines) == ["Ada: set app", "Eve: diagnose", "Eve: pause app", "Eve: set token"]
    assert next(line for line in lines if line.whose == "Ada").detail == (
        f"{app.public_id}: paused=True",
        "because: it asked",
    )
    monkeypatch.setattr(find_lines, "SHOWN", 2)
    with reading(world.engine) as conn:
        last = find_lines.orders_about(conn, app.id, app.public_id, Period(world.clock() - DAY, world.clock()))
    assert [line.what for line in last] == ["Ada: set app", "Eve: diagnose"]


def test_a_busy_pixels_refusal_is_found_behind_what_was_accepted(
    rows: Engine, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_lines, "LOOKED_THROUGH", 3)
    with writing(rows) as conn:
        like = dict(conn.execute(select(capi_attempt).limit(1)).one()._mapping)
        like |= {"pixel_id": "busy", "failure": None, "code": None, "subcode": None}
        del like["id"]
        old = {"at": now - DAY, "failure": "invalid_event", "fingerprint": "fp_own"}
        new = [{"at": now - n * DAY / 100, "fingerprint": "fp_other"} for n in range(10)]
        conn.execute(insert(capi_attempt), [like | one for one in (old, *new)])
        own = conn.scalar(select(capi_attempt.c.id).where(capi_attempt.c.fingerprint == "fp_own"))
        period = Period(now - 2 * DAY, now)
        for wanted in ({"refused_only": True}, {"fingerprints": ["fp_own"]}, {"fingerprints": [], "own": own}):
            (line,) = find_lines.requests(conn, "busy", period, **wanted)  # type: ignore[arg-type]
            assert (line.at, line.tone) == (now - DAY, "bad")


def test_requests_that_came_to_nothing_are_in_the_shops_story(endpoint: Endpoint, world: World) -> None:
    for _ in range(2):
        endpoint.track(tracking(eventName=None, events=[{"eventName": "pageview"}, {"eventName": ""}]))
    told = _story(world.engine, "app_public", world.clock())
    (line,) = [line for line in told.lines if "came to nothing" in line.what]
    assert RECEIPTS["missing_fields"].what in line.what
    assert told.now.whose == "Merchant", "it holds no token"
    with writing(world.engine) as conn:
        apps.write_token(conn, endpoint.app.id, world.meta.create_token(), expires_at=world.clock() + 60 * DAY)
        apps.mirror(conn, endpoint.app.id, apps.get(conn, endpoint.app.id).fingerprint)
    told = _story(world.engine, "1001", world.clock())  # the pixel's id
    assert told.now.what == "Nothing was sent to Meta for its pixel yet"
    assert told.now.whose == "Shop"


def test_every_events_story_is_in_order_of_time_and_can_be_told_to_a_merchant(rows: Engine, now: datetime) -> None:
    trouble.open_cases(rows, now=now)
    with reading(rows) as conn:
        ids = list(conn.scalars(select(capi_event.c.id).order_by(capi_event.c.id).limit(120)))
        told = [find_story.story(conn, "event", str(id_), now=now) for id_ in ids]
        listed = {
            (row.id, view)
            for view in ("waiting", "retrying", "dead")
            for row in events.failed_events(conn, events.Filters(view=view), now=now, limit=1_000)
        }
    shown = {(id_, one.view) for id_, one in zip(ids, told, strict=True) if one.view}
    assert shown == {pair for pair in listed if pair[0] in ids}, "the link leads where the event is listed"
    assert {view for _, view in shown} == {"waiting", "retrying", "dead"}
    assert all([line.at for line in one.lines] == sorted(line.at for line in one.lines) for one in told)
    assert {one.tone for one in told} == {"good", "bad", "wait"}
    for one in told:
        assert re.fullmatch(_MERCHANT_TEXT, one.merchant or ""), one.merchant


# Plain words, numbers and an order's number: nothing that a hash, a fingerprint, a token or an address is made of.
_MERCHANT_TEXT = r"(?!(?s:.*(fp_|TrAcE|AbCdEf|evt-|[0-9a-f]{16}|@|://|capi)))[\w\s#.,:;'()-]+"


@pytest.mark.parametrize("state", ["delivered", "parked", "due", "dead", "skipped"])
def test_a_merchant_reads_no_insides(state: str, now: datetime) -> None:
    hostile = {"event_name": "Purchase\nfp_0123", "order_id": "ana@example.com", "currency": "E<R"}
    for failure, odd, lost in product([*FAILURES, *REASONS], ({}, hostile), (True, False)):
        seen = replace(_detail(state, failure, now), **odd)
        told = find_merchant.of_event(seen, None, lost_token=lost, now=now)
        assert re.fullmatch(_MERCHANT_TEXT, told), told
        assert not re.search(r"secret|encrypt|CAPI|app set|worker|--", told), told
        assert re.search(r"Please|nothing for you to do", told), told


def _detail(state: str, failure: str, now: datetime) -> EventDetail:
    empty: dict[str, Any] = dict.fromkeys(EventDetail.__dataclass_fields__)
    known = {"state": state, "failure": failure, "event_name": "Purchase", "order_id": "1001", "attempts": 1}
    times = {"event_time": now, "received_at": now, "deadline_at": now + 7 * DAY, "delivered_at": now}
    worth = {"value": Decimal("44.99"), "currency": "EUR", "after_refresh": True}
    return EventDetail(**empty | known | times | worth)


def test_no_person_is_told_of(world: World, endpoint: Endpoint) -> None:
    token, _ = _an_order_meets_a_dead_token(world, endpoint)
    told = _story(world.engine, "#7001", world.clock())
    text_ = told.merchant or ""
    assert "Your order #7001 (Purchase, 44.99 EUR):" in text_
    for hidden in ("ana.conti", "conti", "93.184", "mozilla", "ck-31f0", "ct-9", token.fingerprint, "fb.1", "turin"):
        assert hidden not in text_.lower()
        if hidden not in ("ck-31f0", token.fingerprint):
            assert hidden not in repr(told).lower()


def test_what_is_gone_says_so(engine: Engine, now: datetime) -> None:
    for kind, key in (("event", "1"), ("request", "1"), ("refresh", "1"), ("app", "none")):
        with reading(engine) as conn, pytest.raises(NotFound):
            find_story.story(conn, kind, key, now=now)


def test_tokens_that_became_one_another_belong_together() -> None:
    made = [("a", "b"), ("c", None), ("b", "d"), ("x", "y")]
    rows = [SimpleNamespace(fingerprint=old, new_fingerprint=new) for old, new in made]
    assert find_lines.closure(["d", None], rows) == {"a", "b", "d"}  # type: ignore[arg-type]


# ---- by an index


def test_nothing_is_found_by_reading_the_ledger(rows: Engine, now: datetime) -> None:
    """On either database: whatever is typed, neither the ledger nor the requests are gone through."""
    with writing(rows) as conn:
        conn.execute(insert(capi_receipt).values(at=now, source="track", reason="unreadable", status=400, app_id="x"))
    shop = _one(rows, "SELECT shop_domain FROM capi_app WHERE app_id = 'app-00003'")[0]
    with planned(rows) as plans:
        for typed in ("#1004", "evt-7", "TrAcE0003", "AbCdEf00002", shop, str(10**14 + 4), "app-00005", f"7 {shop}"):
            for hit in _find(rows, typed).hits:
                with reading(rows) as conn:
                    find_story.story(conn, hit.kind, hit.key, now=now)
    assert len(plans) > 40
    scan = r"SCAN (capi_\w+)(?! USING)|Seq Scan on (capi_\w+)"
    read = {name for plan in plans for pair in re.findall(scan, plan) for name in pair if name}
    assert read & {"capi_event", "capi_attempt", "capi_alias", "capi_outbox", "capi_receipt", "capi_visitor"} == set()


@contextlib.contextmanager
def planned(engine: Engine) -> Iterator[list[str]]:
    """The plans of all that is asked meanwhile; on PostgreSQL as for a table too large to be read through."""
    plans: list[str] = []
    postgres = engine.dialect.name == "postgresql"

    def explain(conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not re.match(r"\s*SELECT", statement):
            return
        other = cursor.connection.cursor()
        if postgres:
            other.execute("SET LOCAL enable_seqscan = off")
        other.execute(f"EXPLAIN {'' if postgres else 'QUERY PLAN '}{statement}", parameters)
        plans.append("\n".join(str(row[-1]) for row in other.fetchall()))

    event.listen(engine, "before_cursor_execute", explain)
    yield plans
    event.remove(engine, "before_cursor_execute", explain)
