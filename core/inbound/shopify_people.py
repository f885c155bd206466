"""The buyer in a Shopify payload, under Meta's keys and hashed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from core.inbound import browser
from core.inbound.people import hashed_people
from core.inbound.values import exact_id, first, text
from core.meta.hashing import hashed

Json = dict[str, Any]

_PLACE = ("first_name", "last_name", "city", "zip", "province_code", "province", "country_code", "country")


def user_data(body: Json, *, shop: str, at: datetime) -> Json:
    """What Meta can match on; an empty dict where the payload names nobody."""
    customer = _object(body.get("customer"))
    addresses = [
        _object(body.get("billing_address")),
        _object(body.get("shipping_address")),
        _object(customer.get("default_address")),
    ]
    place = next((address for address in addresses if any(text(address.get(key)) for key in _PLACE)), {})
    found = hashed_people(
        {
            "email": first(body.get("email"), body.get("contact_email"), customer.get("email")),
            "firstName": first(place.get("first_name"), customer.get("first_name")),
            "lastName": first(place.get("last_name"), customer.get("last_name")),
            "city": place.get("city"),
            "state": first(place.get("province_code"), place.get("province")),
            "zip": place.get("zip"),
            "country": first(place.get("country_code"), place.get("country")),
        }
    )
    found["ph"] = _phone(body, customer, addresses, first(place.get("country_code")))
    # Customer ids of two shops may be the same number, and two shops may share a pixel.
    customer_id = exact_id(customer.get("id"))
    found["external_id"] = hashed("external_id", f"{shop}:{customer_id}") if customer_id else None
    found |= _browser(body, at=at)
    return {key: value for key, value in found.items() if value}


def _phone(body: Json, customer: Json, addresses: list[Json], country: str | None) -> str | None:
    """The first phone that can be used, with the country of the address it stands in."""
    candidates = [(body.get("phone"), country), (customer.get("phone"), country)]
    candidates += [(address.get("phone"), first(address.get("country_code")) or country) for address in addresses]
    digests = (hashed("ph", text(phone), country=region) for phone, region in candidates if text(phone))
    return next((digest for digest in digests if digest), None)


def _browser(body: Json, *, at: datetime) -> Json:
    """Address and user agent only of orders from the web: those of a draft order are the shop's own staff's."""
    details = _object(body.get("client_details"))
    from_web = (text(body.get("source_name")) or "web") == "web"
    addresses = (body.get("browser_ip"), details.get("browser_ip")) if from_web else ()
    return {
        "client_ip_address": next(filter(None, map(browser.public_address, addresses)), None),
        "client_user_agent": browser.user_agent(details.get("user_agent")) if from_web else None,
        "fbp": _noted(body, "fbp"),
        "fbc": _noted(body, "fbc") or browser.click_cookie(text(body.get("landing_site")), at=at),
    }


def _noted(body: Json, name: str) -> str | None:
    """Meta's cookie that the storefront put into the cart's attributes."""
    notes = body.get("note_attributes")
    for note in notes if isinstance(notes, list) else ():
        if isinstance(note, dict) and note.get("name") in (name, f"_{name}"):
            found = browser.cookie(note.get("value"))
            if found:
                return found
    return None


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
