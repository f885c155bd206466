"""A strict JSON reader for bodies that strangers send.

Numbers keep their digits (`int` or `Decimal`, never a float: an id beyond 2^53 would change), and what a
database or Meta cannot take is refused or mended here, once: NaN, Infinity, 1e999, endless depth, integers
of thousands of digits, lone surrogates (they cannot be written as UTF-8), NUL (PostgreSQL's text refuses it).
"""

from __future__ import annotations

import base64
import binascii
import json
from decimal import Decimal
from typing import Any, NoReturn

from core.errors import BadInput

TRACK_DEPTH = 10
WEBHOOK_DEPTH = 40
_MAX_DIGITS = 40
# As far as a double reaches: no browser writes a number beyond it.
_MAX_EXPONENT = 324


def read_object(body: bytes, *, depth: int = TRACK_DEPTH) -> dict[str, Any]:
    """The JSON object in `body`; BadInput when it is no object, too deep or not quite JSON."""
    try:
        text = body.decode("utf-8-sig")
        value = _decoder.decode(text)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValueError):
        raise BadInput("The body is not valid JSON") from None
    if not isinstance(value, dict):
        raise BadInput("The body is not a JSON object")
    if "\\u" in text or text.count("{") + text.count("[") > depth:
        return dict(_mended(value, depth))
    return value


def read_base64_object(text: str) -> dict[str, Any]:
    """The JSON object in base64, either alphabet, padded or not (a query string turns + into a space)."""
    plain = text.strip().replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
    try:
        body = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("The data is not base64") from None
    return read_object(body)


def _mended(value: Any, room: int) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict | list) and room <= 0:
        raise BadInput("The body is nested too deeply")
    if isinstance(value, dict):
        return {clean(key): _mended(item, room - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_mended(item, room - 1) for item in value]
    return value


def clean(text: str) -> str:
    """Without what a database cannot store: NUL and lone surrogates."""
    return text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError
    return int(digits)


def _decimal(digits: str) -> Decimal:
    number = Decimal(digits)
    if len(digits) > _MAX_DIGITS or abs(number.adjusted()) > _MAX_EXPONENT:
        raise ValueError
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


_decoder = json.JSONDecoder(parse_int=_integer, parse_float=_decimal, parse_constant=_no_constant)
