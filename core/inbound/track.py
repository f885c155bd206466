"""The storefront's tracking contract: a flat JSON object is one event, `events` holds several; or a reason why not."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from core.errors import BadInput
from core.inbound import browser
from core.inbound.consent import read_consent
from core.inbound.finish import Draft, finish
from core.inbound.goods import CONTENT_TYPES, content_ids, contents_of
from core.inbound.people import hashed_people
from core.inbound.policy import is_bot
from core.inbound.values import amount, currency, event_moment, exact_id, rounded, said, text, token
from core.inbound.visitors import seen_with
from core.meta.events import meta_name
from core.meta.hashing import hashed
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.visitors import Visitor

Json = dict[str, Any]

MOST_EVENTS = 20
MISSING_FIELDS = "missing_fields"
_EVENT_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_NAME_LIMIT = 100
# Text that goes into custom_data: Meta's key ← the storefront's names.
_WORDS = {
    "content_name": ("content_name", "product_name", "productName"),
    "content_category": ("content_category", "category"),
    "order_id": ("order_id", "orderId"),
    "search_string": ("search_string", "search_term", "searchTerm"),
}
_TOKENS = {
    "cart": ("cartToken", "cart_token"),
    "checkout": ("checkoutToken", "checkout_token"),
}
# Names by which a webhook may report the same thing. A cart sees many AddToCarts and clicks on checkout: there only the
# cart's own webhook is a second report.
_ALIASES = {"Purchase": ("order", "checkout"), "InitiateCheckout": ("checkout",)}
_NOTES = {"AddToCart": ("cart",), "InitiateCheckout": ("cart",)}
# Shopify's cart.js counts in hundredths, whatever the currency.
_UNITS = {"cents": Decimal("0.01"), "minor": Decimal("0.01")}
_WHOLE = Decimal(1)


class MissingFields(BadInput):
    """Missing required fields"""


class TooMany(BadInput):
    """At most 20 events fit into one call"""


@dataclass(frozen=True, slots=True)
class Visit:
    """What the connection itself says: the page's Referer, the user agent, the client's address."""

    user_agent: str | None = None
    address: str | None = None
    referer: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One tracked event that can be read: for which public `appId`, under which name, on which page, with which
    properties. `names`: what its order, its cart and its checkout are called, the id of the first, the tokens of the
    others."""

    app_id: str
    name: str
    url: str | None
    body: Json
    properties: Json
    names: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Taken:
    """What one call wants written: its event, and the browser that it showed, under each key."""

    event: NewEvent
    visitors: Sequence[Visitor]


def read_calls(body: Json) -> list[Call | None]:
    """The calls in a parsed body, None for one of several that names no event; MissingFields, TooMany."""
    body = _unwrapped(body)
    batch = body.get("events")
    if not isinstance(batch, list):
        return [read_call(body)]
    if len(batch) > MOST_EVENTS:
        raise TooMany()
    common = {key: value for key, value in body.items() if key != "events"}
    calls = [_one_of(common, item) for item in batch]
    if not any(calls):
        raise MissingFields()
    return calls


def read_call(body: Json) -> Call:
    """The one call in a body; MissingFields when it names no app or no event."""
    app_id = said(body, ("appId", "app_id"))
    name = text(said(body, ("eventName", "event_name", "event")), _NAME_LIMIT)
    if app_id is None or name is None:
        raise MissingFields()
    inner = [body[key] for key in ("properties", "custom_data", "customData") if isinstance(body.get(key), dict)]
    properties = dict(body)
    for part in inner:
        properties.update((key, value) for key, value in part.items() if value is not None)
    url = said(body, ("url",)) or said(properties, ("url",)) or said(body, ("event_source_url",))
    return Call(app_id, name, url, body, properties, _called(body, properties))


def _called(body: Json, properties: Json) -> dict[str, str | None]:
    called = {kind: _token(body, names) or _token(properties, names) for kind, names in _TOKENS.items()}
    called["order"] = exact_id(said(properties, _WORDS["order_id"]))
    return called


def _token(source: Json, names: Sequence[str]) -> str | None:
    for name in names:
        if name in source and (found := token(source[name])):
            return found
    return None


def take(app: App, call: Call, visit: Visit, *, now: datetime) -> Taken:
    """The event for the outbox (`skipped` says why where Meta must not hear it) and the browser behind it."""
    name, skipped = _forwarded_name(app, call.name)
    at = event_moment(
        call.body.get("timestamp") or call.body.get("event_time"), now=now, sent_at=call.body.get("sentAt")
    )
    bot = is_bot(visit.user_agent)
    user_data = _user_data(call, visit, at=at)
    url = browser.page_url(call.url) or browser.page_url(visit.referer)
    consent = read_consent(call.properties.get("consent"), call.properties.get("customerPrivacy"))
    draft = Draft(
        name=name,
        event_id=_event_id(call, name),
        source="track",
        event_time=at,
        user_data=user_data,
        url=url,
        skipped="bot" if bot else skipped,
        consent=consent,
        aliases=_names(call, _ALIASES.get(name, ())),
        notes=_names(call, _NOTES.get(name, ())),
        **_goods(app, call, name),
    )
    keys = call.names if name == "Purchase" else call.names | {"order": None}
    visitors = [] if bot else seen_with(app.id, keys, user_data, url=url, consent=consent)
    return Taken(finish(app, draft, now=now), visitors)


def _unwrapped(body: Json) -> Json:
    """A GraphQL-shaped body carries the call in `variables.input`."""
    variables = body.get("variables")
    inside = variables.get("input") if isinstance(variables, dict) else None
    return inside if isinstance(inside, dict) else body


def _one_of(common: Json, item: Any) -> Call | None:
    """One event of several; what they share stands beside them, the app above all."""
    if not isinstance(item, dict):
        return None
    app_id = {key: common[key] for key in ("appId", "app_id") if key in common}
    try:
        return read_call(common | item | app_id)
    except MissingFields:
        return None


def _forwarded_name(app: App, name: str) -> tuple[str, str | None]:
    known = meta_name(name)
    if known is not None:
        return known, None
    return name, None if name in app.forwarded_names else "not_forwarded"


def _event_id(call: Call, name: str) -> str:
    """The sender's, which a browser pixel may share; else what the order's own webhook calls it; else a new one."""
    for source in (call.body, call.properties):
        given = said(source, ("event_id", "eventId", "eventID"))
        if given is not None and _EVENT_ID.fullmatch(given):
            return given
    checkout, order = call.names["checkout"], call.names["order"]
    made = {
        "Purchase": f"purchase.{checkout}" if checkout else f"purchase.o{order}" if order else "",
        "InitiateCheckout": f"checkout.{checkout}" if checkout else "",
    }.get(name, "")
    return made if _EVENT_ID.fullmatch(made) else str(uuid.uuid4())


def _names(call: Call, kinds: Sequence[str]) -> tuple[str, ...]:
    """Under which names a webhook may report the same thing."""
    return tuple(f"{kind}:{call.names[kind]}" for kind in kinds if call.names[kind])


def _user_data(call: Call, visit: Visit, *, at: datetime) -> Json:
    given = call.properties.get("userData") or call.properties.get("user_data")
    given = given if isinstance(given, dict) else {}
    found = hashed_people(given)
    if "external_id" not in found and (visitor := text(call.body.get("visitorId"))):
        # The old script sends neither _fbp nor _fbc: its visitor id is all that ties a browser's events together.
        found["external_id"] = hashed("external_id", visitor)
    fbp, fbc = (_cookie(call, given, name) for name in ("fbp", "fbc"))
    found |= {
        "fbp": fbp,
        "fbc": fbc or browser.click_cookie(call.url, at=at),
        "client_user_agent": browser.user_agent(visit.user_agent),
        "client_ip_address": browser.public_address(visit.address),
    }
    return {key: value for key, value in found.items() if value}


def _cookie(call: Call, given: Json, name: str) -> str | None:
    for source in (call.body, call.properties, given):
        for key in (name, "_" + name):
            if key in source and (found := browser.cookie(source[key])):
                return found
    return None


def _goods(app: App, call: Call, name: str) -> Json:
    """Value, currency and what was bought, as fields of the draft."""
    properties = call.properties
    code = currency(properties.get("currency"))
    unit = _UNITS.get(str(said(properties, ("moneyUnit", "money_unit"))).lower(), _WHOLE)
    value = amount(said(properties, ("value", "total")))
    contents = contents_of(properties, choice=app.content_id, code=code, unit=unit)
    ids = content_ids(properties, contents)
    found: Json = {key: said(properties, names) for key, names in _WORDS.items()}
    if contents:
        found["contents"] = contents
    if ids:
        found |= {"content_ids": ids, "content_type": CONTENT_TYPES.get(app.content_id, "product")}
    if name == "InitiateCheckout" and contents:
        # Meta: "Use only with InitiateCheckout events."
        found["num_items"] = sum(line["quantity"] for line in contents)
    return {
        "value": None if value is None else rounded(value * unit, code),
        "currency": code,
        "custom_data": {key: value for key, value in found.items() if value},
    }
