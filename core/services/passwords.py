"""Passwords of operators: scrypt, slow on purpose, and never in the clear.

    scrypt$15$8$3$<salt>$<hash>      log2 of N, r, p; salt and hash in base64

The numbers are OWASP's for 32 MiB (https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html);
they stand in each hash, so that others can be chosen later. What scrypt is given is an HMAC made with the password for
this purpose alone: the password itself stays inside its `Secret`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import threading
from typing import Final

from core.errors import BadInput
from core.secret import Secret

SHORTEST, LONGEST = 12, 1_000
COST: Final = (15, 8, 3)
# What is stored for an operator who has none: it never fits, and takes as long to find out as any other.
NONE: Final = ""
_FOR: Final = b"capi-console operator's password 1"
# 32 MiB each: a flood of tries waits in line.
AT_ONCE: Final = 2
_TURNS = threading.BoundedSemaphore(AT_ONCE)


def checked(text: str, *, name: str) -> Secret:
    """A password that may be taken; BadInput says what is wrong with it, without repeating it."""
    if len(text) < SHORTEST:
        raise BadInput(f"the password is too short: take {SHORTEST} characters or more")
    if len(text) > LONGEST:
        raise BadInput(f"the password is too long: take {LONGEST} characters at most")
    if text.strip().lower() == name or len(set(text)) < 4:
        raise BadInput("the password is too easy to guess: take several words, or let a password manager make one")
    return Secret(text)


def seal(password: Secret) -> str:
    """What is stored."""
    salt = os.urandom(16)
    made = _scrypt(password, salt, COST)
    return "$".join(["scrypt", *map(str, COST), _text(salt), _text(made)])


def fits(password: Secret | None, sealed: str | None) -> bool:
    """Whether it is the password; takes as long when there is none to compare with."""
    _, *cost, salt, made = (sealed or _nobodys()).split("$")
    cost_now = (int(cost[0]), int(cost[1]), int(cost[2]))
    found = _scrypt(password or Secret("-"), base64.b64decode(salt), cost_now)
    same = hmac.compare_digest(found, base64.b64decode(made))
    return same and bool(sealed) and password is not None


def _nobodys() -> str:
    return "$".join(["scrypt", *map(str, COST), _text(b"0" * 16), _text(b"0" * 32)])


def _scrypt(password: Secret, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    n, r, p = cost
    with _TURNS:
        room = 128 * r * (2**n + p + 2) + 1024 * 1024
        return hashlib.scrypt(password.sign(_FOR), salt=salt, n=2**n, r=r, p=p, maxmem=room, dklen=32)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
