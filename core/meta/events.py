"""The shape of one event for the Conversions API: its name, its check, its end and its bytes.

https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/server-event ; Meta refuses
a whole request for one bad event, so everything it is known to refuse is found here first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import orjson
from iso4217 import Currency

from core.clock import from_unix

# https://developers.facebook.com/documentation/meta-pixel/reference
STANDARD_EVENTS: Final = (
    "AddPaymentInfo",
    "AddToCart",
    "AddToWishlist",
    "CompleteRegistration",
    "Contact",
    "CustomizeProduct",
    "Donate",
    "FindLocation",
    "InitiateCheckout",
    "Lead",
    "PageView",
    "Purchase",
    "Schedule",
    "Search",
    "StartTrial",
    "SubmitApplication",
    "Subscribe",
    "ViewContent",
)
ACTION_SOURCES: Final = (
    "app",
    "business_messaging",
    "chat",
    "email",
    "other",
    "phone_call",
    "physical_store",
    "system_generated",
    "website",
)

# What storefronts, Shopify's web pixels and Google's tags call the same things, letters only.
SPELLINGS: Final = {name.lower(): name for name in STANDARD_EVENTS} | {
    "pageviewed": "PageView",
    "productview": "ViewContent",
    "productviewed": "ViewContent",
    "viewproduct": "ViewContent",
    "viewitem": "ViewContent",
    "addedtocart": "AddToCart",
    "productaddedtocart": "AddToCart",
    "addedtowishlist": "AddToWishlist",
    "begincheckout": "InitiateCheckout",
    "checkoutstarted": "InitiateCheckout",
    "startcheckout": "InitiateCheckout",
    "initiatedcheckout": "InitiateCheckout",
    "paymentinfosubmitted": "AddPaymentInfo",
    "checkoutcompleted": "Purchase",
    "ordercompleted": "Purchase",
    "purchased": "Purchase",
    "searchsubmitted": "Search",
    "signup": "CompleteRegistration",
    "generatelead": "Lead",
}

# Limited data use. Country and state 0: Meta works out the place by itself.
# https://developers.facebook.com/docs/marketing-apis/data-processing-options
LIMITED_USE: Final = {
    "data_processing_options": ["LDU"],
    "data_processing_options_country": 0,
    "data_processing_options_state": 0,
}

KEEPS: Final = timedelta(days=7)
KEEPS_IN_STORE: Final = timedelta(days=62)
# A request begun in time must still be in time when Meta reads it.
_MARGIN: Final = timedelta(minutes=15)
_AHEAD: Final = timedelta(seconds=60)
# Far above any real event, far below what one request may hold (core.meta.graph.MAX_BYTES).
MAX_EVENT_BYTES: Final = 200_000

# Customer data that Meta calls too weak, alone or together with the rest of its line (2804050).
# https://developers.facebook.com/docs/marketing-api/conversions-api/best-practices
_WEAK: Final = (
    frozenset({"ct", "country", "st", "zp", "ge", "client_user_agent"}),
    frozenset({"db", "client_user_agent"}),
    frozenset({"fn", "ge"}),
    frozenset({"ln", "ge"}),
)
# What alone is enough to find a customer.
_NAMES_THE_CUSTOMER: Final = frozenset({"em", "ph", "external_id", "fbc", "fbp"})
_HASHED_KEYS: Final = frozenset({"em", "ph", "fn", "ln", "ge", "db", "ct", "st", "zp", "country"})
_HASH: Final = re.compile(r"(?:[0-9a-f]{64}|[0-9a-f]{32})(?:\.\w{1,8})?")
_NUMBERS: Final = (int, float, Decimal)
_CURRENCIES: Final = frozenset(currency.code for currency in Currency)


@lru_cache(maxsize=4096)
def meta_name(raw: str) -> str | None:
    """Meta's standard name for a storefront's spelling (`add_to_cart`, `Add To Cart`), or None."""
    return SPELLINGS.get("".join(filter(str.isalnum, raw.lower())))


def build(
    *,
    name: str,
    event_time: datetime,
    event_id: str,
    user_data: Mapping[str, Any],
    action_source: str = "website",
    source_url: str | None = None,
    custom_data: Mapping[str, Any] | None = None,
    limited_data_use: bool = False,
) -> dict[str, Any]:
    """One event as Meta takes it; empty values are left out. `event_time` becomes whole Unix seconds."""
    event: dict[str, Any] = {
        "event_name": name,
        "event_time": int(event_time.timestamp()),
        "event_id": event_id,
        "action_source": action_source,
        "event_source_url": source_url,
        "user_data": _filled(user_data),
        "custom_data": _filled(custom_data or {}),
    }
    if limited_data_use:
        event |= LIMITED_USE
    return _filled(event) | {"user_data": event["user_data"]}


def check(event: Mapping[str, Any], *, now: datetime) -> str | None:
    """None when Meta would take the event, else one word for what it would refuse."""
    moment = _moment(event.get("event_time"))
    source = event.get("action_source")
    if not _text(event.get("event_name"), 100):
        return "no_name"
    if moment is None:
        return "no_time"
    if source not in ACTION_SOURCES:
        return "bad_action_source"
    if deadline(moment, str(source)) <= now:
        return "too_old"
    if moment > now + _AHEAD:
        return "in_future"
    return _check_person(event, str(source)) or _check_value(event)


def deadline(event_time: datetime, action_source: str | None) -> datetime:
    """The last moment to send this event: a quarter of an hour before Meta starts to refuse the whole request for it,
    7 days after it happened, 62 for a shop with a door."""
    return event_time + (KEEPS_IN_STORE if action_source == "physical_store" else KEEPS) - _MARGIN


def encode(event: Mapping[str, Any]) -> bytes:
    """Compact JSON; a Decimal becomes a number."""
    return orjson.dumps(event, default=_number)


def _check_person(event: Mapping[str, Any], source: str) -> str | None:
    person = event.get("user_data")
    keys = _filled(person).keys() if isinstance(person, Mapping) else frozenset[str]()
    named = not keys.isdisjoint(_NAMES_THE_CUSTOMER)
    if not isinstance(person, Mapping) or (not named and any(keys <= weak for weak in _WEAK)):
        return "no_match_keys"
    if any(not _HASH.fullmatch(str(one)) for key in keys & _HASHED_KEYS for one in _each(person[key])):
        return "not_hashed"
    # Meta's page asks for the browser of a website event. Shopify's checkouts never have one; an event that names its
    # customer otherwise goes without, as other forwarders send it, and is divided out of its batch if Meta minds.
    return "no_user_agent" if source == "website" and not (named or person.get("client_user_agent")) else None


def _check_value(event: Mapping[str, Any]) -> str | None:
    custom = event.get("custom_data") or {}
    if not isinstance(custom, Mapping):
        return "bad_custom_data"
    value, currency = custom.get("value"), custom.get("currency")
    purchase = event.get("event_name") == "Purchase"
    if value is None and purchase:
        return "no_value"
    if value is not None and not _is_amount(value):
        return "bad_value"
    if currency is None and purchase:
        return "no_currency"
    return "bad_currency" if currency is not None and str(currency).upper() not in _CURRENCIES else None


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return False
    return math.isfinite(value)


def _moment(value: object) -> datetime | None:
    """Whole seconds only: Meta takes a time in milliseconds for one far in the future."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10**11:
        return None
    return from_unix(value)


def _text(value: object, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest


def _each(value: object) -> Iterable[object]:
    if isinstance(value, (list, tuple)):
        return value
    return () if value is None or value == "" else (value,)


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value or isinstance(value, _NUMBERS)}


def _number(value: object) -> float | int:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError
