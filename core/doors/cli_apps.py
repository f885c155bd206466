"""Commands about apps: add and list them, store their tokens, hand out API keys."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from core import clock
from core.desk import commands
from core.doors import cli_inbound, cli_token, wiring
from core.doors.cli_shell import META_APP, AsJson, complain, load, operator, say, show, show_json, store
from core.errors import BadInput
from core.secret import Secret
from core.store import api_keys, apps
from core.store.apps import App
from core.store.database import reading

_LONGEST_TOKEN = 4096

apps_group = typer.Typer(no_args_is_help=True, help="The apps whose events are sent.")
token_group = typer.Typer(no_args_is_help=True, help="The access token of an app.")
keys_group = typer.Typer(no_args_is_help=True, help="Keys for POST /api/refresh.")


def add_to(root: typer.Typer) -> None:
    apps_group.command("set")(cli_inbound.set_app)
    apps_group.command("show")(cli_inbound.show_app)
    root.add_typer(apps_group, name="app")
    token_group.command("show")(cli_token.show_token)
    root.add_typer(token_group, name="token")
    root.add_typer(keys_group, name="api-key")


@apps_group.command("add")
def add_app(
    name: Annotated[str, typer.Option(help="What people call it.")],
    user_email: Annotated[str, typer.Option(help="The merchant; made when new.")],
    shop: Annotated[str | None, typer.Option(help="Its domain, such as tea.myshopify.com.")] = None,
    pixel: Annotated[str | None, typer.Option(help="Id of Meta's dataset.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add an app, and its merchant when new; prints the public appId that storefronts send."""
    with store() as (_, engine):
        added = commands.add_app(
            engine,
            name=name,
            email=user_email,
            shop_domain=shop,
            pixel_id=pixel,
            by=operator(),
            now=clock.now(),
        )
    if as_json:
        show_json(_about(added))
    else:
        say(added.public_id)


@apps_group.command("list")
def list_apps(as_json: AsJson = False) -> None:
    """All apps."""
    with store() as (_, engine), reading(engine) as conn:
        rows = [_about(one) for one in apps.every(conn)]
    show(rows, as_json=as_json, empty="there is no app yet: `capi-console app add` makes one")


def _about(one: App) -> dict[str, object]:
    return {
        "appId": one.public_id,
        "name": one.name,
        "user": one.email,
        "shop": one.shop_domain,
        "pixel": one.pixel_id,
        "token": one.fingerprint,
        "expires": one.expires_at,
    }


@token_group.command("set")
def set_token(
    app: Annotated[str, typer.Option(help="The app's public appId.")],
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Ask Meta about the token first.")] = True,
    only_this: Annotated[
        bool, typer.Option("--only-this", help="Not for the merchant's other apps that hold the same token.")
    ] = False,
    accept_other_user: Annotated[
        bool,
        typer.Option("--accept-other-user", help="Another Meta user's token may take the place of the one before."),
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Goes into the audit trail.")] = None,
    as_json: AsJson = False,
) -> None:
    """Store the token that comes in on standard input, for an app and those that hold the same one now."""
    if verify:
        load(require=META_APP)
    token = _from_input()
    with store() as (settings, engine):
        given = commands.set_token(
            wiring.make_service(settings, engine, kind="shell"),
            app,
            token,
            by=operator(),
            now=clock.now(),
            check=verify,
            only_this=only_this,
            accept_other_user=accept_other_user,
            reason=reason,
        )
    _say_given(given, as_json=as_json)


def _say_given(given: commands.Given, *, as_json: bool) -> None:
    stored = given.app
    if as_json:
        updated = {"apps updated": given.apps_updated, "events released": given.events_released}
        show_json(_about(stored) | updated | {"warnings": list(given.warnings)})
        return
    known = f"ends {stored.expires_at:%Y-%m-%d %H:%M} UTC" if stored.expires_at else "no end known"
    ends = "never ends" if given.never_expires else known
    say(f"token {stored.fingerprint} stored for app {stored.public_id} ({ends})")
    if given.apps_updated > 1:
        say(f"{given.apps_updated - 1} other app(s) of this merchant held the same token and hold the new one now")
    if given.events_released:
        say(f"{given.events_released} waiting event(s) go out now")
    for warning in given.warnings:
        complain(warning)


def _from_input() -> Secret:
    """The token; at a terminal it is asked for without being shown."""
    typed = typer.prompt("Token", hide_input=True) if sys.stdin.isatty() else sys.stdin.read(_LONGEST_TOKEN + 1)
    text = str(typed).strip()
    if not text:
        raise BadInput("no token came in on standard input")
    if len(text) > _LONGEST_TOKEN or any(not "\x21" <= letter <= "\x7e" for letter in text):
        raise BadInput("what came in on standard input is not a token: one line of letters and digits is expected")
    return Secret(text)


@keys_group.command("add")
def add_key(
    title: Annotated[str, typer.Option(help="Who will use it.")],
    scope: Annotated[str, typer.Option(help=f"What it is good for: {', '.join(api_keys.SCOPES)}.")] = api_keys.SCOPES[
        0
    ],
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown this once."""
    with store() as (_, engine):
        key = commands.add_api_key(engine, title=title, scope=scope, by=operator(), now=clock.now())
    if as_json:
        show_json({"title": title, "scope": scope, "key": key})
    else:
        say(key)


@keys_group.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """All keys, by title; the keys themselves are not stored."""
    with store() as (_, engine), reading(engine) as conn:
        rows = [
            {"title": row.title, "scope": row.scope, "created_at": row.created_at, "revoked_at": row.revoked_at}
            for row in api_keys.every(conn)
        ]
    show(rows, as_json=as_json, empty="there is no API key yet: `capi-console api-key add` makes one")


@keys_group.command("revoke")
def revoke_key(title: Annotated[str, typer.Argument(help="Title of the key.")]) -> None:
    """End a key at once."""
    with store() as (_, engine):
        commands.revoke_api_key(engine, title, by=operator(), now=clock.now())
    say(f"the key {title} is revoked")
