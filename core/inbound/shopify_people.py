"""The buyer in a Shopify payload, under Meta's keys and hashed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any

from core.inbound import browser
from core.inbound.people import hashed_people
from core.inbound.values import first, text, token
from core.meta.hashing import hashed, normalize

Json = dict[str, Any]

_NAMES = ("first_name", "last_name")
_PLACE = ("city", "zip", "province_code", "province", "country_code", "country")


def user_data(body: Json, *, shop: str, on_website: bool, created_at: datetime) -> Json:
    """What Meta can match on; an empty dict where the payload names nobody.

    `on_website`: otherwise the browser that the payload shows is the shop's own staff's.
    """
    customer = _object(body.get("customer"))
    addresses = [
        _object(body.get("billing_address")),
        _object(body.get("shipping_address")),
        _object(customer.get("default_address")),
    ]
    found = _name_and_place(customer, addresses)
    emails = (body.get("email"), body.get("contact_email"), customer.get("email"))
    found["em"] = _first_hashed("em", ((email, None) for email in emails))
    found["ph"] = _first_hashed("ph", _phones(body, customer, addresses))
    # Customer ids of two shops may be the same number, and two shops may share a pixel.
    customer_id = token(customer.get("id")) or token(customer.get("admin_graphql_api_id"))
    found["external_id"] = hashed("external_id", f"{shop}:{customer_id}") if customer_id else None
    found |= _cookies(body, created_at=created_at)
    if on_website:
        found |= _browser(body)
    return {key: value for key, value in found.items() if value}


def _name_and_place(customer: Json, addresses: list[Json]) -> Json:
    """Billing before shipping before the customer's own. Each of the two from one source: halves of two people, or of
    two towns, are nobody."""
    named = _first_with(_NAMES, [*addresses, customer])
    place = _first_with(_PLACE, addresses)
    return hashed_people(
        {
            "firstName": text(named.get("first_name")),
            "lastName": text(named.get("last_name")),
            "city": text(place.get("city")),
            "state": first(place.get("province_code"), place.get("province")),
            "zip": text(place.get("zip")),
            "country": _country(place),
        }
    )


def _phones(body: Json, customer: Json, addresses: list[Json]) -> Iterator[tuple[Any, str | None]]:
    """Phones and the country that completes them: that of the address they stand in or belong to."""
    where = _country(_first_with(_PLACE, addresses))
    yield body.get("phone"), where
    yield customer.get("phone"), _country(addresses[-1]) or where
    for address in addresses:
        yield address.get("phone"), _country(address) or where
    yield body.get("sms_marketing_phone"), where


def _first_hashed(key: str, candidates: Iterable[tuple[Any, str | None]]) -> str | None:
    """The first of these that can be used at all."""
    return next(filter(None, (hashed(key, text(value), country=region) for value, region in candidates)), None)


def _country(address: Json) -> str | None:
    """Its two letters, from the code or the name."""
    written = (text(address.get(key)) for key in ("country_code", "country"))
    return next(filter(None, (_two_letters(one) for one in written if one)), None)


@lru_cache(maxsize=1024)
def _two_letters(country: str) -> str | None:
    return normalize("country", country)


def _first_with(fields: tuple[str, ...], sources: list[Json]) -> Json:
    return next((source for source in sources if any(text(source.get(field)) for field in fields)), {})


def _browser(body: Json) -> Json:
    details = _object(body.get("client_details"))
    addresses = map(browser.public_address, (body.get("browser_ip"), details.get("browser_ip")))
    return {
        "client_ip_address": next(filter(None, addresses), None),
        "client_user_agent": browser.user_agent(details.get("user_agent")),
    }


def _cookies(body: Json, *, created_at: datetime) -> Json:
    clicked = browser.click_cookie(text(body.get("landing_site")), at=created_at)
    return {"fbp": _noted(body, "fbp"), "fbc": _noted(body, "fbc") or browser.cookie(clicked)}


def _noted(body: Json, name: str) -> str | None:
    """Meta's cookie that the storefront put into the cart's attributes; leading underscores hide one from buyers."""
    listed = body.get("note_attributes")
    notes = [note for note in listed if isinstance(note, dict)] if isinstance(listed, list) else []
    values = (note.get("value") for note in notes if (text(note.get("name")) or "").lstrip("_").lower() == name)
    return next(filter(None, (browser.cookie(text(value)) for value in values)), None)


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
