"""HTTP to Meta: one kept-alive session per thread, and no exception that could carry a URL.

`requests` writes the full URL into its exception texts and urllib3 into its DEBUG lines; the exchange
has the app secret there. So nothing is raised from here: a call always returns an `Answer`, a broken
one says in our own words what happened, and the two urllib3 loggers lose every query string.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Final

import orjson
import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, NewConnectionError

_QUERY: Final = re.compile(r"\?[^\s\"'<>)]*")


class HideQueries(logging.Filter):
    """Cuts the query off every URL in a record's message and arguments."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _QUERY.sub("?…", record.getMessage()), None
        return True


def hide_queries() -> None:
    for name in ("urllib3.connectionpool", "urllib3.util.retry"):
        logger = logging.getLogger(name)
        if not any(isinstance(present, HideQueries) for present in logger.filters):
            logger.addFilter(HideQueries())


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `broken` is set instead of a status when nothing readable did."""

    status: int | None
    raw: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    duration_ms: int
    broken: str | None = None
    ambiguous: bool = False

    @property
    def body(self) -> Any:
        """The parsed JSON, or None."""
        try:
            return orjson.loads(self.raw)
        except orjson.JSONDecodeError:
            return None


class Wire:
    """Calls below one base URL. Safe to share between threads."""

    def __init__(self, base_url: str, *, connect_timeout: float, read_timeout: float) -> None:
        self._base = base_url.rstrip("/")
        self._timeout = (connect_timeout, read_timeout)
        self._local = threading.local()
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._lock = threading.Lock()
        hide_queries()

    def close(self) -> None:
        with self._lock:
            sessions, self._local = list(self._sessions), threading.local()
        for session in sessions:
            session.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        bearer: str | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """One request, never repeated by us, no redirect followed."""
        started = time.monotonic()
        headers = {"Content-Type": "application/json"} if body is not None else {}

        def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
            # As `auth` and not as a header: requests lets a machine's .netrc overwrite a plain header.
            if bearer is not None:
                request.headers["Authorization"] = f"Bearer {bearer}"
            return request

        try:
            response = self._session().request(
                method,
                f"{self._base}/{path}",
                params=dict(params or {}),
                data=body,
                headers=headers,
                auth=sign,
                timeout=self._timeout,
                allow_redirects=False,
            )
            return Answer(response.status_code, response.content, response.headers, _since(started))
        except (requests.RequestException, HTTPError, HTTPException, OSError, ValueError) as error:
            broken, ambiguous = _explain(error)
        return Answer(None, b"", {}, _since(started), broken, ambiguous)

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            for scheme in ("https://", "http://"):
                session.mount(scheme, HTTPAdapter(pool_connections=2, pool_maxsize=2, max_retries=0))
            self._local.session = session
            with self._lock:
                self._sessions.add(session)
        return session


def _explain(error: Exception) -> tuple[str, bool]:
    """Words of our own, and whether Meta may have acted on the request all the same."""
    if isinstance(error, requests.ConnectTimeout):
        return "Meta could not be reached within the time limit: try again", False
    if isinstance(error, requests.Timeout):
        return "No answer within the time limit", True
    if isinstance(error, requests.exceptions.SSLError):
        return "The TLS certificate could not be verified", False
    if isinstance(error, requests.exceptions.ProxyError):
        return "The proxy could not be used", False
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return "The address of the Graph API is not usable", False
    if any(isinstance(getattr(part, "reason", None), NewConnectionError) for part in error.args):
        return "Meta could not be reached: try again", False
    if isinstance(error, ValueError) and not isinstance(error, requests.JSONDecodeError):
        return "The request could not be written", False
    return "The connection broke before the answer was read", True


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
