"""What only a browser knows: the page, Meta's two cookies, the click id, the user agent, the address."""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

from core.inbound.values import TEXT_LIMIT, text

# https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/fbp-and-fbc
_COOKIE = re.compile(r"fb\.\d\.\d{10,13}\.[!-~]{1,500}")
_CLICK_ID = re.compile(r"[A-Za-z0-9_.\-]{1,500}")
# Query fields that open somebody's order or name a person; everything else of a URL is Meta's to match on.
_PRIVATE = frozenset(
    {
        "key",
        "token",
        "access_token",
        "secret",
        "password",
        "pass",
        "auth",
        "authorization",
        "signature",
        "hmac",
        "code",
        "email",
        "e-mail",
        "mail",
        "phone",
        "tel",
        "customer_email",
        "first_name",
        "last_name",
        "address",
    }
)
# A query without any of this has nothing private in it, and need not be taken apart.
_PERHAPS_PRIVATE = re.compile(r"[@%+]|(?:^|&)(?:" + "|".join(map(re.escape, sorted(_PRIVATE))) + ")(?:[=&]|$)", re.I)
_BLANK = re.compile(r"[\s\x00-\x1f]")


def cookie(value: Any) -> str | None:
    """`_fbp` or `_fbc` in Meta's shape, case kept; else None."""
    return value if isinstance(value, str) and _COOKIE.fullmatch(value) else None


def click_cookie(url: str | None, *, at: datetime) -> str | None:
    """`_fbc` made from the fbclid of a URL or path: `fb.1.{milliseconds}.{fbclid}`."""
    if not url or "fbclid=" not in url:
        return None
    found = parse_qs(_split(url).query, max_num_fields=200).get("fbclid", [""])[0] if _fields_fit(url) else ""
    return f"fb.1.{int(at.timestamp() * 1000)}.{found}" if _CLICK_ID.fullmatch(found) else None


def page_url(value: Any) -> str | None:
    """An http(s) URL without credentials, fragment and private query fields; else None."""
    found = text(value) if isinstance(value, str) else None
    return _page_url(found) if found is not None and len(found) < TEXT_LIMIT else None


# A page is looked at by many. What is too long for a page never gets here: it would stay in memory.
@lru_cache(maxsize=2048)
def _page_url(found: str) -> str | None:
    if not found.lower().startswith(("http://", "https://")):
        return None
    parts = _split(found)
    host = parts.hostname
    if not host or not _plain(found):
        return None
    port = _port(parts)
    place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    return urlunsplit((parts.scheme.lower(), place, parts.path or "/", _public_query(parts.query), ""))


def host_of(value: Any) -> str | None:
    """The host of a URL or Origin in small letters, with its port where one is given; else None."""
    if not isinstance(value, str) or "://" not in value:
        return None
    parts = _split(value.strip())
    port = _port(parts)
    return None if not parts.hostname else parts.hostname + (f":{port}" if port else "")


def user_agent(value: Any) -> str | None:
    found = text(value, 512)
    return found.encode("ascii", "ignore").decode() or None if found else None


def public_address(value: Any) -> str | None:
    """An address that Meta can use: a global one, IPv4 unwrapped from IPv6, else None."""
    return _public_address(value) if isinstance(value, str) else None


@lru_cache(maxsize=4096)
def _public_address(value: str) -> str | None:
    address = parse_address(value)
    return str(address) if address is not None and address.is_global and not address.is_multicast else None


def parse_address(value: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(value.strip() if isinstance(value, str) else "")
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        return None


def _plain(url: str) -> bool:
    return _BLANK.search(url) is None


def _fields_fit(url: str) -> bool:
    return url.count("&") < 200


def _public_query(query: str) -> str:
    if not query or query.count("&") >= 200:
        return ""
    if not _PERHAPS_PRIVATE.search(query):
        return query
    pairs = parse_qsl(query, keep_blank_values=True)
    if not any(_private(name, content) for name, content in pairs):
        return query
    return urlencode([(name, content) for name, content in pairs if not _private(name, content)])


def _private(name: str, content: str) -> bool:
    return name.lower() in _PRIVATE or "@" in content
