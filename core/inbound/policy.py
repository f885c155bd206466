"""Who is served: the origin rule, the address that counts, and bots."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache

from crawleruseragents import is_crawler

from core.inbound.browser import host_of, parse_address
from core.store.apps import App

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Meta's own fetchers that the list of crawlers may lack; matched in small letters.
_META_CRAWLERS = (
    "meta-externalagent",
    "meta-externalads",
    "meta-externalfetcher",
    "meta-webindexer",
    "facebookexternalhit",
)


def origin_allowed(app: App, origin: str | None, url: str | None) -> bool:
    """Whether this page may report for this app. Any page may, until the app lists its hosts.

    A web pixel runs in a sandbox whose Origin is `null` or absent: there the host of the page's URL decides, unless the
    app takes no such calls.
    """
    if not app.allowed_origins:
        return True
    nowhere = origin in (None, "", "null")
    if nowhere and not app.allow_null_origin:
        return False
    host = host_of(url) if nowhere else host_of(origin)
    if host is None:
        return False
    allowed = {entry.lower() for entry in (*app.allowed_origins, app.shop_domain or "")}
    return host in allowed or host.rsplit(":", 1)[0] in allowed


def networks(entries: Iterable[str]) -> tuple[Network, ...]:
    """The trusted proxies of the settings as networks."""
    return tuple(ipaddress.ip_network(entry, strict=False) for entry in entries)


def client_address(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str | None:
    """The browser's address: the connection's, or what trusted proxies say, read from the right.

    `forwarded` are the X-Forwarded-For lines. The rightmost address that is not a trusted proxy counts; what
    stands left of it was written by the sender. Text that is no address ends the search with None.
    """
    address = parse_address(peer)
    hops = [hop for line in forwarded for hop in line.split(",")] if trusted else []
    while address is not None and hops and _trusted(address, trusted):
        address = parse_address(_without_port(hops.pop()))
    return None if address is None else str(address)


def _trusted(address: ipaddress.IPv4Address | ipaddress.IPv6Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _without_port(hop: str) -> str:
    hop = hop.strip()
    if hop.startswith("["):
        return hop[1:].split("]", 1)[0]
    return hop.split(":", 1)[0] if hop.count(":") == 1 else hop


@lru_cache(maxsize=4096)
def is_bot(user_agent: str | None) -> bool:
    """Whether this is a crawler or a script. No user agent at all is one; webhooks are never asked."""
    if not user_agent:
        return True
    small = user_agent.lower()
    return any(name in small for name in _META_CRAWLERS) or is_crawler(user_agent)
