"""Personal data as Meta wants it: brought into one form, then SHA-256.

Follows Meta's written rules first
(https://developers.facebook.com/documentation/ads-commerce/conversions-api/parameters/customer-information-parameters),
and where they are silent what Meta's own packages have in common. A value that cannot be used gives
None: the key is dropped, the event is kept.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable
from datetime import date
from typing import Final

import phonenumbers

from core.meta.places import COUNTRIES, COUNTRY_CODES, STATES, letters

# A finished hash; Meta's parameter builder hangs a short mark behind a dot, which must stay.
_HASHED: Final = re.compile(r"[0-9a-f]{64}(?:\.[0-9A-Za-z_-]{1,8})?")
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_EMAIL: Final = re.compile(r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_EXTENSION: Final = re.compile(r"(?i)\s*(?:;ext=|ext(?:ension)?\.?|[x#])\s*\d*\s*$")
_ASCII_PUNCTUATION: Final = str.maketrans("", "", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_SUBDIVISION: Final = re.compile(r"([a-z]{2})-([a-z0-9]{1,3})")
_DATES: Final = (
    (re.compile(r"(\d{4})(\d{2})(\d{2})"), "ymd"),
    (re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:t.*)?"), "ymd"),
    (re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})"), "mdy"),
)
_LONGEST: Final = 2_000


def hashed(key: str, value: object, *, country: str | None = None) -> str | None:
    """64 hex digits for `value` under `key` (em ph fn ln ge db ct st zp country external_id), or None.

    What is hashed already passes through. `country` (two letters) is that of the address the value
    belongs to: it completes phone numbers and tells states apart.
    """
    done = _already(key, value)
    if done is not None:
        return done
    text = _normalized(key, value, country)
    try:
        return hashlib.sha256(text.encode()).hexdigest() if text else None
    except UnicodeEncodeError:
        return None


def normalize(key: str, value: object, *, country: str | None = None) -> str | None:
    """The text before hashing; None for what cannot be used and for what is hashed already."""
    return _normalized(key, value, country) if _already(key, value) is None else None


def _normalized(key: str, value: object, country: str | None) -> str | None:
    text = _text(value)
    region = country.strip().lower() if country else ""
    return (text and _RULES[key](text, COUNTRIES.get(region, ""))) or None


def _already(key: str, value: object) -> str | None:
    text = value.strip() if isinstance(value, str) else ""
    digest, dot, mark = text.partition(".")
    text = digest.lower() + dot + mark
    # A plain MD5 passes in Meta's packages too, but an external id may well look like one.
    if _HASHED.fullmatch(text) or (key != "external_id" and _MD5.fullmatch(text)):
        return text
    return None


def _text(value: object) -> str:
    """Composed, without invisible characters and outer space, in lower case."""
    if isinstance(value, date):
        value = value.isoformat()
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return ""
    given = str(value)[:_LONGEST]
    if given.isascii():
        return given.strip().lower()
    composed = unicodedata.normalize("NFC", given)
    return "".join(c for c in composed if unicodedata.category(c) != "Cf").strip().lower()


def _email(text: str, _country: str) -> str | None:
    return text if _EMAIL.fullmatch(text) else None


def _phone(text: str, country: str) -> str | None:
    """Digits with the country code in front when it can be known, no leading zeros."""
    text = _EXTENSION.sub("", text)
    digits = "".join(str(unicodedata.digit(c)) for c in text if c.isdecimal())
    first = next((i for i, c in enumerate(text) if c.isdecimal()), 0)
    if any(c.isalpha() for c in text[first:]):
        return None
    digits = (_international(text, country) if country else None) or digits.lstrip("0")
    return digits if 7 <= len(digits) <= 15 else None


def _international(text: str, country: str) -> str | None:
    try:
        number = phonenumbers.parse(text, country.upper())
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164).lstrip("+")


def _name(text: str, _country: str) -> str:
    return "".join(text.translate(_ASCII_PUNCTUATION).split())


def _gender(text: str, _country: str) -> str | None:
    return _GENDERS.get(letters(text))


def _birthday(text: str, _country: str) -> str | None:
    """YYYYMMDD; month before day where both readings are possible, as Meta's builder has it."""
    for pattern, order in _DATES:
        if found := pattern.fullmatch(text):
            a, b, c = map(int, found.groups())
            year, month, day = (a, b, c) if order == "ymd" else (c, a, b) if a <= 12 else (c, b, a)
            return _day(year, month, day)
    return None


def _day(year: int, month: int, day: int) -> str | None:
    try:
        return date(year, month, day).strftime("%Y%m%d") if 1900 <= year <= 2100 else None
    except ValueError:
        return None


def _city(text: str, _country: str) -> str:
    return "".join(c for c in text if unicodedata.category(c)[0] in "LM")


def _state(text: str, country: str) -> str | None:
    """Two letters for a state of the USA or Canada, otherwise the name; never cut."""
    part = _SUBDIVISION.fullmatch(text)
    if part and part[1] in COUNTRY_CODES:
        return part[2]
    plain = _city(text, country) or _name(text, country)
    return STATES.get(plain, plain) if country in ("", "us", "ca") else plain


def _zip(text: str, _country: str) -> str:
    return "".join(text.partition("-")[0].split())


def _country(text: str, _region: str) -> str | None:
    return COUNTRIES.get(letters(text)) if not any(c.isdigit() for c in text) else None


def _identity(text: str, _country: str) -> str:
    return "".join(text.split())


_GENDERS: Final = dict.fromkeys(("m", "male", "man", "boy", "mr"), "m") | dict.fromkeys(
    ("f", "female", "woman", "girl", "ms", "mrs", "miss"), "f"
)

_RULES: Final[dict[str, Callable[[str, str], str | None]]] = {
    "em": _email,
    "ph": _phone,
    "fn": _name,
    "ln": _name,
    "ge": _gender,
    "db": _birthday,
    "ct": _city,
    "st": _state,
    "zp": _zip,
    "country": _country,
    "external_id": _identity,
}
KEYS: Final = tuple(_RULES)
