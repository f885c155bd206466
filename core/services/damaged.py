"""Stored tokens that cannot be opened: nothing is sent with them, nothing overwrites them, and their owners are asked.

What is only locked (its key is not at hand here) is left alone: another process may have the key.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine

from core.meta.failures import Failure
from core.store import apps, cases, tokens
from core.store.database import writing
from core.store.sealing import Unreadable
from core.store.token_column import Held

log = logging.getLogger("damaged")

WORDS: Final = {
    Unreadable.DAMAGED: "The stored token cannot be opened: it was changed, copied there, or its key is lost",
    Unreadable.LOCKED: "The stored token is encrypted with a key that this process does not have",
    None: "No token is stored",
}


def give_up(
    engine: Engine,
    stored: Iterable[tuple[str, str, Held | None, datetime | None, str | None]],
    *,
    now: datetime,
) -> int:
    """Open a reconnect case for each damaged one among these (`apps.stored_tokens`); how many are new."""
    new = locked = 0
    for app_id, user_id, held, _, seen in stored:
        if held is None or held.unreadable is None:
            continue
        if held.unreadable is Unreadable.LOCKED:
            locked += 1
            continue
        with writing(engine) as conn:
            new += _open_case(conn, app_id, user_id, held.fingerprint, seen, now)
    if locked:
        log.error("stored tokens are encrypted with a key that is not here", extra={"tokens": locked})
    return new


def _open_case(conn: Connection, app_id: str, user_id: str, fingerprint: str, seen: str | None, now: datetime) -> bool:
    known = tokens.get(conn, fingerprint)
    if known is not None and known.needs_reconnect and cases.open_of(conn, fingerprint, user_id) is not None:
        return False
    failure, words = str(Failure.TOKEN_DEAD), WORDS[Unreadable.DAMAGED]
    tokens.see(conn, fingerprint, user_id=user_id, now=now, next_refresh_at=None)
    # Meta cannot be asked whose it was: the app's last token that could be opened tells.
    before = tokens.get(conn, seen) if seen else None
    if before is not None and before.meta_user_id:
        tokens.name_user(conn, fingerprint, before.meta_user_id)
    tokens.give_up_on(conn, fingerprint, failure=failure, words=words, now=now)
    cases.open_(conn, fingerprint, user_id=user_id, failure=failure, words=words, now=now)
    apps.mirror(conn, app_id, fingerprint)
    log.error("a stored token cannot be opened", extra={"app": app_id, "token": fingerprint})
    return True
