"""Taking note of a token that somebody else stored: it is looked after from now on, and the one before no longer is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from core.services import settle
from core.services.policy import Policy
from core.store import apps, tokens
from core.store.apps import App


def notice(conn: Connection, changed: Sequence[App], policy: Policy, *, now: datetime) -> None:
    """Mirror what each of these apps holds; a token that no app holds any more is retired, and cases follow."""
    for gone in sorted({app.seen for app in changed if app.seen and app.seen != app.fingerprint}):
        settle.match_cases(conn, gone, now=now)
    for app in changed:
        if app.fingerprint is not None:
            due = policy.first_refresh(app.fingerprint, app.expires_at, now)
            tokens.see(conn, app.fingerprint, user_id=app.user_id, now=now, next_refresh_at=due)
            settle.open_cases(conn, app.fingerprint, [app.user_id], now=now)  # its other users may have lost it
    for app in changed:
        apps.mirror(conn, app.id, app.fingerprint)
