"""Reconnect: the merchant follows a link, logs in at Facebook, and the token that comes of it takes over.

Looking at a link changes nothing; the button begins a login, which may come back once, to the same browser, within
a quarter of an hour. A token is stored only after `Verification`; what is not taken is written into the case and the
link stays usable. https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlencode

from sqlalchemy import Row

from core import failpoints
from core.errors import Conflict, SettingsError
from core.hosts import is_loopback
from core.logs import redact
from core.secret import Secret
from core.services import links, settle
from core.services.links import Link, Links
from core.services.refresh import TokenRefreshService
from core.services.verification import NotTaken, Verification, Verified, Word
from core.settings import Settings
from core.store import apps, cases, reach
from core.store.apps import App
from core.store.database import reading, writing

log = logging.getLogger("reconnect")

LINK_DAYS = timedelta(days=7)
LOGIN_TIME = timedelta(minutes=15)
CALLBACK = "/auth/facebook/callback"
_CODE = re.compile(r"[\x21-\x7e]{1,4096}")
_WORDS = 300


class NoLink(Exception):
    """The link cannot be used: forged, over, replaced, or its case is gone. No reason is told apart."""


class NoLogin(Exception):
    """What came back belongs to no login of this browser, or to one that is used up or took too long."""

    def __init__(self, link: str | None = None) -> None:
        self.link = link
        super().__init__()


@dataclass(frozen=True, slots=True)
class View:
    """What a link's page shows. `done`: connected again, by whatever way. `shops` may be empty then."""

    case_id: int
    shops: tuple[str, ...]
    failure: str
    ends_at: datetime
    done: bool = False
    refused: str | None = None
    refused_words: str | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """Where the browser goes, and what its cookie must hold when it comes back. `name` tells logins of one browser
    apart."""

    name: str
    dialog: str = field(repr=False)
    browser: str = field(repr=False)


def base_url(settings: Settings) -> str | None:
    """Where merchants reach the endpoint; None when nobody has said so and it is not this machine only."""
    if settings.public_url:
        return settings.public_url
    return settings.endpoint_url if is_loopback(settings.endpoint_host) else None


def login_name(state: str) -> str:
    """What a login's cookie is told apart by."""
    return links.digest(state)[:12]


class Reconnect:
    """The steps of one reconnect, each of them safe to be repeated. Safe to share between threads."""

    def __init__(self, service: TokenRefreshService, settings: Settings) -> None:
        settings.require("facebook_app_id", "facebook_app_secret")
        base = base_url(settings)
        if base is None:
            raise SettingsError("CAPI_PUBLIC_URL is not set: put there where shops reach the endpoint")
        assert settings.facebook_app_secret is not None
        self.service, self.settings = service, settings
        self.engine, self.clock = service.engine, service.clock
        self.links = Links(settings.facebook_app_secret)
        self.redirect_uri = base + CALLBACK
        self.verification = Verification(service, settings.reconnect_scopes)

    def look(self, text: str) -> View:
        """What this link is about; NoLink. Changes nothing."""
        link = self._link(text)
        case, holding = self._case(link)
        return View(
            case_id=case.id,
            shops=tuple(dict.fromkeys(app.name for app in holding)),
            failure=case.failure,
            ends_at=link.ends_at,
            done=case.done_at is not None or not holding,
            refused=case.refused,
            refused_words=case.refused_words,
        )

    def begin(self, text: str) -> Login | None:
        """Begin a login; None when there is nothing left to connect, NoLink."""
        link = self._link(text)
        case, holding = self._case(link)
        if case.done_at is not None:
            return None
        if not holding:
            self._close(case)
            return None
        now = self.clock()
        browser = secrets.token_urlsafe(32)
        ends = min(now + LOGIN_TIME, link.ends_at)
        state = self.links.new_state(Link(case.id, ends, link.nonce), browser)
        try:
            with writing(self.engine) as conn:
                cases.begin(conn, case.id, nonce=link.nonce, login_hash=links.digest(state), ends_at=ends, now=now)
        except Conflict:
            raise NoLink() from None
        log.info("a reconnect login was begun", extra={"case": case.id})
        again = case.refused == Word.MISSING_SCOPE
        return Login(login_name(state), self._dialog(state, again=again), browser)

    def finish(self, answer: Mapping[str, str], browser: str) -> str:
        """Take what the dialog sent the browser back with; the link whose page tells what came of it. NoLogin."""
        state = answer.get("state", "")
        login = self.links.login_of(state, browser)
        if login is None or login.ends_at <= self.clock():
            raise NoLogin()
        case = self._taken(login.case_id, state)
        if case is None:
            return self._back_to(login)
        try:
            self._connect(case, answer)
        except NotTaken as no:
            log.warning("a reconnect was not taken", extra={"case": case.id, "why": str(no.word)})
            words = redact(plain(no.words))[:_WORDS] or None
            with writing(self.engine) as conn:
                cases.refuse(conn, case.id, word=no.word, words=words, user=no.user, now=self.clock())
        return self.links.write(Link(case.id, case.link_ends_at, case.nonce))

    def _link(self, text: str) -> Link:
        link = self.links.read(text)
        if link is None or link.ends_at <= self.clock():
            raise NoLink()
        return link

    def _case(self, link: Link) -> tuple[Row, list[App]]:
        with reading(self.engine) as conn:
            case = cases.get(conn, link.case_id)
            if case is None or not hmac.compare_digest(case.nonce or "", link.nonce):
                raise NoLink()
            holding = [app for app in apps.holders(conn, case.fingerprint) if app.user_id == case.user_id]
            return case, holding or (apps.of_user(conn, case.user_id) if case.done_at else [])

    def _dialog(self, state: str, *, again: bool) -> str:
        asked = {
            "client_id": str(self.settings.facebook_app_id),
            "redirect_uri": self.redirect_uri,
            "state": state,
            "scope": ",".join(self.settings.reconnect_scopes),
            "response_type": "code",
        }
        # Without it the dialog does not offer what was declined before.
        asked |= {"auth_type": "rerequest"} if again else {}
        version = self.settings.graph_version
        return f"{self.settings.dialog_url.rstrip('/')}/{version}/dialog/oauth?{urlencode(asked)}"

    def _taken(self, case_id: int, state: str) -> Row | None:
        """The case whose login this is; it is used up from here on, whatever comes of it."""
        with writing(self.engine) as conn:
            mine = cases.take_login(conn, case_id, login_hash=links.digest(state), now=self.clock())
            return cases.get(conn, case_id) if mine else None

    def _back_to(self, login: Link) -> str:
        """The link of a case that is done, for a browser that comes back twice; else NoLogin, with the way back.

        A login leads back to the link that it was begun with, never to one that took its place.
        """
        with reading(self.engine) as conn:
            case = cases.get(conn, login.case_id)
        if case is None or not hmac.compare_digest(case.nonce or "", login.nonce):
            raise NoLogin()
        if case.link_ends_at <= self.clock():
            raise NoLogin()
        link = self.links.write(Link(case.id, case.link_ends_at, case.nonce))
        if case.done_at is None:
            raise NoLogin(link)
        return link

    def _connect(self, case: Row, answer: Mapping[str, str]) -> None:
        code = _code_of(answer)
        verified = self.verification.of(case, code, self.redirect_uri)
        if verified is None:
            self._close(case)
            return
        failpoints.hit("reconnect.before_store")
        self._store(case, verified)

    def _store(self, case: Row, verified: Verified) -> None:
        now = self.clock()
        with writing(self.engine) as conn:
            for pixel_id, error in verified.reached.items():
                reach.note(conn, verified.token.fingerprint, pixel_id, reached=error is None, now=now, error=error)
        try:
            done = self.service.take_over(
                case.fingerprint,
                verified.token,
                verified.facts,
                trigger="reconnect",
                by="merchant",
                user_id=case.user_id,
            )
        except Conflict as busy:
            raise NotTaken(Word.BUSY, str(busy)) from None
        if not done.usable:
            raise NotTaken(Word.BUSY, done.words)
        self._close(case)
        fields = {"case": case.id, "token": done.fingerprint, "apps": done.apps_updated, "events": done.events_released}
        log.info("a merchant has connected again", extra=fields)

    def _close(self, case: Row) -> None:
        """Nothing of this user holds the old token any more; other users keep their own cases."""
        with writing(self.engine) as conn:
            settle.match_cases(conn, case.fingerprint, now=self.clock())


def plain(words: str) -> str:
    """What others wrote, on one line and without letters that nobody sees: they steer terminals, hide other letters
    or turn their order round, and PostgreSQL does not store all of them."""
    return "".join(letter for letter in " ".join(words.split()) if letter.isprintable())


def _code_of(answer: Mapping[str, str]) -> Secret:
    """The code, or why there is none (https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow)."""
    if "error" in answer or "error_code" in answer:
        cancelled = answer.get("error") == "access_denied"
        said = answer.get("error_description") or answer.get("error_message") or answer.get("error") or ""
        raise NotTaken(Word.CANCELLED if cancelled else Word.DIALOG_ERROR, said)
    code = answer.get("code", "")
    if not _CODE.fullmatch(code):
        raise NotTaken(Word.NO_CODE)
    return Secret(code)
