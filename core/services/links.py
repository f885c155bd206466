"""Reconnect links and login states: signed, and checked without asking a database.

    link   case id (8) · end in Unix seconds (8) · nonce (16) · HMAC (32)
    state  case id (8) · end (8) · nonce of its link (16) · random (16) · HMAC over these and the browser's cookie (32)

Both are written in URL-safe base64 and read only in the one spelling that we write. The keys are made from
FACEBOOK_APP_SECRET for this purpose alone: a signature made elsewhere with that secret opens nothing here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from core.clock import from_unix
from core.secret import Secret

_LINK_FOR, _STATE_FOR = b"capi-console reconnect link 1", b"capi-console login state 2"
_LINK, _STATE = struct.Struct(">qq16s"), struct.Struct(">qq16s16s")
_TAG_SIZE = 32
_TEXT = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Link:
    """What a link says: the case, the end, and the nonce that the newest link of the case has.

    A login's state says the same of the link that it was begun with, and when the login ends.
    """

    case_id: int
    ends_at: datetime
    nonce: str = field(repr=False)


class Links:
    """Writes and reads links and states with the keys of one app secret."""

    def __init__(self, app_secret: Secret) -> None:
        self._link_key, self._state_key = app_secret.sign(_LINK_FOR), app_secret.sign(_STATE_FOR)

    def write(self, link: Link) -> str:
        said = _LINK.pack(*_parts(link))
        return _text(said + _tag(self._link_key, said))

    def read(self, text: str) -> Link | None:
        """None unless we have written exactly this; whether its end has passed is not looked at."""
        said = _checked(text, _LINK.size, lambda said: _tag(self._link_key, said))
        if said is None:
            return None
        case_id, ends, nonce = _LINK.unpack(said)
        return Link(case_id, from_unix(ends), nonce.hex())

    def new_state(self, login: Link, browser: str) -> str:
        """A state for one login, good only beside this browser's cookie. `login.ends_at`: the login's own end."""
        said = _STATE.pack(*_parts(login), secrets.token_bytes(16))
        return _text(said + _tag(self._state_key, said + browser.encode()))

    def login_of(self, state: str, browser: str) -> Link | None:
        """What was said in a state that was made for this browser; whether its end has passed is not looked at."""
        said = _checked(state, _STATE.size, lambda said: _tag(self._state_key, said + browser.encode()))
        if said is None:
            return None
        case_id, ends, nonce, _ = _STATE.unpack(said)
        return Link(case_id, from_unix(ends), nonce.hex())


def new_nonce() -> str:
    """128 bits, in hex as the table keeps them."""
    return secrets.token_hex(16)


def digest(state: str) -> str:
    """What is kept of a state."""
    return hashlib.sha256(state.encode()).hexdigest()


def _parts(link: Link) -> tuple[int, int, bytes]:
    return link.case_id, int(link.ends_at.timestamp()), bytes.fromhex(link.nonce)


def _tag(key: bytes, said: bytes) -> bytes:
    return hmac.digest(key, said, "sha256")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _checked(text: str, size: int, tag: Callable[[bytes], bytes]) -> bytes | None:
    """The signed bytes of `text`; None for another length, another spelling or another signature."""
    length = math.ceil((size + _TAG_SIZE) * 4 / 3)
    if len(text) != length or not _TEXT.fullmatch(text):
        return None
    raw = base64.urlsafe_b64decode(text + "=" * (-length % 4))
    said, given = raw[:size], raw[size:]
    genuine = hmac.compare_digest(given, tag(said))
    return said if genuine and _text(raw) == text else None
