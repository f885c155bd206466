"""The keys that encrypt tokens at rest: where they come from, and which is the newest.

They come from CAPI_ENCRYPTION_KEYS and, for a SQLite database that we made ourselves, from a key file beside it.
A key's id is derived from the key, stays the same everywhere and tells nothing about it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, Engine

from core import logs
from core.errors import SettingsError
from core.secret import Secret
from core.store.database import is_embedded

log = logging.getLogger("keyring")

SETTING: Final = "CAPI_ENCRYPTION_KEYS"
ID_LENGTH: Final = 8
ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")
_KEY = re.compile(r"[A-Za-z0-9_-]{43}")
# AES-GCM takes a nonce of 96 bits (https://csrc.nist.gov/pubs/sp/800/38/d/final); random ones serve 2^32 messages.
_NONCE: Final = 12
_HEAD: Final = (
    "# capi-console encrypts access tokens with these keys, newest first. Without them no stored token can be read:\n"
    "# keep a copy of this file, apart from the copies of the database.\n"
)


class Key:
    """One key. `source` says where it was found."""

    __slots__ = ("_aead", "fingerprint", "id", "source")

    def __init__(self, secret: Secret, source: str) -> None:
        # One secret, two purposes: HMAC with a label of its own for each gives values that say nothing of each other.
        self.id = secret.sign(b"capi-console: key id, version 1").hex()[:ID_LENGTH]
        self._aead = AESGCM(secret.sign(b"capi-console: tokens at rest, version 1"))
        self.fingerprint, self.source = secret.fingerprint, source

    def __repr__(self) -> str:
        return f"Key({self.id})"

    def encrypt(self, plain: bytes, bound_to: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._aead.encrypt(nonce, plain, bound_to)

    def decrypt(self, sealed: bytes, bound_to: bytes) -> bytes | None:
        """None when it was made with another key, for another place, or changed since."""
        try:
            return self._aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], bound_to)
        except (InvalidTag, ValueError):
            return None


class Keyring:
    """The keys of one database, newest first; without any, tokens are stored as they are.

    A key file is read again when it has changed: `keys rotate --new-key` reaches processes that run.
    """

    def __init__(self, given: Sequence[Secret] = (), file: Path | None = None) -> None:
        self.file = file
        self._given = tuple(Key(one, SETTING) for one in given)
        self._filed: tuple[Key, ...] = ()
        self._by_id: dict[str, Key] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._take(())
        self._read_again()

    def __iter__(self) -> Iterator[Key]:
        return iter(self._by_id.values())

    def __bool__(self) -> bool:
        return bool(self._by_id)

    @property
    def newest(self) -> Key | None:
        """The key to encrypt with; None: tokens are stored as they are."""
        self._refresh()
        return next(iter(self), None)

    def find(self, key_id: str) -> Key | None:
        found = self._by_id.get(key_id)
        return self._by_id.get(key_id) if found is None and self._refresh() else found

    @property
    def state(self) -> str:
        """In words, for people."""
        if self._given:
            return f"on, with {SETTING}"
        if self._filed:
            return f"on, with the key file {self.file}"
        return f"off: tokens are stored as they are; {SETTING} switches encryption on"

    @property
    def places(self) -> str:
        """Where keys were looked for."""
        given = f"{SETTING} ({_counted(self._given) if self._given else 'not set'})"
        if self.file is None:
            return given
        return f"{given} and {self.file} ({_counted(self._filed) if self._filed else 'there is no such file'})"

    def _refresh(self) -> bool:
        """Whether the key file has changed and was read; a file that went bad meanwhile takes no key away."""
        try:
            return self._read_again()
        except (SettingsError, OSError) as error:
            log.error("the key file cannot be read again", extra={"error": str(error)})
            return False

    def _read_again(self) -> bool:
        if self.file is None:
            return False
        stamp = _stamp(self.file)
        if stamp is None or stamp == self._stamp:
            return False
        self._take(tuple(Key(one, str(self.file)) for one in read_file(self.file)))
        self._stamp = stamp
        return True

    def _take(self, filed: tuple[Key, ...]) -> None:
        found: dict[str, Key] = {}
        for key in (*self._given, *filed):
            found.setdefault(key.id, key)
        self._filed, self._by_id = filed, found


def _counted(keys: Sequence[Key]) -> str:
    return "1 key" if len(keys) == 1 else f"{len(keys)} keys"


_rings: WeakKeyDictionary[Engine, Keyring] = WeakKeyDictionary()
_NONE: Final = Keyring()


def of(where: Engine | Connection) -> Keyring:
    """The keys of this database; an empty ring where none was set."""
    return _rings.get(where.engine, _NONE)


def put(engine: Engine, ring: Keyring) -> None:
    _rings[engine] = ring


def new_key() -> str:
    """32 random bytes as text, in the clear for its only showing."""
    return secrets.token_urlsafe(32)


def file_of(engine: Engine) -> Path | None:
    """Where the key file of this database is, or would be; None on PostgreSQL."""
    # One database has one key file, by whichever path it is opened.
    return Path(f"{Path(engine.url.database or '').resolve()}.key") if is_embedded(engine) else None


def read_file(path: Path) -> list[Secret]:
    """The keys in a key file; SettingsError when it holds none or something else."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="ascii").splitlines()]
    except PermissionError:
        raise SettingsError(f"the key file {path} may not be read by this user: correct its owner") from None
    except UnicodeDecodeError:
        raise SettingsError(
            f"the key file {path} is not one: put back the one that was made with the database"
        ) from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys or not all(map(_KEY.fullmatch, keys)):
        raise SettingsError(
            f"the key file {path} is damaged (a key is 43 letters and digits on a line of its own): put back a copy"
        )
    found = [Secret(key) for key in keys]
    logs.keep_out(found)
    _warn_of_readers(path)
    return found


def make_file(path: Path) -> None:
    """A key file with a new key, unless there is one: of several processes that start at once one makes it."""
    with _files_of(path):
        path = path.resolve()
        made = _written_beside(path, [new_key()])
        try:
            # A link comes into being whole or not at all, and never in place of another.
            with contextlib.suppress(FileExistsError):
                os.link(made, path)
        finally:
            made.unlink()
        _sync_folder(path)


def add_to_file(path: Path) -> None:
    """Put a new key before the others; owner and mode stay. The caller sees to it that nobody else does so now."""
    with _files_of(path):
        path = path.resolve()  # what a link leads to is replaced, not the link
        lines = path.read_text(encoding="ascii").splitlines()
        made = _written_beside(path, [new_key(), *(line for line in lines if line and not line.startswith("#"))])
        _owned_like(path, made)
        made.replace(path)
        _sync_folder(path)


@contextlib.contextmanager
def _files_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        words = error.strerror or type(error).__name__
        raise SettingsError(
            f"the key file {path} cannot be written ({words}): correct that, or set {SETTING}"
        ) from None


def _written_beside(path: Path, keys: Sequence[str]) -> Path:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(_HEAD + "".join(f"{key}\n" for key in keys))
        file.flush()
        os.fsync(file.fileno())  # a token that is on the disk must find its key there
    return beside


def _owned_like(path: Path, made: Path) -> None:
    if os.name != "posix":
        return
    old = path.stat()
    for owner in (old.st_uid, -1):  # only root may give a file away, but to a group of ours anybody may
        with contextlib.suppress(PermissionError):
            os.chown(made, owner, old.st_gid)
            break
    made.chmod(stat.S_IMODE(old.st_mode))


def _sync_folder(path: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _warn_of_readers(path: Path) -> None:
    if os.name == "posix" and path.stat().st_mode & 0o077:
        log.warning("the key file can be read by other users: chmod 600 helps", extra={"file": str(path)})
