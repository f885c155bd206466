"""Single values out of foreign bodies: each function gives a clean value or None, and never raises."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import cache
from typing import Any

from iso4217 import Currency

from core.clock import as_utc, from_unix

TEXT_LIMIT = 2000
# Tuples: `int | Decimal` would be made anew at each call, and these are asked a hundred times an event.
_NUMBERS = (int, Decimal)
_AMOUNTS = (int, str, Decimal)
# The ledger's column is NUMERIC(20, 4); no shop sells for more.
_MOST = Decimal(10) ** 15
_LONGEST_ID = 128
_TOKEN = re.compile(r"[!-~]{1,100}")


def text(value: Any, limit: int = TEXT_LIMIT) -> str | None:
    """Trimmed text, None when there is none; numbers count as their digits."""
    if not isinstance(value, str):
        if isinstance(value, bool) or not isinstance(value, _NUMBERS):
            return None
        value = str(value)
    found = value.strip()
    return (found if len(found) <= limit else found[:limit].rstrip()) or None


def said(source: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """The first text under one of these names."""
    for name in names:
        if (value := source.get(name)) is not None and (found := text(value)) is not None:
            return found
    return None


def first(*values: Any) -> str | None:
    """The first of these that is text."""
    for value in values:
        if value is not None and (found := text(value)) is not None:
            return found
    return None


def exact_id(value: Any) -> str | None:
    """An id as exact text: an int of any length, digits, or the tail of `gid://shopify/Order/1`."""
    if value is None or isinstance(value, Decimal):  # a float's digits are not an id's
        return None
    found = text(value)
    if found is None or len(found) > _LONGEST_ID:
        return None
    return found.rsplit("/", 1)[-1].split("?", 1)[0] or None if found.startswith("gid://") else found


def token(value: Any) -> str | None:
    """A cart's or a checkout's token, without the `?key=…` that the storefront's own spelling of it carries."""
    found = exact_id(value)
    found = found and found.split("?", 1)[0]
    return found if found and _TOKEN.fullmatch(found) else None


@cache
def exponent(currency: str) -> int:
    """Digits after the point of an ISO 4217 currency: 0 for JPY, 3 for KWD."""
    places = Currency(currency).exponent
    return 2 if places is None else int(places)


@cache
def _known_currency(code: str) -> bool:
    try:
        Currency(code)
    except ValueError:
        return False
    return True


def currency(value: Any) -> str | None:
    """An ISO 4217 code in capitals."""
    code = value.strip().upper() if isinstance(value, str) else ""
    return code if len(code) == 3 and code.isascii() and code.isalpha() and _known_currency(code) else None


def amount(value: Any) -> Decimal | None:
    """A finite amount of zero or more, as it was written."""
    if isinstance(value, bool) or not isinstance(value, _AMOUNTS):
        return None
    try:
        number = Decimal(value.strip()) if isinstance(value, str) else Decimal(value)
    except (InvalidOperation, ValueError):
        return None
    return abs(number) if number.is_finite() and 0 <= number < _MOST else None


def money(value: Any, code: str | None) -> Decimal | None:
    """An amount rounded to the currency's own digits (two where the currency is unknown)."""
    number = amount(value)
    return None if number is None else rounded(number, code)


def rounded(number: Decimal, code: str | None) -> Decimal:
    return number.quantize(_step(code), ROUND_HALF_UP)


@cache
def _step(code: str | None) -> Decimal:
    return Decimal(1).scaleb(-exponent(code) if code else -2)


def quantity(value: Any) -> int | None:
    """A whole number from 1 to a million."""
    number = value if type(value) is int else amount(value)
    return int(number) if number is not None and 1 <= number <= 1_000_000 else None


def moment(value: Any) -> datetime | None:
    """A moment from ISO 8601, or from seconds or milliseconds since 1970."""
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        try:
            return as_utc(datetime.fromisoformat(value.strip()))
        except (ValueError, OverflowError):
            return None
    number = amount(value)
    if number is None:
        return None
    # 11 digits and more are milliseconds: as seconds they would lie beyond the year 5138.
    seconds = number / 1000 if number >= _FIRST_MILLISECONDS else number
    return from_unix(int(seconds)) if seconds < _FIRST_MILLISECONDS else None


_NUMBER = re.compile(r"\d+(\.\d+)?")
_FIRST_MILLISECONDS = Decimal(10) ** 11
# A clock that is further off than this is none.
_WRONG_CLOCK = timedelta(days=400)


def event_moment(value: Any, *, now: datetime, sent_at: Any = None) -> datetime:
    """When it happened, in whole seconds: the sender's word, but never later than now, and now where it gives none.

    `sent_at`: the sender's clock when it sent; what it is wrong by is made good.
    """
    said, clock = moment(value), moment(sent_at)
    if said is not None and clock is not None and abs(now - clock) < _WRONG_CLOCK:
        said += now - clock
    return (min(said, now) if said else now).replace(microsecond=0)
