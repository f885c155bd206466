"""A token that somebody gives by hand: what must be true of it before it is stored, and what one should know of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from core.errors import Refused, SettingsError
from core.meta.answers import TokenFacts
from core.meta.failures import TOKEN_FAILURES, Failure
from core.meta.graph import Graph, GraphError
from core.secret import Secret
from core.services.findings import is_short_lived, missing_scopes
from core.services.ladder import PASSING
from core.services.policy import Policy
from core.store.apps import App

_NOTHING = "nothing was stored"
_FROM_MERCHANT = "send the merchant the reconnect link, or take a system user's token from Business settings"
_FOREIGN = (
    "another Meta app made this token: its end and permissions cannot be looked up, and it is not refreshed here;"
    " fine for a system user's token without an end"
)


@dataclass(frozen=True, slots=True)
class Checked:
    """A token that may be stored. `facts` None: another Meta app made it, only its pixels could be asked."""

    token: Secret
    facts: TokenFacts | None
    reached: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def verify(
    graph: Graph,
    token: Secret,
    app: App,
    siblings: Sequence[App],
    *,
    user_before: str | None,
    accepted_user: str | None,
    accept_other_user: bool,
    lost: Collection[str],
    policy: Policy,
    now: datetime,
) -> Checked:
    """Ask Meta about a token meant for `app` and for `siblings`, which held the same one before; Refused with what
    to do. A short-lived token of our own app is exchanged first, and the one that comes of it is checked.

    `accepted_user`: the Meta user whom an operator lets take over from `user_before`; `accept_other_user`: any.
    `lost`: pixels that the token before did not reach either; of the siblings' these are no reason to refuse.
    """
    checked = _known(graph, token)
    if checked.facts is not None:
        checked = _long_lived(graph, checked, checked.facts, policy, now)
    if checked.facts is not None:
        if not accept_other_user:
            _check_user(checked.facts, user_before, accepted_user)
        _check_scopes(checked.facts)
    others = [one for one in siblings if one.pixel_id not in lost]
    return _check_pixels(graph, checked, app, others, policy)


def _known(graph: Graph, token: Secret) -> Checked:
    """What /debug_token says; a token that it will not speak of is a foreign one."""
    try:
        facts = graph.debug_token(token)
    except GraphError as error:
        if error.failure is Failure.PERMISSION:
            return Checked(token, None, warnings=(_FOREIGN,))
        raise _cannot_say(error) from None
    except SettingsError as error:
        raise Refused(f"{error}: without it Meta cannot be asked, {_NOTHING}") from None
    if not facts.is_valid:
        words = facts.words or facts.failure
        raise Refused(f"Meta does not take this token ({words}), {_NOTHING}: {_FROM_MERCHANT}")
    return Checked(token, facts)


def _cannot_say(error: GraphError) -> Refused:
    if error.failure is Failure.APP_CONFIG:
        return Refused(
            f"Meta refuses our own app id or secret ({error}), {_NOTHING}:"
            " correct FACEBOOK_APP_ID and FACEBOOK_APP_SECRET; capi-console doctor tells more"
        )
    if error.failure in PASSING:
        return Refused(f"Meta could not be asked now ({error}), {_NOTHING}: try again in a few minutes")
    if error.failure in TOKEN_FAILURES:
        return Refused(f"Meta does not take this token ({error}), {_NOTHING}: {_FROM_MERCHANT}")
    return Refused(f"Meta would not speak of this token ({error}), {_NOTHING}: report the trace id")


def _long_lived(graph: Graph, checked: Checked, facts: TokenFacts, policy: Policy, now: datetime) -> Checked:
    if not is_short_lived(facts.kind, facts.issued_at, facts.expires_at, now) or facts.meta_app_id != policy.app_id:
        return checked
    try:
        exchanged = graph.exchange(checked.token).token
    except GraphError as error:
        raise Refused(
            f"this token ends within hours, and Meta did not exchange it for a long-lived one ({error}),"
            f" {_NOTHING}: {_FROM_MERCHANT}"
        ) from None
    words = "it was short-lived: the long-lived token that Meta gave for it is stored instead"
    return replace(_known(graph, exchanged), warnings=(words,))


def _check_user(facts: TokenFacts, before: str | None, accepted: str | None) -> None:
    if before is None or facts.meta_user_id in (None, before, accepted):
        return
    raise Refused(
        f"this token belongs to Meta user {facts.meta_user_id}, the one before to {before}, {_NOTHING}:"
        " if that is meant (a system user, a new manager), say that another Meta user may take over"
        " (at the shell: --accept-other-user)"
    )


def _check_scopes(facts: TokenFacts) -> None:
    if missing := missing_scopes(" ".join(facts.scopes)):
        raise Refused(
            f"this token lacks the permission {', '.join(missing)}, {_NOTHING}:"
            " make it anew with this permission ticked"
        )


def _check_pixels(graph: Graph, checked: Checked, app: App, siblings: Sequence[App], policy: Policy) -> Checked:
    ours = checked.facts is not None and checked.facts.meta_app_id == policy.app_id
    reached: list[str] = []
    for one in (app, *siblings):
        if one.pixel_id is None or one.pixel_id in reached:
            continue
        try:
            graph.probe_pixel(one.pixel_id, checked.token, ours=ours)
        except GraphError as error:
            raise _unreached(error, one, own=one.id == app.id) from None
        reached.append(one.pixel_id)
    if not reached and checked.facts is None:
        raise Refused(
            f"another Meta app made this token and app {app.public_id} has no pixel, so that nothing can be asked"
            f" about it, {_NOTHING}: put the pixel's id into the app's settings first"
        )
    warnings = checked.warnings
    if app.pixel_id is None:
        warnings += (f"app {app.public_id} has no pixel: its events are skipped until it has",)
    return replace(checked, reached=tuple(reached), warnings=warnings)


def _unreached(error: GraphError, one: App, *, own: bool) -> Refused:
    if error.failure is not Failure.PERMISSION:
        return _cannot_say(error)
    words = f"this token does not reach pixel {one.pixel_id} of app {one.public_id} ({error})"
    if own:
        return Refused(
            f"{words}, {_NOTHING}: compare the pixel's id with Events Manager, and give the token's owner the data set"
            " in Business settings"
        )
    return Refused(
        f"{words}, which holds the same token now, {_NOTHING}: say that it is for this app only"
        " (at the shell: --only-this)"
    )
