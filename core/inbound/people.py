"""User data as Meta takes it: hashed on receipt, one value or a list of values a key."""

from __future__ import annotations

from typing import Any

from core.inbound.values import exact_id, text
from core.meta.hashing import hashed

Json = dict[str, Any]

# Meta's key ← the names that senders use for it, most exact first.
# https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/customer-information-parameters
NAMES: dict[str, tuple[str, ...]] = {
    "em": ("em", "email"),
    "ph": ("ph", "phone"),
    "fn": ("fn", "firstName", "first_name"),
    "ln": ("ln", "lastName", "last_name"),
    "ge": ("ge", "gender"),
    "db": ("db", "dateOfBirth", "date_of_birth"),
    "ct": ("ct", "city"),
    "st": ("st", "state", "province"),
    "zp": ("zp", "zip", "zipCode", "postalCode"),
    "country": ("country", "countryCode", "country_code"),
    "external_id": ("external_id", "externalId"),
}
_KEYS = {name: key for key, names in NAMES.items() for name in names}
_MOST_VALUES = 10


def hashed_people(given: Json) -> Json:
    """The keys of `given` (Meta's or long names) under Meta's keys, hashed; what cannot be used is left out."""
    found: Json = {}
    if not given:
        return found
    country = _country(given)
    for key in dict.fromkeys(_KEYS[name] for name in given if name in _KEYS):
        value = next((given[name] for name in NAMES[key] if given.get(name) not in (None, "", [])), None)
        digests = _digests(key, value, country) if value is not None else []
        if digests:
            found[key] = digests[0] if len(digests) == 1 else digests
    return found


def _digests(key: str, value: Any, country: str | None) -> list[str]:
    values = value[:_MOST_VALUES] if isinstance(value, list) else [value]
    plain = (exact_id(item) if key == "external_id" else text(item) for item in values)
    digests = [hashed(key, item, country=country) for item in plain if item is not None]
    return list(dict.fromkeys(digest for digest in digests if digest))


def _country(given: Json) -> str | None:
    """The two letters of the country, where they are given in the clear; they complete phone numbers."""
    value = next((text(given[name]) for name in NAMES["country"] if text(given.get(name))), None)
    return value if value is not None and len(value) == 2 else None
