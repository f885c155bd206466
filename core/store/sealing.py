"""The column that stores tokens, and how they are encrypted in it.

The text is `capi1.<key id>.<base64url of nonce and ciphertext>`. The ciphertext is bound to its row: copied to
another app's it does not open. Text without the prefix is a token as the platform writes it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator

from core.secret import Secret
from core.store import keyring
from core.store.keyring import ID_LENGTH, Key, Keyring

PREFIX: Final = "capi1."
# Stands for the key id of texts whose key was given up; any key may prove to be theirs after all.
ABANDONED: Final = "-" * ID_LENGTH
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
    DAMAGED = "damaged"  # changed, cut, or copied from another row


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
    """The token that stands in this app's row."""
    text = stored.text.reveal()
    if not text.startswith(PREFIX):
        return Opened(stored.text)
    key_id, _, body = text.removeprefix(PREFIX).partition(".")
    keys = list(ring) if key_id == ABANDONED else [key for key in (ring.find(key_id),) if key]
    sealed = _decoded(body)
    if sealed is None or len(text) < SHORTEST:
        return Opened(None, key_id, Unreadable.DAMAGED)
    if not keys:
        return Opened(None, key_id, Unreadable.LOCKED if keyring.ID.fullmatch(key_id) else Unreadable.DAMAGED)
    token = _tried(keys, sealed, _PLACE + app_id.encode())
    return Opened(token, key_id, None if token else Unreadable.DAMAGED)


def abandoned(stored: Stored, key_ids: Collection[str]) -> Stored | None:
    """The same text without its key's id, so that nobody waits for that key; None when no key of these made it."""
    text = stored.text.reveal()
    key_id, _, body = text.removeprefix(PREFIX).partition(".")
    mine = text.startswith(PREFIX) and key_id in key_ids
    return Stored(Secret(f"{PREFIX}{ABANDONED}.{body}")) if mine else None


def _tried(keys: list[Key], sealed: bytes, bound_to: bytes) -> Secret | None:
    found = (key.decrypt(sealed, bound_to) for key in keys)
    plain = next((one for one in found if one), None)
    return Secret(plain.decode()) if plain else None


def _decoded(body: str) -> bytes | None:
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
