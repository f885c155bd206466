"""Where alerts and the heartbeat may go: to public addresses only, unless an operator allows others.

Checked twice: before anything is sent, for a clear word; and at the moment a socket connects, because a name may
resolve to another address by then, and only the library that sends knows where it really goes.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What Python calls global all the same: IPv4-compatible, a site's own NAT64 (RFC 8215), site-local (RFC 3879).
_WITHIN = tuple(ipaddress.ip_network(one) for one in ("::/96", "64:ff9b:1::/48", "fec0::/10"))
ALLOW = "set CAPI_ALLOW_PRIVATE_URLS=true if it is meant to"

# The private addresses that were refused on the way, while a guard is up.
_guarded: ContextVar[list[str] | None] = ContextVar("guarded", default=None)


class PrivateAddress(OSError):
    """A connection to a private address was refused."""


def is_public(address: str) -> bool:
    """Whether this IP address (not a name) can be reached by anybody: not loopback, private, link-local or reserved."""
    try:
        ip = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour
        if embedded is None and ip in _NAT64:
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(str(embedded))
        if any(ip in network for network in _WITHIN):
            return False
    return ip.is_global and not ip.is_multicast


def private_address(host: str) -> str | None:
    """The first address of this host that is not public; None when all are, or none is known yet."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    return next((str(entry[4][0]) for entry in found if not is_public(str(entry[4][0]))), None)


@contextmanager
def public_only(*, allow_private: bool) -> Iterator[list[str]]:
    """Inside, no socket of this thread (and of threads that copy its context) connects to a private address.

    Gives the list of those that were refused: libraries hide our exception behind their own.
    """
    refused: list[str] = []
    if allow_private:
        yield refused
        return
    _install()
    mark = _guarded.set(refused)
    try:
        yield refused
    finally:
        _guarded.reset(mark)


@cache
def _install() -> None:
    # An audit hook sees every connection that Python makes, and stays for the life of the process
    # (https://docs.python.org/3/library/audit_events.html).
    sys.addaudithook(_audit)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event not in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        return
    refused = _guarded.get()
    address = args[1]
    if refused is None or address is None:
        return
    host = str(address[0]) if isinstance(address, tuple) else str(address)
    if not is_public(host):
        refused.append(host)
        raise PrivateAddress(f"{host} is a private address")
