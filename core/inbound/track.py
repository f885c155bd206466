"""The storefront's tracking contract: one flat JSON object becomes one event, or a reason why not."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.errors import BadInput
from core.inbound import browser
from core.inbound.finish import Draft, finish
from core.inbound.goods import CONTENT_TYPES, content_ids, contents_of
from core.inbound.people import hashed_people
from core.inbound.policy import is_bot
from core.inbound.values import currency, event_moment, first, money, text
from core.meta.events import meta_name
from core.meta.hashing import hashed
from core.store.acceptance import NewEvent
from core.store.apps import App

Json = dict[str, Any]

_EVENT_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_NAME_LIMIT = 100
# Text that goes into custom_data: Meta's key ← the storefront's names.
_WORDS = {
    "content_name": ("content_name", "product_name", "productName"),
    "content_category": ("content_category", "category"),
    "order_id": ("order_id", "orderId"),
    "search_string": ("search_string", "search_term", "searchTerm"),
}


class MissingFields(BadInput):
    """Missing required fields"""


@dataclass(frozen=True, slots=True)
class Visit:
    """What the connection itself says: the page's Referer, the user agent, the client's address."""

    user_agent: str | None = None
    address: str | None = None
    referer: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One tracking call that can be read: for which public `appId`, under which name, with which properties."""

    app_id: str
    name: str
    body: Json
    properties: Json

    @property
    def url(self) -> str | None:
        return first(self.body.get("url"), self.properties.get("url"), self.body.get("event_source_url"))


def read_call(body: Json) -> Call:
    """The call in a parsed body; MissingFields when it names no app or no event."""
    body = _unwrapped(body)
    app_id = first(body.get("appId"), body.get("app_id"))
    name = text(first(body.get("eventName"), body.get("event_name"), body.get("event")), _NAME_LIMIT)
    if app_id is None or name is None:
        raise MissingFields()
    inner = [body[key] for key in ("properties", "custom_data", "customData") if isinstance(body.get(key), dict)]
    properties = dict(body)
    for part in inner:
        properties.update((key, value) for key, value in part.items() if value is not None)
    return Call(app_id, name, body, properties)


def to_event(app: App, call: Call, visit: Visit, *, now: datetime) -> NewEvent:
    """The event for the outbox; `skipped` says why where Meta must not hear it."""
    name, skipped = _forwarded_name(app, call.name)
    at = event_moment(call.body.get("timestamp") or call.body.get("event_time"), now=now)
    url = browser.page_url(call.url) or browser.page_url(visit.referer)
    code = currency(call.properties.get("currency"))
    draft = Draft(
        name=name,
        event_id=_event_id(call),
        source="track",
        event_time=at,
        user_data=_user_data(call, visit, at=at),
        custom_data=_custom_data(app, call.properties, name, code),
        url=url,
        value=money(first(call.properties.get("value"), call.properties.get("total")), code),
        currency=code,
        skipped="bot" if is_bot(visit.user_agent) else skipped,
    )
    return finish(app, draft, now=now)


def _unwrapped(body: Json) -> Json:
    """A GraphQL-shaped body carries the call in `variables.input`."""
    variables = body.get("variables")
    inside = variables.get("input") if isinstance(variables, dict) else None
    return inside if isinstance(inside, dict) else body


def _forwarded_name(app: App, name: str) -> tuple[str, str | None]:
    known = meta_name(name)
    if known is not None:
        return known, None
    return name, None if name in app.forwarded_names else "not_forwarded"


def _event_id(call: Call) -> str:
    """The sender's, which a browser pixel may share; else one is made, and nothing can be deduplicated."""
    for source in (call.body, call.properties):
        given = first(source.get("event_id"), source.get("eventId"), source.get("eventID"))
        if given is not None and _EVENT_ID.fullmatch(given):
            return given
    return str(uuid.uuid4())


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
    sources = (call.body, call.properties, given)
    values = (browser.cookie(source.get(key)) for source in sources for key in (name, f"_{name}"))
    return next((value for value in values if value), None)


def _custom_data(app: App, properties: Json, name: str, code: str | None) -> Json:
    contents = contents_of(properties, choice=app.content_id, code=code)
    ids = content_ids(properties, contents)
    found: Json = {key: first(*(properties.get(n) for n in names)) for key, names in _WORDS.items()}
    if contents:
        found["contents"] = contents
    if ids:
        found |= {"content_ids": ids, "content_type": CONTENT_TYPES.get(app.content_id, "product")}
    if name == "InitiateCheckout" and contents:
        # Meta: "Use only with InitiateCheckout events."
        found["num_items"] = sum(line["quantity"] for line in contents)
    return {key: value for key, value in found.items() if value}
