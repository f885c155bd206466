"""Commands about tokens: look at their health, refresh them, take the expiry report away."""

from __future__ import annotations

from typing import Annotated

import typer

from core import clock
from core.desk import commands, queries
from core.doors import wiring
from core.doors.cli_jobs import wait_for
from core.doors.cli_shell import META_APP, NOT_DONE, AsJson, operator, show, store
from core.errors import BadInput, Refused
from core.services.policy import Policy
from core.services.refresh import Refreshed, TokenRefreshService
from core.store import apps
from core.store.database import reading
from core.store.health import Health


def add_to(root: typer.Typer) -> None:
    root.command("tokens")(tokens)
    root.command("refresh")(refresh)


def tokens(
    health: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(Health)}.")] = None,
    search: Annotated[str | None, typer.Option(help="Part of a name, shop, e-mail, id or fingerprint.")] = None,
    as_json: AsJson = False,
) -> None:
    """The health of every app's token, most urgent first."""
    _check_health(health)
    with store() as (settings, engine), reading(engine) as conn:
        policy = Policy.of(settings)
        wanted = queries.TokenFilters(search, health or ())
        found = queries.token_health(conn, wanted, now=clock.now(), soon=policy.soon, window=policy.window)
    rows: list[dict[str, object]] = [
        {
            "appId": row.public_id,
            "name": row.app_name,
            "shop": row.shop,
            "user": row.email,
            "token": row.fingerprint,
            "health": row.health,
            "expires": row.expires_at,
            "days left": None if row.days_left is None else round(row.days_left, 1),
            "waiting": row.waiting,
            "next step": row.next_step,
        }
        for row in found
    ]
    show(rows, as_json=as_json, empty="no app, no token")


def _check_health(words: list[str] | None) -> None:
    unknown = set(words or ()) - {str(word) for word in Health}
    if unknown:
        raise BadInput(f"--health: {min(unknown)!r} is none of: {', '.join(Health)}")


def refresh(
    app: Annotated[str | None, typer.Option(help="The token of this app (public appId).")] = None,
    user: Annotated[str | None, typer.Option(help="Every token of this merchant (e-mail or id).")] = None,
    due: Annotated[bool, typer.Option("--due", help="Every token that is broken, over or near its end.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Every token in use.")] = False,
    reason: Annotated[str | None, typer.Option(help="Goes into the audit trail.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before refreshing all.")] = False,
    as_json: AsJson = False,
) -> None:
    """Refresh tokens now: one app's or one merchant's here and at once, --due and --all by the worker."""
    if sum((app is not None, user is not None, due, every)) != 1:
        raise BadInput("say what to refresh: exactly one of --app, --user, --due, --all")
    with store(require=META_APP) as (settings, engine):
        if app is not None or user is not None:
            service = wiring.make_service(settings, engine, kind="shell")
            _report(_refresh_now(service, app, user), as_json=as_json)
            return
        if every and not yes and not as_json:
            with reading(engine) as conn:
                count = len(queries.held_fingerprints(conn))
            typer.confirm(f"Refresh {count} token(s)?", abort=True)
        order = {"by": operator(), "reason": reason, "now": clock.now()}
        if due:
            job = commands.order_refresh_due(engine, window=Policy.of(settings).window, **order)  # type: ignore[arg-type]
        else:
            job = commands.order_refresh_all(engine, **order)  # type: ignore[arg-type]
        wait_for(engine, job, what="refreshing tokens", as_json=as_json)


def _refresh_now(service: TokenRefreshService, app: str | None, user: str | None) -> list[Refreshed]:
    by = operator().name
    if user is not None:
        return service.refresh_all_user_tokens(user, trigger="manual", by=by)
    with reading(service.engine) as conn:
        found = apps.find(conn, app or "")
    if found.fingerprint is None:
        raise Refused(f"app {found.public_id} holds no token: `capi-console token set` stores one")
    return [service.refresh(found.fingerprint, trigger="manual", by=by, user_id=found.user_id, app_id=found.id)]


def _report(done: list[Refreshed], *, as_json: bool) -> None:
    rows: list[dict[str, object]] = [
        {
            "token": one.fingerprint,
            "outcome": str(one.outcome),
            "apps updated": one.apps_updated,
            "events released": one.events_released,
            "words": one.words,
        }
        for one in done
    ]
    show(rows, as_json=as_json, empty="this merchant's apps hold no token")
    if not all(one.usable for one in done):
        raise typer.Exit(NOT_DONE)
