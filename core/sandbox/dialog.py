"""Facebook's login dialog, played: a page with Continue and Cancel, a code for the app, and a token for the code.

https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from html import escape
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from core.sandbox.graph import refuse_client
from core.sandbox.refusals import Refusal, invalid
from core.sandbox.state import Grant, State

PATH: Final = "/{version}/dialog/oauth"
CODE_SECONDS: Final = 600
# What Meta calls short-lived: an hour or two.
SHORT_SECONDS: Final = 5_400
_ALWAYS: Final = ("public_profile",)
_USERS_SHOWN: Final = 20
_DENIED: Final = {
    "error": "access_denied",
    "error_code": "200",
    "error_description": "Permissions error",
    "error_reason": "user_denied",
}
_STYLE: Final = """
:root{color-scheme:light dark}
body{font:1rem/1.5 system-ui,sans-serif;max-width:26rem;margin:2rem auto;padding:0 1rem}
fieldset{margin:0 0 1rem;border:1px solid #8888;border-radius:.5rem}label{display:block;padding:.2rem 0}
button{font:inherit;padding:.6rem 1.2rem;margin:0 .5rem 0 0}header{color:#888}
"""


def routes(state: State) -> list[BaseRoute]:
    dialog = Dialog(state)
    return [Route(PATH, dialog.show, methods=["GET"]), Route(PATH, dialog.decide, methods=["POST"])]


class Dialog:
    """The page, and what a person or a preset (`State.login`) decides on it."""

    def __init__(self, state: State) -> None:
        self.state = state

    async def show(self, request: Request) -> Response:
        asked = dict(request.query_params)
        problem = _problem(self.state, asked)
        if problem:
            return HTMLResponse(_page(f"<h1>Sorry</h1><p>{problem}</p>"), 400)
        login = self.state.login
        if login.error or login.at_once:
            user = login.user or next(iter(self.state.users()), "1001")
            return self._back(asked, user, _scopes(asked), "cancel" if login.error else "continue")
        return HTMLResponse(_page(self._form(asked)))

    async def decide(self, request: Request) -> Response:
        form = parse_qsl((await request.body()).decode(), keep_blank_values=True)
        asked, given = dict(request.query_params), dict(form)
        problem = _problem(self.state, asked)
        if problem:
            return HTMLResponse(_page(f"<h1>Sorry</h1><p>{problem}</p>"), 400)
        ticked = tuple(value for name, value in form if name == "scope")
        user = given.get("other", "").strip() or given.get("user") or "1001"
        return self._back(asked, user, ticked, given.get("answer", "cancel"))

    def _back(self, asked: Mapping[str, str], user: str, ticked: tuple[str, ...], answer: str) -> Response:
        """To where the dialog was opened from, with a code or an error."""
        state, login = {"state": asked["state"]} if "state" in asked else {}, self.state.login
        self.state.note_call("dialog", status=302, auth_type=asked.get("auth_type"), scope=asked.get("scope"))
        if answer != "continue":
            denied = _DENIED if login.error in (None, "access_denied") else {"error": login.error}
            return _to(asked["redirect_uri"], denied | state)
        code = secrets.token_urlsafe(96)
        scopes = (*(login.scopes if login.scopes is not None else ticked), *_ALWAYS)
        ends = self.state.now() + CODE_SECONDS
        self.state.grant(code, Grant(asked["redirect_uri"], login.user or user, scopes, login.pixels, ends))
        # Facebook ends the address so, since 2011 (https://developers.facebook.com/blog/post/552/).
        return _to(asked["redirect_uri"], {"code": code} | state, "#_=_")

    def _form(self, asked: Mapping[str, str]) -> str:
        users = ([self.state.login.user] if self.state.login.user else []) + self.state.users()
        users = list(dict.fromkeys(users))[:_USERS_SHOWN] or ["1001"]
        who = "".join(
            f'<label><input type="radio" name="user" value="{escape(user)}"{" checked" if user == users[0] else ""}>'
            f" {escape(self.state.called(user))}</label>"
            for user in users
        )
        what = "".join(
            f'<label><input type="checkbox" name="scope" value="{escape(scope)}" checked> {escape(scope)}</label>'
            for scope in _scopes(asked)
        )
        return f"""<header>The sandbox plays Facebook</header>
<h1>Continue as {escape(self.state.called(users[0]))}?</h1>
<form method="post" action="?{escape(urlencode(asked))}">
<fieldset><legend>Log in as</legend>{who}<label>another user <input name="other" inputmode="numeric"></label></fieldset>
<fieldset><legend>The app may</legend>{what}</fieldset>
<button name="answer" value="continue">Continue</button><button name="answer" value="cancel">Cancel</button>
</form>"""


def redeem(state: State, given: Mapping[str, str]) -> dict[str, Any] | Refusal:
    """A short-lived token for a code: once, in time, and for the redirect_uri that the dialog was opened with."""
    refusal = refuse_client(state, given)
    if refusal:
        return refusal
    grant = state.grants.get(given.get("code", ""))
    if grant is None:
        return invalid("Invalid verification code format.")
    if grant.used:
        return invalid("This authorization code has been used.", 36009)
    if grant.ends_at <= state.now():
        return invalid("This authorization code has expired.", 36007)
    if given.get("redirect_uri") != grant.redirect_uri:
        words = (
            "Error validating verification code. Please make sure your redirect_uri is identical to the one you used"
        )
        return invalid(f"{words} in the OAuth dialog request", 36008)
    grant.used = True
    token = state.add_token(
        meta_user_id=grant.meta_user_id,
        expires_at=state.now() + SHORT_SECONDS,
        long_lived=False,
        scopes=grant.scopes,
        pixels=grant.pixels,
    )
    return {"access_token": token.value, "token_type": "bearer", "expires_in": SHORT_SECONDS}


def _problem(state: State, asked: Mapping[str, str]) -> str | None:
    if asked.get("client_id") != state.app_id:
        return "Invalid App ID: the provided app ID does not look like a valid app ID."
    where = urlsplit(asked.get("redirect_uri", ""))
    if where.scheme not in ("http", "https") or not where.netloc:
        return "The redirect_uri URL is not valid."
    return None if asked.get("response_type", "code") == "code" else "Only response_type=code is played here."


def _scopes(asked: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(scope for scope in asked.get("scope", "").replace(" ", ",").split(",") if scope)


def _to(redirect_uri: str, answer: Mapping[str, str], ending: str = "") -> Response:
    joint = "&" if urlsplit(redirect_uri).query else "?"
    return RedirectResponse(f"{redirect_uri}{joint}{urlencode(answer)}{ending}", 302)


def _page(body: str) -> str:
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Facebook (sandbox)</title><style>{_STYLE}</style><main>{body}</main></html>"
    )
