"""Who may ask the stand-in: programs, and a person at its own page. No page of another site, whatever it calls us.

It listens on this machine, where every page that somebody opens can send requests to it: such a page could end tokens
or turn the clock, and one whose name was made to lead here (DNS rebinding) could read the answers, too.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse, Response
from starlette.types import Scope


def refusal(scope: Scope) -> Response | None:
    """What such a page is told, None for everybody else."""
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"")
    if not _is_place(host.decode("latin-1")):
        return PlainTextResponse("This host name is not served", 421)
    if headers.get(b"origin") not in (None, b"http://" + host):
        return PlainTextResponse("This did not come from the sandbox", 403)
    return None


@lru_cache(maxsize=64)
def _is_place(host: str) -> bool:
    """An address or `localhost`: a name that others give out can be made to lead here, these cannot."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False
