"""Hosts: which are this machine, which are Meta's, and how one stands in a URL."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

GRAPH = ("graph.facebook.com",)
DIALOG = ("www.facebook.com",)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def household(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Who is counted as one: an IPv4 address, or the /64 of an IPv6 address, which is what one household gets."""
    return str(address if address.version == 4 else ipaddress.ip_network((address, 64), strict=False))


def is_known(url: str, hosts: Collection[str]) -> bool:
    """Whether this leads to one of `hosts` by https, or to this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return (parts.scheme == "https" and host in hosts) or is_loopback(host)


def is_confidential(url: str) -> bool:
    """Whether nobody on the way reads what is said there: https, or this machine."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (parts.scheme == "https" or is_loopback(parts.hostname or ""))


def shown(host: str) -> str:
    """A host to listen on as people reach it from this machine, ready for a URL."""
    named = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"[{named}]" if ":" in named and not named.startswith("[") else named
