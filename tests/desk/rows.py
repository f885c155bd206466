"""A made-up world of shops, tokens and events in every state, of any size, the same every time."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import Connection, Engine

from core.secret import Secret
from core.services import upkeep
from core.services.policy import Policy
from core.store.acceptance import first_id
from core.store.database import chunks, writing
from core.store.platform_tables import app, app_settings, user
from core.store.schema import (
    capi_app,
    capi_attempt,
    capi_event,
    capi_heartbeat,
    capi_job,
    capi_outbox,
    capi_refresh,
    capi_token,
)

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MARK = "EAAmarkedTokenThatMustNeverBeSeen"
PLACES = ("Amber", "Birch", "Cobalt", "Dune", "Ember", "Fjord", "Grove", "Harbor", "Indigo", "Juniper", "Kelp", "Larch")
TRADES = ("Goods", "Kitchen", "Outdoor", "Studio", "Bikes", "Coffee", "Paper", "Garden", "Toys", "Denim")
# (days until the end or None, never expires, needs reconnect, why broken), by share of all apps
FATES = (
    (55, False, False, None),
    (48, False, False, None),
    (41, False, False, None),
    (36, False, False, None),
    (26, False, False, None),
    (16, False, False, None),
    (4, False, False, None),
    (-2, False, True, "token_dead"),
    (-1, False, False, "token_expired"),
    (None, False, False, None),
    (None, True, False, None),
    (52, False, False, None),
)


def seed(engine: Engine, *, now: datetime, apps: int = 60, events: int = 400) -> None:
    """Fill an empty, migrated database. Each user holds up to three apps on one token."""
    dice = random.Random(7)
    shops = [_shop(number, now, dice) for number in range(apps)]
    with writing(engine) as conn:
        _fill(conn, user, [{"id": s["user"], "email": s["email"]} for s in shops if s["first"]])
        _fill(conn, app, [{"id": s["id"], "appId": s["public"], "name": s["name"], "userId": s["user"]} for s in shops])
        _fill(conn, capi_token, list(_tokens(shops, now)))
        _fill(conn, app_settings, [_settings(s) for s in shops])
        _fill(conn, capi_app, [_ours(s) for s in shops])
        _fill(conn, capi_refresh, sorted(_refreshes(shops, now, dice), key=lambda row: row["started_at"]))
        _events(conn, shops, events, now, dice)
        _work(conn, now)
    upkeep.roll_up(engine, Policy(), now=now)


def receive(conn: Connection, id_: int, at: datetime) -> int:
    """An event as if it had come in then: the id it has now, as ids are time-ordered."""
    new = first_id(at) + id_ % 2**22
    conn.execute(capi_event.update().where(capi_event.c.id == id_).values(id=new, received_at=at))
    conn.execute(capi_outbox.update().where(capi_outbox.c.id == id_).values(id=new))
    return new


def _shop(number: int, now: datetime, dice: random.Random) -> dict[str, Any]:
    holder = number // 3
    days, never, reconnect, broken = FATES[holder % len(FATES)]
    name = f"{PLACES[holder % 12]} {TRADES[(holder // 12 + number) % 10]}"
    return {
        "id": f"app-{number:05d}",
        "public": f"app_{hashlib.sha256(str(number).encode()).hexdigest()[:16]}",
        "name": f"{name} {('main', 'outlet', 'b2b')[number % 3]}",
        "shop": f"{name.lower().replace(' ', '-')}-{number}.myshopify.com",
        "user": f"user-{holder:05d}",
        "email": f"owner{holder}@{PLACES[holder % 12].lower()}.example",
        "pixel": str(10**14 + number),
        "first": number % 3 == 0,
        "token": Secret(f"{MARK}{holder:05d}"),
        "ends": None if days is None else now + DAY * days + HOUR * dice.randrange(-20, 20),
        "never": never,
        "reconnect": reconnect,
        "broken": broken,
        "currency": ("EUR", "USD", "GBP")[holder % 3],
    }


def _settings(shop: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"set-{shop['id']}",
        "appId": shop["id"],
        "metaPixelId": shop["pixel"],
        "metaAccessToken": shop["token"],
        "metaTokenExpiresAt": shop["ends"],
    }


def _ours(shop: dict[str, Any]) -> dict[str, Any]:
    return {"app_id": shop["id"], "shop_domain": shop["shop"], "fingerprint": shop["token"].fingerprint}


def _tokens(shops: list[dict[str, Any]], now: datetime) -> Iterator[dict[str, Any]]:
    for shop in shops:
        if shop["first"]:
            yield {
                "fingerprint": shop["token"].fingerprint,
                "user_id": shop["user"],
                "first_seen_at": now - DAY * 30,
                "expires_at": shop["ends"],
                "never_expires": shop["never"],
                "needs_reconnect": shop["reconnect"],
                "broken_since": now - HOUR * 5 if shop["broken"] else None,
                "broken_failure": shop["broken"],
                "broken_words": "Error validating access token" if shop["broken"] else None,
                "kind": "SYSTEM_USER" if shop["never"] else "USER",
                "meta_user_id": f"1000{shop['user'][-5:]}",
                "meta_app_id": "1234567890",
                "scopes": "ads_management business_management",
                "issued_at": now - DAY * 5,
                "checked_at": now - HOUR * 3,
            }


def _refreshes(shops: list[dict[str, Any]], now: datetime, dice: random.Random) -> Iterator[dict[str, Any]]:
    outcomes = ("extended", "extended", "extended", "not_extended", "adopted", "unreachable", "still_valid")
    for number, shop in enumerate(shop for shop in shops if shop["first"]):
        outcome = "needs_reconnect" if shop["reconnect"] else outcomes[number % len(outcomes)]
        good = outcome == "extended"
        yield {
            "started_at": now - DAY * dice.randrange(14) - HOUR * dice.randrange(20),
            "duration_ms": dice.randrange(180, 900),
            "trigger": ("scheduled", "on_error", "manual", "bulk")[number % 4],
            "by": ("worker", "worker", "Ada", "Grace")[number % 4],
            "user_id": shop["user"],
            "app_id": shop["id"],
            "fingerprint": f"fp_{number:016x}" if good else shop["token"].fingerprint,
            "new_fingerprint": shop["token"].fingerprint if good else None,
            "outcome": outcome,
            "expires_before": now + DAY * 3,
            "expires_after": shop["ends"],
            "apps_updated": 3 if good else 0,
            "events_released": 0,
            "code": 190 if shop["reconnect"] else None,
            "subcode": 460 if shop["reconnect"] else None,
            "words": "The session has been invalidated ![x](http://evil.example/x.png)" if shop["reconnect"] else None,
            "trace_id": f"AbCdEf{number:05d}",
        }


def _events(conn: Connection, shops: list[dict[str, Any]], count: int, now: datetime, dice: random.Random) -> None:
    if not shops or not count:
        return
    _fill(conn, capi_attempt, [_attempt(number, shops, now, dice) for number in range(48)])
    lines = [_event(number, shops, now, dice) for number in range(count)]
    _fill(conn, capi_event, lines)
    _fill(conn, capi_attempt, [_accepted(line, number) for number, line in enumerate(lines) if line["delivered_at"]])
    _fill(conn, capi_outbox, [_outbox(line, shops) for line in lines if line["state"] in ("due", "parked", "dead")])


def _attempt(number: int, shops: list[dict[str, Any]], now: datetime, dice: random.Random) -> dict[str, Any]:
    shop = shops[number % len(shops)]
    failure = ("token_expired", "invalid_event", "permission", "transient")[number % 4]
    return {
        "at": now - HOUR * (number % 24),
        "pixel_id": shop["pixel"],
        "fingerprint": shop["token"].fingerprint,
        "events": dice.randrange(1, 6),
        "duration_ms": dice.randrange(80, 700),
        "status": 400,
        "failure": failure,
        "code": 190 if failure == "token_expired" else 100,
        "subcode": 2804003 if failure == "invalid_event" else None,
        "words": "Invalid parameter ![x](http://evil.example/x.png)",
        "trace_id": f"TrAcE{number:04d}",
        "answer": '{"error": {"code": 100}}',
    }


def _accepted(line: dict[str, Any], number: int) -> dict[str, Any]:
    return {
        "at": line["delivered_at"],
        "pixel_id": line["pixel_id"],
        "fingerprint": f"fp_{number:016x}",
        "events": 1,
        "after_refresh": int(line["after_refresh"]),
        "duration_ms": 120,
        "status": 200,
    }


def _event(number: int, shops: list[dict[str, Any]], now: datetime, dice: random.Random) -> dict[str, Any]:
    shop = shops[dice.randrange(len(shops))]
    state = "parked" if shop["broken"] else ("delivered",) * 8 + ("dead", "due")
    state = state if isinstance(state, str) else state[number % 10]
    at = now - HOUR * dice.randrange(1, 120) - timedelta(seconds=number)
    delivered = state == "delivered"
    failure = {
        "parked": shop["broken"],
        "dead": ("invalid_event", "permission", "transient")[number % 3],
        "due": "transient" if number % 20 == 9 else None,
    }.get(state)
    purchase = number % 2 == 0
    return {
        "id": (int(at.timestamp() * 1000) << 22) + number,
        "app_id": shop["id"],
        "pixel_id": shop["pixel"],
        "event_name": "Purchase" if purchase else ("PageView", "AddToCart", "ViewContent")[number % 3],
        "event_id": f"evt-{number}",
        "source": "orders/create" if purchase else "track",
        "order_id": f"#{1000 + number}" if purchase else None,
        "value": Decimal(dice.randrange(900, 25_000)) / 100 if purchase else None,
        "currency": shop["currency"] if purchase else None,
        "event_time": at,
        "received_at": at,
        "deadline_at": at + DAY * 7,
        "state": state,
        "attempts": 1 if failure else 0,
        "failure": failure,
        "attempt_id": 1 + number % 48 if failure else None,
        "delivered_at": now - HOUR * dice.randrange(24) - timedelta(minutes=3) if delivered else None,
        "after_refresh": delivered and number % 5 == 0,
    }


def _outbox(line: dict[str, Any], shops: list[dict[str, Any]]) -> dict[str, Any]:
    token = shops[int(line["app_id"][4:])]["token"]
    person = {
        "em": [hashlib.sha256(line["event_id"].encode()).hexdigest()],
        "client_ip_address": "203.0.113.7",
        "client_user_agent": "Mozilla/5.0 (made up)",
    }
    payload = {"event_name": line["event_name"], "event_id": line["event_id"], "user_data": person}
    return {
        **{key: line[key] for key in ("id", "app_id", "pixel_id", "state", "deadline_at", "attempts")},
        "next_attempt_at": line["received_at"],
        "parked_by": token.fingerprint if line["state"] == "parked" else None,
        "payload": orjson.dumps(payload),
    }


def _work(conn: Connection, now: datetime) -> None:
    seen = {"started_at": now - HOUR, "stopped_at": None, "version": "0.1.0"}
    _fill(conn, capi_heartbeat, [{"worker": "worker@one:1:aa", "seen_at": now, **seen}])
    done = {"kind": "refresh_tokens", "by": "Ada", "reason": "monthly round", "state": "done", "total": 40, "done": 40}
    times = {"created_at": now - DAY, "ended_at": now - DAY + timedelta(minutes=2)}
    _fill(conn, capi_job, [{**done, **times, "failed": 3, "skipped": 0}])


def _fill(conn: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    for part in chunks(rows, 5_000):
        conn.execute(table.insert(), list(part))
