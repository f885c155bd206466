"""Channels: the addresses that alerts go to, sent by Apprise (https://appriseit.com/services/).

Apprise is loaded when there is an address, and not before: it brings some 25 MB. An address is a secret as a whole:
it is called by its fingerprint in the database and by its title on screen. What libraries log while a message is
sent goes nowhere; why it failed is told in words of our own (`core.services.mishaps`).
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from core import logs
from core.secret import Secret
from core.services import mishaps
from core.services.outgoing import ALLOW, private_address, public_only
from core.settings import Settings

# A worker that is told to stop waits for a message under way this long at most.
_SECONDS = 15.0
# What is no secret in an address: whom it names, and where it leads.
_PLAIN = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
# Letters and digits in one, which no word of the language is, and no number of ours.
_RANDOM = re.compile(r"(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{8,}")

# What a message under way came to; `None` when none is.
_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)


@dataclass(frozen=True, slots=True)
class Channel:
    """One address: `name` for the database, `title` for people; `problem` says why nothing can be sent there."""

    name: str
    title: str
    problem: str | None
    service: Any = field(default=None, repr=False)
    allow_private: bool = False

    def check(self) -> str | None:
        """Why nothing can be sent there, as far as it shows without sending; None when nothing speaks against it."""
        if self.problem:
            return self.problem
        host = _host(self.service)
        found = private_address(host) if host and not self.allow_private else None
        return _private(found) if found else None

    def send(self, subject: str, body: str, *, good: bool) -> str | None:
        """Send one message (plain text); None when it was taken, else why not, without a secret in it."""
        if error := self.check():
            return error
        with public_only(allow_private=self.allow_private) as refused:
            why = _send(self.service, subject, body, good)
        return _private(refused[0]) if refused and why else why


def open_channels(settings: Settings) -> list[Channel]:
    """The channels of CAPI_ALERT_URLS, in their order; one that cannot be used says so in its `problem`."""
    if not settings.alert_urls:
        return []
    taken: dict[str, int] = {}
    found = []
    for address in dict.fromkeys(settings.alert_urls):
        channel = replace(_open(address), allow_private=settings.allow_private_urls)
        serial = taken[channel.title] = taken.get(channel.title, 0) + 1
        found.append(channel if serial == 1 else replace(channel, title=f"{channel.title} ({serial})"))
    return found


def _open(address: Secret) -> Channel:
    apprise = _apprise()
    url = address.reveal()
    scheme = url.partition("://")[0] if "://" in url else "?"
    # Redirects could lead anywhere: an address must name its goal itself.
    asset = apprise.AppriseAsset(
        app_id="capi-console", app_desc="capi-console", app_url="", http_redirects=False, service_timeout=_SECONDS
    )
    try:
        service = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=False)
    except Exception:  # Apprise's words may quote the address
        service = None
    host = _host(service)
    logs.keep_out(_secret_parts(url, whole_host=host is None))
    if service is None:
        known = scheme in apprise.manager_plugins.NotificationManager().schemas()
        problem = "lacks something or is malformed" if known else f"begins with {scheme!r}, which Apprise does not know"
        return Channel(address.fingerprint, scheme, f"the address {problem}: see https://appriseit.com/services/")
    kind = str(service.service_name) if scheme in ("http", "https") else scheme
    return Channel(address.fingerprint, f"{kind} {host}" if host else kind, _set_up(apprise, service, url), service)


def _set_up(apprise: Any, service: Any, url: str) -> str | None:
    service.redirects = False
    service.optional = False  # else a failure would look like success
    if not service.verify_certificate:
        return "verify=no is not served: use a certificate that can be verified"
    if hasattr(service, "smtp_host") and "format=" not in url:
        service.notify_format = apprise.NotifyFormat.TEXT
    if "overflow=" not in url:
        service.overflow_mode = apprise.OverflowMode.TRUNCATE
    return None


def _apprise() -> Any:
    import apprise

    ours = logging.getLogger("apprise")
    if ours.propagate:
        ours.propagate = False
        ours.addHandler(_Ear())
        ours.setLevel(logging.DEBUG)  # so that a failure's cause can be had; it goes nowhere else
    return apprise


class _Ear(logging.Handler):
    """Hears what Apprise complains of, and keeps what it comes to: an exception it is about to swallow, a status."""

    def emit(self, record: logging.LogRecord) -> None:
        heard = _heard.get()
        if heard is None:
            return
        error = sys.exc_info()[1]
        words = mishaps.status_in(record.getMessage()) or (mishaps.explain(error) if error else None)
        if words:
            heard.append(words)


def _host(service: Any) -> str | None:
    """The host an address names itself; None for services that have their own (there, Apprise calls a token `host`)."""
    if service is None:
        return None
    smtp = getattr(service, "smtp_host", None)
    named = any("{host" in str(template) for template in service.templates)
    return str(smtp or service.host) if smtp or (named and service.host) else None


def _send(service: Any, subject: str, body: str, good: bool) -> str | None:
    apprise = _apprise()
    sender = apprise.Apprise(asset=service.asset)
    sender.add(service)
    kind = apprise.NotifyType.SUCCESS if good else apprise.NotifyType.WARNING
    heard: list[str] = []
    mark = _heard.set(heard)
    try:
        with logs.hushed():
            result = sender.notify(body=body, title=subject, notify_type=kind, body_format=apprise.NotifyFormat.TEXT)
    except Exception as error:
        return mishaps.explain(error)
    finally:
        _heard.reset(mark)
    if result:
        return None
    ending = mishaps.NO_ANSWER if result.status.name == "TIMEOUT" else f"not taken ({result.status.name.lower()})"
    return "; ".join(dict.fromkeys(heard)) or ending


def _private(address: str) -> str:
    return f"it leads to {address}, which is a private address: {ALLOW}"


def _secret_parts(url: str, *, whole_host: bool) -> Iterator[Secret]:
    """The pieces of an address that are surely secrets, for the case that a line of another program holds one.

    `whole_host`: what stands where a host should is a token, as with Slack. Words of the language are no secrets here,
    whatever they open: to strike them would make every other line unreadable.
    """
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    name, _, password = login.partition(":")
    maybe = [parts.path.strip("/"), *(value for _, value in parse_qsl(parts.query)), name, host if whole_host else ""]
    pieces = [password, *(piece for piece in maybe if not _PLAIN.fullmatch(unquote(piece)))]
    forms = dict.fromkeys(form for piece in pieces for form in (piece, unquote(piece)))
    return (Secret(form) for form in forms if _RANDOM.search(form))
