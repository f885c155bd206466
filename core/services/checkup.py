"""The checkup: what Meta says of each token, asked once a day and whenever there is a reason."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from core.meta.answers import TokenFacts
from core.meta.graph import Graph, GraphError
from core.services import settle
from core.services.ladder import PASSING
from core.services.policy import DAY, Policy
from core.store import apps, cases, tokens
from core.store.apps import App
from core.store.database import reading, writing

log = logging.getLogger("checkup")

CHECKED_EVERY = timedelta(days=1)


def check_tokens(engine: Engine, graph: Graph, policy: Policy, *, now: datetime, limit: int) -> int:
    """Ask /debug_token about the tokens that were not asked about for a day; how many.

    Meta does not tell when a token becomes invalid and advises to look daily
    (https://developers.facebook.com/documentation/facebook-login/security).
    """
    with reading(engine) as conn:
        due = tokens.due_for_check(conn, before=now - CHECKED_EVERY, limit=limit)
    for fingerprint in due:
        try:
            check(engine, graph, policy, fingerprint, now=now)
        except GraphError as error:
            log.warning("a token could not be checked", extra={"token": fingerprint, "failure": str(error.failure)})
            with writing(engine) as conn:
                tokens.checked(conn, fingerprint, now=now)
            if error.failure in PASSING:
                break
    return len(due)


def check(engine: Engine, graph: Graph, policy: Policy, fingerprint: str, *, now: datetime) -> None:
    """What Meta says of one token, written down; a token found dead is broken, one found alive is mended."""
    with reading(engine) as conn:
        holding = apps.holders(conn, fingerprint)
    if not holding or holding[0].token is None:
        with writing(engine) as conn:
            tokens.forget(conn, fingerprint)
            cases.close(conn, fingerprint, now=now)
        return
    facts = graph.debug_token(holding[0].token)
    with writing(engine) as conn:
        known = tokens.get(conn, fingerprint)
        tokens.learn(conn, fingerprint, facts, now=now)
        if not facts.is_valid:
            failure = str(facts.failure or "token_dead")
            tokens.break_(conn, fingerprint, failure=failure, words=facts.words, app_id=None, now=now)
            return
        holding = apps.holders(conn, fingerprint)  # somebody may have stored another token meanwhile
        _plan(conn, policy, fingerprint, holding, facts, now)
        mended = known is not None and known.needs_reconnect
        if mended:
            due = policy.first_refresh(fingerprint, facts.expires_at, now)
            tokens.mend(conn, fingerprint, next_refresh_at=due)
            cases.close(conn, fingerprint, now=now)
    if mended:
        settle.release(engine, [app.id for app in holding], fingerprint, now=now)


def _plan(
    conn: Connection, policy: Policy, fingerprint: str, holding: list[App], facts: TokenFacts, now: datetime
) -> None:
    """Meta's own word on the end decides when a token is refreshed, however late or wrong it was stored."""
    if facts.expires_at is not None and any(app.expires_at is None for app in holding):
        apps.correct_expiry(conn, [app for app in holding if app.expires_at is None], fingerprint, facts.expires_at)
    known = tokens.get(conn, fingerprint)
    stored = min((app.expires_at for app in holding if app.expires_at), default=None)
    due = policy.first_refresh(fingerprint, facts.expires_at or stored, now)
    if known is None or known.broken_since is not None or due is None or facts.never_expires:
        return
    if known.next_refresh_at is None or due < known.next_refresh_at - DAY:
        tokens.plan(conn, fingerprint, due)
