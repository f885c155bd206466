"""The checkup: what Meta says of each token and which pixels it reaches, once a day and at once when it is new."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row

from core.meta.answers import TokenFacts
from core.meta.failures import TOKEN_FAILURES, Failure
from core.meta.graph import Graph, GraphError
from core.secret import Secret
from core.services import incidents, settle
from core.services.findings import is_short_lived
from core.services.outcome import PASSING, USABLE
from core.services.policy import DAY, ON_ERROR_PAUSE, SAME_END, Policy
from core.store import apps, cases, history, reach, tokens
from core.store.apps import App
from core.store.database import chunks, reading, writing

log = logging.getLogger("checkup")

MINUTES_A_DAY = 24 * 60
# The fewest checks begun in a minute, however few tokens there are: so many new ones are looked at within a minute.
FEWEST = 60
# Calls to Meta that one sweep makes at a time.
AT_ONCE = 4
# A token that could not be asked about is asked about again after this.
AGAIN = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Looked:
    """What Meta said of one token: `facts` None when it will not speak of it (another Meta app made it), whether it
    is refused on its pixels too, what became of each pixel, and what ended the look early."""

    facts: TokenFacts | None
    refused: GraphError | None
    pixels: dict[str, GraphError | None]
    stopped: GraphError | None = None

    @property
    def alive(self) -> bool:
        if self.facts is None:
            return self.refused is None and None in self.pixels.values()
        return self.facts.is_valid


def allowance(count: int) -> int:
    """Checks begun in one minute so that `count` tokens are asked about once a day, in half of it."""
    return max(FEWEST, math.ceil(2 * count / MINUTES_A_DAY))


def check_tokens(engine: Engine, graph: Graph, policy: Policy, *, now: datetime, limit: int | None = None) -> int:
    """Ask Meta about the tokens whose time has come, new ones first; how many. Nothing while an incident is open.

    Meta does not tell when a token becomes invalid and advises to look daily
    (https://developers.facebook.com/documentation/facebook-login/security).
    """
    with reading(engine) as conn:
        if incidents.gate(conn, now=now) is not None:
            return 0
        most = allowance(tokens.count(conn)) if limit is None else limit
        due = tokens.due_for_check(conn, now=now, limit=most)
    return _each(due, lambda one: _check_one(engine, graph, policy, one, now))


def _each(due: Sequence[Row[Any]], check: Callable[[Row[Any]], bool]) -> int:
    """The first alone, so that an outage costs one call, then a few at a time, until one says that it is enough."""
    done = 0
    if due:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="checkup") as pool:
            for part in (due[:1], *chunks(due[1:], AT_ONCE)):
                going = list(pool.map(check, part))
                done += len(part)
                if not all(going):
                    break
    return done


def _check_one(engine: Engine, graph: Graph, policy: Policy, due: Row[Any], now: datetime) -> bool:
    """False when what went wrong is no fault of this token: the others would fare no better."""
    fingerprint = due.fingerprint
    with writing(engine) as conn:
        if not tokens.take_check(conn, due, again_at=now + AGAIN):  # another sweep was quicker
            return True
    try:
        check(engine, graph, policy, fingerprint, now=now)
    except GraphError as error:
        log.warning("a token could not be checked", extra={"token": fingerprint, "failure": str(error.failure)})
        with writing(engine) as conn:
            known = tokens.get(conn, fingerprint)
            tokens.check_later(conn, fingerprint, now + AGAIN)
            foreign = known is not None and known.foreign_app
            incidents.report(conn, error, now=now, foreign=foreign)
        return incidents.kind_of(error, foreign=foreign) is None
    return True


def check(engine: Engine, graph: Graph, policy: Policy, fingerprint: str, *, now: datetime) -> None:
    """What Meta says of one token, written down; a token found dead is broken, one found alive is mended.

    GraphError when Meta could not be asked, or not to the end.
    """
    with reading(engine) as conn:
        holding = apps.holders(conn, fingerprint)
        before = tokens.get(conn, fingerprint)
        limited = incidents.gate(conn, now=now, fingerprint=fingerprint) is not None
    token = next((app.token for app in holding if app.token), None)
    if holding and token is None:  # it cannot be opened here: nothing can be asked, and nothing is known against it
        with writing(engine) as conn:
            tokens.check_later(conn, fingerprint, now + AGAIN)
        return
    if token is None:
        with writing(engine) as conn:
            tokens.forget(conn, fingerprint)
            reach.keep_only(conn, fingerprint, ())
            cases.close(conn, fingerprint, now=now)
        return
    # /debug_token is asked with our own token; the pixels with this one, which may be at its limit.
    looked = look(graph, token, () if limited else _pixels(holding), policy)
    with writing(engine) as conn:
        mended = _write(conn, policy, fingerprint, looked, before, now)
    if mended:
        settle.release(engine, [app.id for app in holding], fingerprint, now=now)
    if looked.stopped:
        raise looked.stopped


def look(graph: Graph, token: Secret, pixel_ids: Sequence[str], policy: Policy) -> Looked:
    """Ask Meta about a token and each of these pixels; GraphError when it cannot say anything."""
    try:
        facts = graph.debug_token(token)
    except GraphError as error:
        if error.failure is not Failure.PERMISSION:
            raise
        facts = None
    if facts is not None and not facts.is_valid:
        return Looked(facts, None, {})
    return _probe(graph, token, pixel_ids, facts, ours=facts is not None and facts.meta_app_id == policy.app_id)


def _probe(graph: Graph, token: Secret, pixel_ids: Sequence[str], facts: TokenFacts | None, *, ours: bool) -> Looked:
    found: dict[str, GraphError | None] = {}
    for pixel_id in pixel_ids:
        try:
            graph.probe_pixel(pixel_id, token, ours=ours)
            found[pixel_id] = None
        except GraphError as error:
            if error.failure in PASSING:
                return Looked(facts, None, found, error)
            if error.failure in TOKEN_FAILURES:
                return Looked(facts, error, found)
            if error.failure is Failure.PERMISSION:
                found[pixel_id] = error
    return Looked(facts, None, found)


def _pixels(holding: Sequence[App]) -> list[str]:
    return sorted({app.pixel_id for app in holding if app.pixel_id})


def doubted_until(conn: Connection, fingerprint: str, *, now: datetime) -> datetime | None:
    """Until when Meta's word alone does not mend this token: it called it valid and refused it all the same.

    Each time that this happens within a day doubles the doubt, up to a day.
    """
    proved_wrong = history.mends(conn, fingerprint, USABLE, since=now - DAY)
    if not proved_wrong:
        return None
    until = proved_wrong[0] + min(ON_ERROR_PAUSE * 2 ** len(proved_wrong[:10]), DAY)
    return until if until > now else None


def _write(
    conn: Connection, policy: Policy, fingerprint: str, looked: Looked, before: Row[Any] | None, now: datetime
) -> bool:
    """Whether the token was broken and is not any more. `before`: its row as it stood when Meta was asked.

    An answer says nothing of what happened meanwhile: a token that broke or was mended since stays as it is.
    """
    known = tokens.get(conn, fingerprint)
    unmoved = known is not None and before is not None and known.broken_since == before.broken_since
    if looked.facts is None:
        tokens.learn_foreign(conn, fingerprint, now=now)
    else:
        tokens.learn(conn, fingerprint, looked.facts, now=now)
    if dead := _death(looked):
        if unmoved:
            tokens.break_(conn, fingerprint, failure=dead[0], words=dead[1], app_id=None, now=now)
        settle.match_cases(conn, fingerprint, now=now)
        return False
    holding = apps.holders(conn, fingerprint)  # somebody may have stored another token meanwhile
    if looked.facts is not None:
        _plan(conn, policy, fingerprint, holding, looked.facts, now)
    lost = unmoved and before is not None and before.needs_reconnect
    mended = lost and looked.alive and doubted_until(conn, fingerprint, now=now) is None
    if mended:
        ends = looked.facts.expires_at if looked.facts else None
        tokens.mend(conn, fingerprint, next_refresh_at=policy.first_refresh(fingerprint, ends, now))
        cases.close(conn, fingerprint, now=now)
    reach.keep_only(conn, fingerprint, _pixels(holding))
    for pixel_id, error in looked.pixels.items():
        reach.note(conn, fingerprint, pixel_id, reached=error is None, now=now, error=error)
    return mended


def _death(looked: Looked) -> tuple[str, str] | None:
    """Failure and words when Meta does not take this token any more; of a foreign one only its pixels tell."""
    facts, refused = looked.facts, looked.refused
    if facts is not None:
        return None if facts.is_valid else (str(facts.failure or "token_dead"), facts.words)
    return (str(refused.failure), refused.words or str(refused)) if refused else None


def _plan(
    conn: Connection, policy: Policy, fingerprint: str, holding: list[App], facts: TokenFacts, now: datetime
) -> None:
    """Meta's own word on the end decides when a token is refreshed, however late or wrong it was stored.

    A stored end that is earlier than Meta's stays: it is how the platform asks for a refresh.
    """
    if facts.never_expires:
        _unplan(conn, fingerprint, holding)
        return
    ends = facts.expires_at
    wrong = [app for app in holding if ends and (app.expires_at is None or app.expires_at > ends + SAME_END)]
    if wrong:
        apps.correct_expiry(conn, wrong, fingerprint, ends)
    known = tokens.get(conn, fingerprint)
    due = _due(policy, fingerprint, holding, facts, known, now)
    if known is None or known.broken_since is not None or due is None:
        return
    if known.next_refresh_at is None or due < known.next_refresh_at - DAY:
        tokens.plan(conn, fingerprint, due)


def _unplan(conn: Connection, fingerprint: str, holding: list[App]) -> None:
    """A token without an end is never exchanged, whatever end was stored with it: it would be given one."""
    apps.correct_expiry(conn, [app for app in holding if app.expires_at is not None], fingerprint, None)
    known = tokens.get(conn, fingerprint)
    if known is not None and known.broken_since is None and known.next_refresh_at is not None:
        tokens.plan(conn, fingerprint, None)


def _due(
    policy: Policy, fingerprint: str, holding: list[App], facts: TokenFacts, known: Row | None, now: datetime
) -> datetime | None:
    short = is_short_lived(facts.kind, facts.issued_at, facts.expires_at, now)
    if short and facts.meta_app_id == policy.app_id and known is not None and not known.failures:
        return now  # an hour is all there is to exchange it for a long-lived one
    stored = min((app.expires_at for app in holding if app.expires_at), default=None)
    return policy.first_refresh(fingerprint, facts.expires_at or stored, now)
