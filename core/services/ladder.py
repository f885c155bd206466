"""The ladder: what is asked of Meta to mend one token, and what its answers mean. Touches no table.

An expired long-lived token cannot be exchanged, only one that is still valid can
(https://developers.facebook.com/documentation/facebook-login/guides/access-tokens/get-long-lived);
so the exchange is one rung, and success means that the end has moved. Each rung answers, or lets the next one try:
a token that was mended a moment ago, one of another Meta app, a sibling's newer token, what /debug_token says, and
last the exchange, whose token is looked at before it may replace one that works. Four calls at most, and one for each
pixel that a sibling's token is to serve.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from core import failpoints
from core.errors import SettingsError
from core.meta.answers import TokenFacts
from core.meta.failures import Failure
from core.meta.graph import Graph, GraphError
from core.secret import Secret
from core.services.outcome import PASSING, TOKEN_FAILURES, USABLE, Outcome, Result, Standing
from core.services.policy import SAME_END, SOFT_A_DAY, Policy

__all__ = ["PASSING", "TOKEN_FAILURES", "USABLE", "Outcome", "Result", "Standing", "climb"]


def climb(graph: Graph, standing: Standing, policy: Policy, *, now: datetime) -> Result:
    """Asks Meta, rung by rung, until one holds. Every refusal is an outcome; nothing is raised."""
    try:
        found = _climb(graph, standing, policy, now)
    except GraphError as error:
        return _refusal(error, standing)
    except SettingsError as error:
        return Result(Outcome.REFUSED, failure=Failure.APP_CONFIG, words=str(error))
    works = standing.past_end and found.outcome in USABLE and found.token is None
    if works and (found.expires_at is None or found.expires_at <= now):  # so the end that has passed is a wrong one
        return replace(found, expires_at=None, forget_end=True)
    return found


def _climb(graph: Graph, standing: Standing, policy: Policy, now: datetime) -> Result:
    if standing.just_mended:
        return _again(standing)
    if standing.foreign:
        return _of_another_app(graph, standing)
    try:
        # The kind decides how a token is exchanged: it is asked for once.
        facts = _look(graph, standing.token) if standing.broken or standing.kind is None else None
    except GraphError as error:
        if error.failure is not Failure.PERMISSION:
            raise
        return _of_another_app(graph, standing)
    return (
        _adopt(graph, standing, facts, policy)
        or _without_exchange(standing, facts, policy, now)
        or _exchange(graph, standing, facts, policy, now)
    )


def _again(standing: Standing) -> Result:
    """Refused again moments after it was mended: only its owner can help; but a mismatched session may pass."""
    failure = standing.broken or Failure.TOKEN_EXPIRED
    if failure is Failure.TOKEN_SOFT and standing.soft_tries < SOFT_A_DAY:
        return Result(Outcome.REFUSED, failure=failure, words="valid according to Meta, and refused again: waits")
    return Result(Outcome.NEEDS_RECONNECT, failure=failure, words="mended a moment ago and refused again")


def _of_another_app(graph: Graph, standing: Standing) -> Result:
    """Meta tells us nothing of it and exchanges nothing; a look at its pixel shows whether it works.

    Tokens made in Events Manager are such: another app made them, and most never end.
    """
    words = "made by another Meta app: it cannot be exchanged here"
    if standing.broken is None:
        return Result(Outcome.STILL_VALID, expires_at=standing.expires_at, words=f"valid, but {words}")
    lost = Result(Outcome.NEEDS_RECONNECT, failure=standing.broken, words=words)
    if not standing.pixels or (standing.broken is Failure.TOKEN_DEAD and not standing.past_end):
        return lost
    try:
        graph.probe_pixel(standing.pixels[0], standing.token)
    except GraphError as error:
        if error.failure in PASSING or error.failure in TOKEN_FAILURES:
            return replace(_refusal(error, standing), foreign=True)
    return Result(Outcome.STILL_VALID, words=f"it works, and is {words}")


def _look(graph: Graph, token: Secret) -> TokenFacts | None:
    """/debug_token, or None where its answer says nothing. GraphError PERMISSION: it belongs to another Meta app."""
    try:
        return graph.debug_token(token)
    except GraphError as error:
        if error.failure in (Failure.UNKNOWN, Failure.INVALID_EVENT):
            return None
        raise


def _adopt(graph: Graph, standing: Standing, facts: TokenFacts | None, policy: Policy) -> Result | None:
    """A newer token of the same Meta user in a sibling app saves a lost one, where it reaches the same pixels.

    A token that works stays its own: each may be made for other pixels.
    """
    if standing.broken is None or (facts is not None and facts.is_valid):
        return None
    for token, expires_at in standing.siblings:
        try:
            theirs = _look(graph, token)
        except GraphError as error:
            if error.failure in PASSING or error.failure is Failure.APP_CONFIG:
                raise
            continue
        if theirs is None or not theirs.is_valid:
            continue
        owner = (facts.meta_user_id if facts else None) or standing.meta_user_id
        ours = theirs.meta_app_id == policy.app_id
        if owner in (None, theirs.meta_user_id) and _reaches(graph, token, standing.pixels, ours=ours):
            return Result(Outcome.ADOPTED, token, theirs.expires_at or expires_at, theirs)
    return None


def _reaches(graph: Graph, token: Secret, pixels: tuple[str, ...], *, ours: bool) -> bool:
    try:
        for pixel_id in pixels:
            graph.probe_pixel(pixel_id, token, ours=ours)
    except GraphError as error:
        if error.failure in PASSING or error.failure is Failure.APP_CONFIG:
            raise
        return False
    return True


def _without_exchange(standing: Standing, facts: TokenFacts | None, policy: Policy, now: datetime) -> Result | None:
    issuer = facts.meta_app_id if facts else standing.meta_app_id
    if facts is not None and not facts.is_valid:
        return _is_over(standing, facts, issuer in (None, policy.app_id))
    if issuer not in (None, policy.app_id):
        words = "valid, but made by another Meta app: it cannot be exchanged here"
        return Result(Outcome.STILL_VALID, expires_at=standing.expires_at, facts=facts, words=words)
    if facts.never_expires if facts else standing.never_expires:  # an exchange would give it an end
        return _without_end(standing, facts)
    ends = facts.expires_at if facts else None
    # A healthy token is here because its time has come, or because a person wants a new one.
    wanted = not standing.broken or facts is None
    near = wanted or policy.near_end(standing.expires_at, now) or policy.near_end(ends, now)
    if near and standing.may_exchange:
        return None
    if facts is None:
        words = "exchanged often enough today, and the end did not move"
        outcome = Outcome.REFUSED if standing.broken else Outcome.STILL_VALID
        return Result(outcome, expires_at=standing.expires_at, words=words)
    why = ", and exchanged often enough today" if near else ""
    return Result(Outcome.STILL_VALID, expires_at=ends, facts=facts, words=f"valid according to Meta{why}")


def _without_end(standing: Standing, facts: TokenFacts | None) -> Result:
    if facts is None and standing.broken:
        return Result(Outcome.UNREACHABLE, words="without an end, and Meta does not say now whether it is valid")
    return Result(Outcome.STILL_VALID, facts=facts, words="valid, and without an end", forget_end=True)


def _is_over(standing: Standing, facts: TokenFacts, ours: bool) -> Result | None:
    """Meta calls it invalid. One that has merely ended is tried once: nothing is lost by it. A dead one is not."""
    if facts.failure is Failure.TOKEN_SOFT:
        return _again(replace(standing, broken=Failure.TOKEN_SOFT))
    dead = facts.failure not in (None, Failure.TOKEN_EXPIRED) or standing.broken is Failure.TOKEN_DEAD
    if not dead and ours:
        return None
    said = {"code": facts.code, "subcode": facts.subcode, "words": facts.words}
    return Result(Outcome.NEEDS_RECONNECT, failure=facts.failure or standing.broken, **said)  # type: ignore[arg-type]


def _exchange(graph: Graph, standing: Standing, facts: TokenFacts | None, policy: Policy, now: datetime) -> Result:
    kind = facts.kind if facts else standing.kind
    failpoints.hit("refresh.before_exchange")
    try:
        answer = graph.exchange(standing.token, system_user=kind == "SYSTEM_USER")
    except GraphError as error:
        if facts is None or not facts.is_valid or error.failure in (Failure.TOKEN_EXPIRED, Failure.TOKEN_DEAD):
            raise
        return _works_all_the_same(error, standing, facts)
    failpoints.hit("refresh.after_exchange")
    # Meta's own word on the new token; `expires_in` may be missing, and counts from our clock.
    fresh = _quietly(graph, answer.token)
    before = facts.expires_at if facts and facts.expires_at else standing.expires_at
    after = now + timedelta(seconds=answer.expires_in) if answer.expires_in else None
    after = fresh.expires_at if fresh and fresh.expires_at else after
    never = fresh is not None and fresh.never_expires
    unfit = fresh and answer.token != standing.token and _unfit(standing, facts, fresh, policy)
    if unfit:
        found = _not_taken(standing, facts, before, unfit)
    else:
        found = _judge(standing.token, answer.token, before, after, never)
        taken = found.token is not None or answer.token == standing.token
        found = replace(found, facts=fresh if taken else facts)
    return replace(found, trace_id=answer.trace_id)


def _works_all_the_same(error: GraphError, standing: Standing, facts: TokenFacts) -> Result:
    """The exchange was refused, or Meta went away: the token itself is valid, and what waits for it may go."""
    refused = _refusal(error, replace(standing, broken=None))
    words = f"valid according to Meta; the exchange came to nothing: {refused.words}"
    outcome = Outcome.STILL_VALID if standing.broken else refused.outcome
    return replace(refused, outcome=outcome, expires_at=facts.expires_at, facts=facts, words=words)


def _quietly(graph: Graph, token: Secret) -> TokenFacts | None:
    """/debug_token about a token that we have already: a failure here must not lose the token."""
    try:
        return graph.debug_token(token)
    except GraphError:
        return None


def _unfit(standing: Standing, facts: TokenFacts | None, fresh: TokenFacts, policy: Policy) -> str:
    """Why the new token may not replace the one before, in words; empty when it may."""
    owner = (facts.meta_user_id if facts else None) or standing.meta_user_id
    missing = set(facts.scopes if facts else standing.scopes) - set(fresh.scopes)
    if not fresh.is_valid:
        return f"Meta gave a token that it calls invalid: {fresh.words}"
    if policy.app_id is not None and fresh.meta_app_id not in (None, policy.app_id):
        return "Meta gave a token of another Meta app"
    if owner is not None and fresh.meta_user_id not in (None, owner):
        return "Meta gave a token of another Meta user"
    works = facts.is_valid if facts else standing.broken is None
    return f"Meta gave a token with fewer permissions: {', '.join(sorted(missing))}" if missing and works else ""


def _not_taken(standing: Standing, facts: TokenFacts | None, before: datetime | None, words: str) -> Result:
    works = facts.is_valid if facts else standing.broken is None
    outcome = Outcome.NOT_EXTENDED if works else Outcome.NEEDS_RECONNECT
    failure = None if works else standing.broken
    return Result(outcome, expires_at=before, facts=facts, failure=failure, words=f"{words}; the one before stays")


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
    elif error.failure in (Failure.APP_CONFIG, Failure.TOKEN_SOFT):
        outcome = Outcome.REFUSED
    else:
        gone = error.failure in TOKEN_FAILURES or standing.broken
        outcome = Outcome.NEEDS_RECONNECT if gone else Outcome.REFUSED
    return Result(
        outcome,
        failure=error.failure,
        words=error.words or str(error),
        code=error.code,
        subcode=error.subcode,
        trace_id=error.trace_id,
        retry_after=error.retry_after,
    )
