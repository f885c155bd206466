"""One box for whatever a person has in hand: it is looked up exactly as it was typed, in one index after another.

Nothing is searched by likeness, so that an answer takes the same time whatever is stored. People are not searched at
all: what was typed stands in the page's address.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, select, true, union_all

from core.desk.events import in_state
from core.inbound.values import exact_id
from core.store.acceptance import first_id
from core.store.platform_tables import app, app_settings
from core.store.schema import capi_alias, capi_app, capi_attempt, capi_event, capi_refresh

LONGEST = 200
# Of each kind.
MOST = 50
# How many events are looked through to find those that were in one request: it is known of an event, not the reverse.
_LOOKED_THROUGH = 20_000
_CALLED = ("order", "checkout", "cart")

EMAIL, TOO_LONG = "email", "too_long"
Apps = Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that was found. `kind` and `key` are what `find_story.story` is asked for; `by` says what was typed."""

    kind: str
    key: str
    by: str
    name: str
    app_name: str | None
    shop: str | None
    at: datetime | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """`typed` as it was understood; `problem` says why nothing was searched, `more` that some were left out."""

    typed: str
    hits: tuple[Hit, ...] = ()
    problem: str | None = None
    more: bool = False


def find(conn: Connection, text: str | None) -> Found:
    """Everything that is called exactly so: an order, event, trace id, pixel, shop or app.

    Several words are a name and the shop (or app) it belongs to, in either order: `#1001 tea.myshopify.com`.
    """
    typed = clean(text)
    if not typed or len(typed) > LONGEST or "@" in typed:
        return Found(typed[:LONGEST], problem=_problem(typed))
    hits = _look(conn, typed, None)
    if not hits and " " in typed:
        hits = _look_in_shop(conn, typed)
    kinds = {by: [hit for hit in hits if hit.by == by] for by in dict.fromkeys(hit.by for hit in hits)}
    shown = tuple(hit for of_kind in kinds.values() for hit in of_kind[:MOST])
    return Found(typed, shown, more=len(shown) < len(hits))


def clean(text: str | None) -> str:
    """What was typed or pasted, without what cannot be seen and without blanks around it."""
    odd = "".join(letter if letter.isprintable() else " " for letter in text or "")
    return " ".join(odd.split())


def _problem(typed: str) -> str | None:
    return EMAIL if "@" in typed[:LONGEST] else TOO_LONG if typed else None


def _look(conn: Connection, typed: str, apps: Apps) -> list[Hit]:
    found: dict[tuple[str, str], Hit] = {}
    for look in _LOOKS:
        for hit in look(conn, typed, apps):
            found.setdefault((hit.kind, hit.key), hit)
    return list(found.values())


def _look_in_shop(conn: Connection, typed: str) -> list[Hit]:
    """The last word names the shop, or the first one does."""
    head, tail = typed.split(" ", 1)[0], typed.rsplit(" ", 1)[-1]
    for shop, rest in ((tail, typed[: -len(tail)]), (head, typed[len(head) :])):
        theirs = [hit.key for hit in (*_shops(conn, shop, None), *_app_ids(conn, shop, None))]
        hits = _look(conn, rest.strip(), theirs) if theirs else []
        if hits:
            return hits
    return []


def _orders(conn: Connection, typed: str, apps: Apps) -> list[Hit]:
    """By Shopify's long id, by the number that shop and buyer see, and by the tokens of its checkout and cart."""
    number = exact_id(typed)
    if number is None:
        return []
    called = list(dict.fromkeys((number, number.removeprefix("#"), f"#{number.removeprefix('#')}")))
    e, a = capi_event.c, capi_alias.c
    known = select(e.id).where(e.order_id.in_(called), _among(e.app_id, apps)).limit(MOST + 1)
    names = [f"{kind}:{name}" for kind in _CALLED for name in called]
    other = select(a.event_id).where(a.alias.in_(names), _among(a.app_id, apps)).limit(2 * MOST)
    ids = {*conn.scalars(known), *conn.scalars(other)}
    return _events(conn, e.id.in_(ids), "order") if ids else []


def _event_ids(conn: Connection, typed: str, apps: Apps) -> list[Hit]:
    e = capi_event.c
    return _events(conn, (e.event_id == typed) & _among(e.app_id, apps), "event id")


def _traces(conn: Connection, typed: str, apps: Apps) -> list[Hit]:
    """The request that Meta gave this trace id, and the events in it; or the refresh."""
    if apps is not None:
        return []
    a, r = capi_attempt.c, capi_refresh.c
    hits: list[Hit] = []
    for row in conn.execute(select(capi_attempt).where(a.trace_id == typed).limit(MOST + 1)):
        inside = _events(conn, capi_event.c.id.in_(_in_request(conn, row)), "trace id")
        # A request with one event is that event's own story.
        hits += inside if row.events == 1 and len(inside) == 1 else [_request(conn, row), *inside]
    for row in conn.execute(select(capi_refresh).where(r.trace_id == typed).limit(MOST + 1)):
        name = f"Refresh of token {row.fingerprint}"
        hits.append(Hit("refresh", str(row.id), "trace id", name, *_names(conn, row.app_id), row.started_at))
    return hits


def _request(conn: Connection, row: Row[Any]) -> Hit:
    name = f"Request to Meta with {row.events:,} event{'' if row.events == 1 else 's'} for pixel {row.pixel_id}"
    holder = conn.scalar(select(app_settings.c.appId).where(app_settings.c.metaPixelId == row.pixel_id).limit(1))
    state = "refused" if row.failure else "accepted"
    return Hit("request", str(row.id), "trace id", name, *_names(conn, holder), row.at, state)


def _in_request(conn: Connection, attempt: Row[Any]) -> list[int]:
    """Events whose last request this was: among those that came in shortly before, and those that still wait."""
    e = capi_event.c
    before = select(e.id, e.attempt_id).where(e.id <= first_id(attempt.at) + 2**22).order_by(e.id.desc())
    near: list[Any] = [before.limit(_LOOKED_THROUGH).subquery()]
    for state in ("parked", "dead", "due"):
        waiting = select(e.id, e.attempt_id).where(in_state(state), e.deadline_at > attempt.at)
        near.append(waiting.order_by(e.deadline_at, e.id).limit(_LOOKED_THROUGH).subquery())
    inside = [select(part.c.id).where(part.c.attempt_id == attempt.id).limit(MOST + 1) for part in near]
    return sorted(set(conn.scalars(union_all(*(select(one.subquery()) for one in inside)))))[: MOST + 1]


def _pixels(conn: Connection, typed: str, apps: Apps) -> list[Hit]:
    return _apps(conn, (app_settings.c.metaPixelId == typed) & _among(app.c.id, apps), "pixel")


def _shops(conn: Connection, typed: str, apps: Apps) -> list[Hit]:
    host = typed.lower().removeprefix("https://").removeprefix("http://").split("/", 1)[0]
    known = [host] if "." in host else [f"{host}.myshopify.com"]
    return _apps(conn, capi_app.c.shop_domain.in_(known) & _among(app.c.id, apps), "shop")


def _app_ids(conn: Connection, typed: str, apps: Apps) -> list[Hit]:
    return _apps(conn, ((app.c.appId == typed) | (app.c.id == typed)) & _among(app.c.id, apps), "app id")


Look = Callable[[Connection, str, Apps], list[Hit]]
_LOOKS: tuple[Look, ...] = (_orders, _event_ids, _traces, _pixels, _shops, _app_ids)


def _among(column: ColumnElement[Any], apps: Apps) -> ColumnElement[bool]:
    return true() if apps is None else column.in_(apps)


def _events(conn: Connection, which: ColumnElement[bool], by: str) -> list[Hit]:
    """Newest first. Sorted here: asked to sort, PostgreSQL may go through the ledger from its end."""
    e = capi_event.c
    own = (e.id, e.event_name, e.event_id, e.order_id, e.received_at, e.state)
    named = select(*own, app.c.name.label("app_name"), capi_app.c.shop_domain.label("shop")).where(which)
    named = named.join(app, app.c.id == e.app_id, isouter=True).join(
        capi_app, capi_app.c.app_id == e.app_id, isouter=True
    )
    rows = sorted(conn.execute(named.limit(MOST + 1)), key=lambda row: -row.id)
    return [
        Hit("event", str(row.id), by, _called(row), row.app_name, row.shop, row.received_at, row.state) for row in rows
    ]


def _called(row: Any) -> str:
    return f"{row.event_name}, order {row.order_id}" if row.order_id else f"{row.event_name}, event {row.event_id}"


def _apps(conn: Connection, which: ColumnElement[bool], by: str) -> list[Hit]:
    named: Select[Any] = (
        select(app.c.id, app.c.name, capi_app.c.shop_domain, capi_app.c.paused_at)
        .join(capi_app, capi_app.c.app_id == app.c.id, isouter=True)
        .join(app_settings, app_settings.c.appId == app.c.id, isouter=True)
    )
    rows = conn.execute(named.where(which).limit(MOST + 1))
    return [
        Hit("app", row.id, by, row.name, row.name, row.shop_domain, state="paused" if row.paused_at else None)
        for row in sorted(rows, key=lambda row: (row.name, row.id))
    ]


def _names(conn: Connection, app_id: str | None) -> tuple[str | None, str | None]:
    """An app's name and shop."""
    named = select(app.c.name, capi_app.c.shop_domain).join(capi_app, capi_app.c.app_id == app.c.id, isouter=True)
    row = conn.execute(named.where(app.c.id == app_id)).first()
    return (row.name, row.shop_domain) if row else (None, None)
