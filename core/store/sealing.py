"""The column that stores tokens, and how they are encrypted in it.

The text is `capi1.<key id>.<base64url of nonce and ciphertext>`. The ciphertext is bound to its row: copied to
another app's it does not open. Text without the prefix is a token as the platform writes it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator

from core.secret import Secret
from core.store import keyring
from core.store.keyring import ID_LENGTH, Keyring

PREFIX: Final = "capi1."
# A nonce, a tag and one letter between them, in base64.
SHORTEST: Final = len(PREFIX) + ID_LENGTH + 1 + 39
_PLACE: Final = b"AppSettings.metaAccessToken\x00"


@dataclass(frozen=True, slots=True)
class Stored:
    """What stands in an app's token column: plain, encrypted or nonsense. It prints as its fingerprint."""

    text: Secret


class Unreadable(StrEnum):
    """Why a stored token cannot be opened."""

    LOCKED = "locked"  # its key is not at hand; another process may have it
    DAMAGED = "damaged"  # changed, cut, copied from another row, or its key is nobody's


@dataclass(frozen=True, slots=True)
class Opened:
    """A stored token, or why there is none to be had. `key_id` is None where it stands in the clear."""

    token: Secret | None
    key_id: str | None = None
    why: Unreadable | None = None


class TokenText(TypeDecorator[Stored]):
    """The text in the platform's table. What is bound as a `Secret` is stored as it is."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Stored | Secret | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        if value is None:
            return None
        return (value.text if isinstance(value, Stored) else value).reveal()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Stored | None:  # noqa: ARG002
        return Stored(Secret(value)) if value and value.strip() else None


def seal(token: Secret, app_id: str, ring: Keyring) -> Stored:
    """A token ready to be stored in this app's row: encrypted with the newest key, or as it is without one."""
    key = ring.newest
    if key is None:
        return Stored(token)
    sealed = key.encrypt(token.reveal().encode(), _PLACE + app_id.encode())
    return Stored(Secret(f"{PREFIX}{key.id}.{base64.urlsafe_b64encode(sealed).rstrip(b'=').decode()}"))


def unseal(stored: Stored, app_id: str, ring: Keyring) -> Opened:
    """The token that stands in this app's row. LOCKED by any key of another id: `key_ids` knows whether it is one."""
    text = stored.text.reveal()
    if not text.startswith(PREFIX):
        return Opened(stored.text)
    key_id, _, body = text.removeprefix(PREFIX).partition(".")
    sealed = _decoded(body)
    if sealed is None or len(text) < SHORTEST:
        return Opened(None, key_id, Unreadable.DAMAGED)
    key = ring.find(key_id)
    if key is None:
        return Opened(None, key_id, Unreadable.LOCKED if keyring.ID.fullmatch(key_id) else Unreadable.DAMAGED)
    plain = key.decrypt(sealed, _PLACE + app_id.encode())
    return Opened(Secret(plain.decode()), key_id) if plain else Opened(None, key_id, Unreadable.DAMAGED)


def _decoded(body: str) -> bytes | None:
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
