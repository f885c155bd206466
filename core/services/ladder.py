"""The ladder: what is asked of Meta to mend one token, and what its answers mean. Touches no table.

An expired long-lived token cannot be exchanged, only one that is still valid can
(https://developers.facebook.com/documentation/facebook-login/guides/access-tokens/get-long-lived);
so the exchange is one rung, and success means that the end has moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from core.errors import SettingsError
from core.meta.answers import TokenFacts
from core.meta.failures import Failure
from core.meta.graph import Graph, GraphError
from core.secret import Secret
from core.services.policy import SAME_END, Policy

TOKEN_FAILURES = frozenset({Failure.TOKEN_EXPIRED, Failure.TOKEN_DEAD, Failure.TOKEN_SOFT})
PASSING = frozenset({Failure.TRANSIENT, Failure.RATE_LIMITED})


class Outcome(StrEnum):
    """What a refresh came to."""

    EXTENDED = "extended"
    NEW_TOKEN_SAME_EXPIRY = "new_token_same_expiry"
    NOT_EXTENDED = "not_extended"
    ADOPTED = "adopted"
    RECONNECTED = "reconnected"
    STILL_VALID = "still_valid"
    NEEDS_RECONNECT = "needs_reconnect"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


# After these the stored token can be used.
USABLE = frozenset(
    {
        Outcome.EXTENDED,
        Outcome.NEW_TOKEN_SAME_EXPIRY,
        Outcome.NOT_EXTENDED,
        Outcome.ADOPTED,
        Outcome.RECONNECTED,
        Outcome.STILL_VALID,
    }
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A token before its refresh. `siblings`: newer tokens of the same user's other apps with their end, best first."""

    token: Secret
    expires_at: datetime | None
    broken: Failure | None
    just_mended: bool
    meta_app_id: str | None
    kind: str | None
    siblings: Sequence[tuple[Secret, datetime]] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What the climb came to: `token` is the new one, where there is a new one; `facts` are /debug_token's about
    the token that is to be used from now on."""

    outcome: Outcome
    token: Secret | None = None
    expires_at: datetime | None = None
    facts: TokenFacts | None = None
    failure: Failure | None = None
    words: str = ""
    code: int | None = None
    subcode: int | None = None
    trace_id: str | None = None


def climb(graph: Graph, standing: Standing, policy: Policy, *, now: datetime) -> Result:
    """Asks Meta, rung by rung, until one holds. Every refusal is an outcome; nothing is raised."""
    try:
        return _climb(graph, standing, policy, now)
    except GraphError as error:
        return _refusal(error, standing)
    except SettingsError as error:
        return Result(Outcome.REFUSED, failure=Failure.APP_CONFIG, words=str(error))


def _climb(graph: Graph, standing: Standing, policy: Policy, now: datetime) -> Result:
    if standing.just_mended:
        failure = standing.broken or Failure.TOKEN_EXPIRED
        return Result(Outcome.NEEDS_RECONNECT, failure=failure, words="mended a moment ago and refused again")
    facts = _look(graph, standing.token) if standing.broken else None
    return (
        _adopt(graph, standing, facts)
        or _without_exchange(standing, facts, policy, now)
        or _exchange(graph, standing, facts, now)
    )


def _look(graph: Graph, token: Secret) -> TokenFacts | None:
    """/debug_token, or None where it will not speak of this token (it belongs to another Meta app)."""
    try:
        return graph.debug_token(token)
    except GraphError as error:
        if error.failure in PASSING or error.failure is Failure.APP_CONFIG:
            raise
        return None


def _adopt(graph: Graph, standing: Standing, facts: TokenFacts | None) -> Result | None:
    """A newer token of the same Meta user in a sibling app saves a broken one; a healthy one stays its own."""
    for token, expires_at in standing.siblings if standing.broken else ():
        theirs = _look(graph, token)
        if theirs is None or not theirs.is_valid:
            continue
        if facts is None or facts.meta_user_id is None or facts.meta_user_id == theirs.meta_user_id:
            return Result(Outcome.ADOPTED, token, theirs.expires_at or expires_at, theirs)
    return None


def _without_exchange(standing: Standing, facts: TokenFacts | None, policy: Policy, now: datetime) -> Result | None:
    issuer = facts.meta_app_id if facts else standing.meta_app_id
    if facts is not None and not facts.is_valid:
        dead = facts.failure is not None and facts.failure is not Failure.TOKEN_EXPIRED
        return _lost(facts) if dead or issuer not in (None, policy.app_id) else None
    if issuer not in (None, policy.app_id):
        words = "valid, but made by another Meta app: it cannot be exchanged here"
        return Result(Outcome.STILL_VALID, expires_at=standing.expires_at, facts=facts, words=words)
    if facts is not None and facts.never_expires:  # an exchange would give it an end
        return Result(Outcome.STILL_VALID, facts=facts, words="valid according to Meta, and without an end")
    if facts is None or policy.near_end(standing.expires_at, now) or policy.near_end(facts.expires_at, now):
        return None
    return Result(Outcome.STILL_VALID, expires_at=facts.expires_at, facts=facts, words="valid according to Meta")


def _lost(facts: TokenFacts) -> Result:
    return Result(
        Outcome.NEEDS_RECONNECT, failure=facts.failure, words=facts.words, code=facts.code, subcode=facts.subcode
    )


def _exchange(graph: Graph, standing: Standing, facts: TokenFacts | None, now: datetime) -> Result:
    kind = facts.kind if facts else standing.kind
    answer = graph.exchange(standing.token, system_user=kind == "SYSTEM_USER")
    before = facts.expires_at if facts and facts.expires_at else standing.expires_at
    # `expires_in` may be missing: then /debug_token tells whether there is an end, and when.
    fresh = None if answer.expires_in else _quietly(graph, answer.token)
    after = now + timedelta(seconds=answer.expires_in) if answer.expires_in else fresh.expires_at if fresh else None
    never = fresh is not None and fresh.never_expires
    return replace(_judge(standing.token, answer.token, before, after, never), trace_id=answer.trace_id, facts=fresh)


def _quietly(graph: Graph, token: Secret) -> TokenFacts | None:
    """/debug_token about a token that we have already: a failure here must not lose the token."""
    try:
        return graph.debug_token(token)
    except GraphError:
        return None


def _judge(old: Secret, new: Secret, before: datetime | None, after: datetime | None, never: bool) -> Result:
    """A 200 without a later end is no success; a shorter end is not taken over."""
    moved = never or (after is not None and (before is None or after > before + SAME_END))
    if moved:
        return Result(Outcome.EXTENDED, None if new == old else new, after)
    if new == old or (after is not None and before is not None and after < before - SAME_END):
        return Result(Outcome.NOT_EXTENDED, expires_at=before, words="Meta answered, but the end did not move")
    words = "a new token, but its end did not move" if after else "a new token; Meta did not say when it ends"
    return Result(Outcome.NEW_TOKEN_SAME_EXPIRY, new, after, words=words)


def _refusal(error: GraphError, standing: Standing) -> Result:
    if error.failure in PASSING:
        outcome = Outcome.UNREACHABLE
    elif error.failure in TOKEN_FAILURES or (standing.broken and error.failure is not Failure.APP_CONFIG):
        outcome = Outcome.NEEDS_RECONNECT
    else:
        outcome = Outcome.REFUSED
    return Result(
        outcome,
        failure=error.failure,
        words=error.words or str(error),
        code=error.code,
        subcode=error.subcode,
        trace_id=error.trace_id,
    )
