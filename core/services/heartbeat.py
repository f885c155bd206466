"""The dead man's switch: a monitor elsewhere is told every minute that we run, and tells you when it is not."""

from __future__ import annotations

import logging
import os
from urllib.parse import urlsplit

import requests

from core import logs
from core.services.outgoing import ALLOW, private_address, public_only

log = logging.getLogger("heartbeat")

_SECONDS = 5


class Heartbeat:
    """One monitor's address. Where it leads may be told; the rest is a secret: whoever has it can play us."""

    def __init__(self, url: str, *, allow_private: bool) -> None:
        self.url, self.allow_private = url, allow_private
        self.host = urlsplit(url).hostname or ""
        self.error: str | None = None

    def beat(self) -> str | None:
        """Fetch the address; None when the monitor took it, else why not. One log line per change."""
        error = self._fetch()
        if error and not self.error:
            log.warning("the heartbeat does not reach its monitor", extra={"host": self.host, "error": error})
        elif self.error and not error:
            log.info("the heartbeat reaches its monitor again", extra={"host": self.host})
        self.error = error
        return error

    def _fetch(self) -> str | None:
        if not self.allow_private and (found := private_address(self.host)):
            return _private(found)
        with logs.hushed(), public_only(allow_private=self.allow_private) as refused, requests.Session() as session:
            # Straight there: a proxy or a .netrc of the environment is not ours to use.
            session.trust_env = False
            session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
            try:
                with session.get(self.url, timeout=_SECONDS, allow_redirects=False, stream=True) as answer:
                    return None if answer.status_code < 300 else f"it answered {answer.status_code}"
            except (requests.RequestException, OSError, ValueError) as error:
                # The library's words hold the address.
                return _private(refused[0]) if refused else type(error).__name__


def _private(address: str) -> str:
    return f"it leads to {address}, which is a private address: {ALLOW}"
