"""What went wrong on the way to another service, in words of our own.

Libraries quote the address they called in their exceptions and log lines, and an address can be a secret as a whole.
So none of their words is passed on: only what kind of failure it was, and numbers.
"""

from __future__ import annotations

import os
import re
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from http import HTTPStatus

import requests

NO_ANSWER = "no answer within the time limit"

# What OpenSSL found wrong with a certificate, by its number
# (https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/).
_CERTIFICATES = {
    10: "it has expired",
    18: "it is signed by itself",
    19: "nobody known signed it",
    20: "nobody known signed it",
    62: "it is for another host",
    64: "it is for another host",
}
_STATUS = re.compile(r"\berror=([1-5]\d\d)\b")


def answered(status: int) -> str:
    """`it answered 503 (Service Unavailable)`."""
    if 200 <= status < 300:
        return f"it answered {status} and did not take the message"
    known = next((one.phrase for one in HTTPStatus if one == status), None)
    return f"it answered {status}" + (f" ({known})" if known else "")


def status_in(words: str) -> str | None:
    """What Apprise logs of an answer it did not like (`… error=503.`), without its words."""
    found = _STATUS.search(words)
    return answered(int(found[1])) if found else None


def explain(error: BaseException) -> str:
    """What this exception, or one behind it, says of the failure; the name of its type when we have no words for it."""
    chain = list(_behind(error))
    for kind, words in _WORDS:
        for one in chain:
            if isinstance(one, kind) and (said := words(one)):
                return said
    return type(error).__name__


def _behind(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that it came from: requests and urllib3 wrap one three times, each in its own way."""
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        near = (*one.args, getattr(one, "reason", None), one.__cause__, one.__context__)
        left += [part for part in near if isinstance(part, BaseException)]


def _certificate(error: BaseException) -> str:
    why = _CERTIFICATES.get(getattr(error, "verify_code", 0))
    return "the TLS certificate could not be verified" + (f": {why}" if why else "")


def _smtp(error: BaseException) -> str | None:
    code = getattr(error, "smtp_code", None)
    return f"the mail server answered {code}" if isinstance(code, int) and code > 0 else None


def _recipients(error: BaseException) -> str:
    codes = {said[0] for said in getattr(error, "recipients", {}).values()}
    numbers = ", ".join(str(code) for code in sorted(codes) if isinstance(code, int))
    return f"the mail server refused the recipients ({numbers})"


def _system(error: BaseException) -> str | None:
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else None


def _always(words: str) -> Callable[[BaseException], str | None]:
    return lambda _: words


# The first that fits tells; within a family of exceptions, the narrower before the wider.
_WORDS: tuple[tuple[type[BaseException], Callable[[BaseException], str | None]], ...] = (
    (ssl.SSLCertVerificationError, _certificate),
    (ssl.SSLError, _always("TLS could not be set up")),
    (requests.exceptions.SSLError, _always("TLS could not be set up")),
    (smtplib.SMTPAuthenticationError, lambda error: f"{_smtp(error) or 'the mail server'}: login refused"),
    (smtplib.SMTPRecipientsRefused, _recipients),
    (smtplib.SMTPServerDisconnected, _always("the mail server hung up")),
    (smtplib.SMTPNotSupportedError, _always("the mail server does not offer what the address asks for")),
    (smtplib.SMTPResponseException, _smtp),
    (requests.exceptions.ProxyError, _always("the proxy could not be used")),
    (socket.gaierror, _always("the host's name could not be resolved")),
    (TimeoutError, _always(NO_ANSWER)),
    (requests.Timeout, _always(NO_ANSWER)),
    (OSError, _system),
    (requests.ConnectionError, _always("the connection broke")),
)
