"""Signing in at the console with an account kept elsewhere, on real HTTP: who comes in, and every way not to."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
import requests
from sqlalchemy import Engine, select
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from core.desk import audit_trail, people
from core.desk.explain_sign_in import SIGN_INS
from core.doors import console_oidc
from core.doors.console_answers import COOKIE
from core.doors.console_gate import Gate
from core.doors.console_oidc import BEGIN, CALLBACK
from core.doors.console_server import Guard
from core.doors.console_sign_in import SignIn
from core.errors import BadInput, Refused, SettingsError
from core.secret import Secret
from core.services import oidc, sign_in
from core.services.oidc_login import LOGIN_TIME, Logins
from core.services.sign_in import IDLE, LOCAL, WrongPassword
from core.settings import Settings, load
from core.store import lockouts
from core.store.database import reading
from core.store.schema import capi_operator, capi_session
from tests.doors.oidc_provider import ACCESS, CLIENT, CLIENT_SECRET, CODE, OpenId, a_key, a_provider
from tests.inbound.serving import serving
from tests.processes import ROOT, environment, eventually, free_port, running

PASSWORD = "correct horse battery"
ANA = "ana@example.com"
# What a browser says of a request that another site's redirect leads to.
FROM_THERE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}


async def _inside(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("inside")(scope, receive, send)


@dataclass
class Browser:
    """One browser: it keeps cookies, and follows a redirect only when told to."""

    url: str
    session: requests.Session = field(default_factory=requests.Session)

    def get(self, address: str, **headers: str) -> requests.Response:
        address = address if address.startswith("http") else self.url + address
        return self.session.get(address, headers=headers, allow_redirects=False, timeout=20)

    def begin(self, to: str = "/") -> str:
        """The provider's page to which the console leads."""
        sent = self.get(f"{BEGIN}?next={to}")
        assert sent.status_code == 303, sent.text
        return sent.headers["location"]

    def back(self, to: str = "/") -> str:
        """Signed in there: the address to which the provider leads back."""
        return self.get(self.begin(to)).headers["location"]

    def sign_in(self, to: str = "/") -> requests.Response:
        return self.get(self.back(to), **FROM_THERE)

    @property
    def is_in(self) -> bool:
        return self.get("/tokens").text == "inside"


@dataclass
class Site:
    """A console with a provider beside it, and the clock of both."""

    url: str
    engine: Engine
    provider: OpenId
    settings: Settings
    at: list[datetime]

    def browser(self) -> Browser:
        browser = Browser(self.url)
        browser.session.trust_env = False
        return browser

    def audited(self) -> list[tuple[str, str, str | None]]:
        with reading(self.engine) as conn:
            return [(row.by, row.action, row.reason) for row in audit_trail.audit_trail(conn)]


@pytest.fixture
def site(sqlite_engine: Engine, now: datetime, quick_passwords: None) -> Iterator[Site]:
    """Ada is admin with a password; Ana is support and has none."""
    engine, at, port = sqlite_engine, [now], free_port()
    people.add_operator(engine, "ada", role="admin", password=PASSWORD, by=LOCAL, now=now)
    people.add_operator(engine, ANA, role="support", password=None, by=LOCAL, now=now)
    with a_provider(lambda: at[0]) as provider:
        settings = load(_settings(provider, CAPI_CONSOLE_PORT=str(port)) | {"DATABASE_URL": _url(engine)})
        gate = Gate(lambda: settings, now=lambda: at[0])
        with serving(Guard(SignIn(_inside, gate), lambda: settings), port=port) as url:
            yield Site(url, engine, provider, settings, at)


def _url(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def _settings(provider: OpenId, **more: str) -> dict[str, str]:
    own = {"ISSUER": provider.url, "CLIENT_ID": CLIENT, "CLIENT_SECRET": CLIENT_SECRET, "NAME": "Example & Co"}
    return {f"CAPI_OIDC_{name}": value for name, value in own.items()} | more


def _refused(answer: requests.Response, word: str, status: int) -> None:
    """A plain page that says what happened; nobody is in."""
    assert answer.status_code == status, answer.text
    text = re.sub(r"</?code>", "`", answer.text).replace("&#x27;", "'")
    assert SIGN_INS[word].what in text
    assert SIGN_INS[word].do in text
    assert COOKIE not in answer.cookies
    assert "<script" not in text
    assert answer.headers["cache-control"] == "no-store"


def test_from_the_button_to_the_page_that_was_asked_for_and_out(site: Site) -> None:
    browser = site.browser()
    shown = browser.get("/login?next=/tokens%3Fq%3Da%2526b")
    button = re.search(r'<a class="other" href="([^"]+)">Sign in with Example &amp; Co</a>', shown.text)
    assert button is not None
    assert 'type="password"' in shown.text
    away = browser.get(button[1].replace("&amp;", "&"))
    asked = {name: values[0] for name, values in parse_qs(urlsplit(away.headers["location"]).query).items()}
    assert away.headers["location"].startswith(f"{site.provider.url}/authorize?")
    assert (asked["redirect_uri"], asked["client_id"]) == (site.url + CALLBACK, CLIENT)
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert set(asked["scope"].split()) == {"openid", "email"}
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    came = browser.get(browser.get(away.headers["location"]).headers["location"], **FROM_THERE)
    assert (came.status_code, came.headers["location"]) == (303, "/tokens?q=a%26b")
    assert "HttpOnly; Path=/; SameSite=lax" in came.headers["set-cookie"]
    assert browser.is_in
    assert browser.get("/login").headers["location"] == "/"
    assert browser.get(f"{BEGIN}?next=/jobs").headers["location"] == "/jobs"
    assert site.audited()[0] == (ANA, "sign_in", "with Example & Co")
    assert browser.session.post(f"{site.url}/logout", headers={"Origin": site.url}, allow_redirects=False).ok
    assert not browser.is_in


def test_the_session_is_as_short_as_any_other_and_ends_with_the_operator(site: Site) -> None:
    browser, other = site.browser(), site.browser()
    browser.sign_in()
    other.sign_in()
    site.at[0] += IDLE
    assert not browser.is_in
    browser.sign_in()
    assert browser.is_in
    people.disable_operator(site.engine, ANA, by=LOCAL, now=site.at[0])
    assert not browser.is_in


def test_the_cookie_of_the_way_there_is_short_and_is_taken_back(site: Site) -> None:
    browser = site.browser()
    cookie = browser.get(BEGIN).headers["set-cookie"]
    assert cookie.startswith("capi_oidc=")
    for needed in ("HttpOnly", "SameSite=lax", f"Max-Age={int(LOGIN_TIME.total_seconds())}", f"Path={BEGIN}"):
        assert needed in cookie
    browser.sign_in()
    assert [one.name for one in browser.session.cookies] == [COOKIE]


def test_behind_tls_the_way_back_is_the_public_one_and_the_cookie_is_this_hosts_alone(
    sqlite_engine: Engine, now: datetime
) -> None:
    people.add_operator(sqlite_engine, "ada", role="admin", password=PASSWORD, by=LOCAL, now=now)
    public, host = "https://console.example.com", {"Host": "console.example.com"}
    with a_provider(lambda: now) as provider:
        settings = load(_settings(provider, CAPI_CONSOLE_URL=public, DATABASE_URL=_url(sqlite_engine)))
        with serving(Guard(SignIn(_inside, Gate(lambda: settings)), lambda: settings)) as url:
            browser = Browser(url)
            assert f'href="{public}{BEGIN}?next=/"' in browser.get("/login").text
            away = browser.get(BEGIN, **host)
            assert parse_qs(urlsplit(away.headers["location"]).query)["redirect_uri"] == [public + CALLBACK]
            cookie = away.headers["set-cookie"]
            assert cookie.startswith("__Host-capi_oidc=")
            assert "; Secure" in cookie
            assert "Path=/;" in cookie
            assert browser.get(BEGIN, Host="evil.example").status_code == 421


@pytest.mark.parametrize(
    ("to", "leads"),
    [
        ("/tokens%3Fq%3D1%23part", "/tokens?q=1#part"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/%5Cevil.example/", "/"),
        (f"{CALLBACK}?code=x", "/"),
        (BEGIN, "/"),
        ("/" + "x" * 1_900, "/"),
    ],
)
def test_it_leads_nowhere_but_here(site: Site, to: str, leads: str) -> None:
    assert site.browser().sign_in(to).headers["location"] == leads


# State: bound to the browser, good once and for ten minutes.


def test_a_way_back_without_its_beginning_is_refused(site: Site) -> None:
    stranger, victim = site.browser(), site.browser()
    back = stranger.back()
    _refused(victim.get(back), "not_begun_here", 400)
    victim.begin()
    _refused(victim.get(back), "not_begun_here", 400)
    _refused(site.browser().get(CALLBACK), "not_begun_here", 400)
    assert not victim.is_in
    assert not stranger.is_in
    assert "/token" not in site.provider.asked


def _raw(cookie: str) -> bytes:
    return base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4))


@pytest.mark.parametrize("forge", ["nothing", "odd", "unsigned", "other key", "state"])
def test_a_forged_beginning_is_refused(site: Site, forge: str) -> None:
    browser = site.browser()
    back = browser.back()
    cookie = next(iter(browser.session.cookies))
    assert cookie.value is not None
    raw = _raw(cookie.value)
    other = Logins(Secret("another secret"))
    forged = {
        "nothing": "",
        "odd": "é§",
        "unsigned": base64.urlsafe_b64encode(bytes(32) + raw[32:]).decode().rstrip("="),
        "other key": other.write(other.new("/", now=site.at[0])),
        "state": cookie.value,
    }[forge]
    headers = {"Cookie": f"{cookie.name}={forged}".encode()}
    back = back.replace("state=", "state=x") if forge == "state" else back
    with requests.Session() as session:
        answer = session.get(back, headers=headers, allow_redirects=False, timeout=10)  # type: ignore[arg-type]
    _refused(answer, "not_begun_here", 400)
    assert "/token" not in site.provider.asked


def test_a_way_back_is_good_once(site: Site) -> None:
    browser, copy = site.browser(), site.browser()
    back = browser.back()
    copy.session.cookies.update(browser.session.cookies)
    assert browser.get(back).status_code == 303
    _refused(copy.get(back), "not_begun_here", 400)
    assert browser.get(back).headers["location"] == "/"
    assert site.provider.asked.count("/token") == 1


def test_a_late_way_back_does_not_end_the_sign_in_of_another_tab(site: Site) -> None:
    browser = site.browser()
    first, second = browser.back(), browser.back()
    _refused(browser.get(first), "not_begun_here", 400)
    assert browser.get(second).headers["location"] == "/"
    assert browser.is_in


def test_a_way_back_ends_after_ten_minutes(site: Site) -> None:
    browser, quick = site.browser(), site.browser()
    back, in_time = browser.back(), quick.back()
    site.at[0] += LOGIN_TIME - timedelta(seconds=1)
    assert quick.get(in_time).status_code == 303
    site.at[0] += timedelta(seconds=1)
    _refused(browser.get(back), "not_begun_here", 400)


# What the provider says.

Change = Callable[[OpenId], None]


def _claims(**claims: Any) -> Change:
    return lambda provider: provider.claims.update(claims)


def _sets(**values: Any) -> Change:
    return lambda provider: provider.__dict__.update(values)


def _breaks(path: str, answer: Response) -> Change:
    return lambda provider: provider.broken.update({path: answer})


NEVER = {
    "nonce of another": (_claims(nonce="x" * 43), "not_proven"),
    "no nonce": (_claims(nonce=None), "not_proven"),
    "issuer of another": (_claims(iss="https://evil.example"), "not_proven"),
    "no issuer": (_claims(iss=None), "not_proven"),
    "audience of another": (_claims(aud="other", azp=CLIENT), "not_proven"),
    "audience beside another's, for the other": (_claims(aud=[CLIENT, "other"], azp="other"), "not_proven"),
    "no audience": (_claims(aud=None), "not_proven"),
    "expired": (_claims(exp=1_700_000_000), "not_proven"),
    "no end": (_claims(exp=None), "not_proven"),
    "from the future": (_claims(iat=1_900_000_000, exp=1_900_000_300), "not_proven"),
    "hash of another access token": (_claims(at_hash="x" * 22), "not_proven"),
    "signed by nobody": (_sets(alg="none"), "not_proven"),
    "signed with the public key": (_sets(alg="HS256"), "not_proven"),
    "signed by another key": (_sets(shown=a_key("one", 2)), "not_proven"),
    "signed by a key that is not shown": (_sets(shown=a_key("two")), "not_proven"),
    "e-mail not verified": (_claims(email_verified=False), "no_address"),
    "verified with another word": (_claims(email_verified="yes"), "no_address"),
    "verified with a number": (_claims(email_verified=1), "no_address"),
    "verified not said": (_claims(email_verified=None), "no_address"),
    "no e-mail": (_claims(email=None), "no_address"),
    "a name for an e-mail": (_claims(email="ada"), "no_address"),
    "a list for an e-mail": (_claims(email=[ANA]), "no_address"),
    "a letter that becomes another's": (_claims(email="ana@example.com".replace("e", "\u212a", 1)), "no_address"),
    "unknown": (_claims(email="eve@example.com"), "no_operator"),
    "almost known": (_claims(email=f"{ANA} "), "no_operator"),
}


@pytest.mark.parametrize("case", NEVER)
def test_who_is_not_proven_does_not_come_in(site: Site, case: str) -> None:
    change, word = NEVER[case]
    change(site.provider)
    browser = site.browser()
    _refused(browser.sign_in(), word, 403)
    assert not browser.is_in
    with reading(site.engine) as conn:
        assert conn.execute(select(capi_session)).all() == []
        assert len(conn.execute(select(capi_operator)).all()) == 2


@pytest.mark.parametrize(
    "change",
    [
        _claims(aud=[CLIENT]),
        _claims(aud=[CLIENT, "other"], azp=CLIENT),
        _claims(email_verified="true", email="ANA@EXAMPLE.COM"),
        _sets(alg="PS512"),
        lambda provider: provider.about.update(token_endpoint_auth_methods_supported=["client_secret_post"]),
        lambda provider: provider.back.update(iss=provider.url),
    ],
)
def test_what_providers_say_differently_is_understood(site: Site, change: Change) -> None:
    change(site.provider)
    browser = site.browser()
    assert browser.sign_in().status_code == 303
    assert browser.is_in


def test_an_address_that_only_userinfo_tells_counts_for_the_same_person(site: Site) -> None:
    site.provider.claims = {}
    site.provider.about = {"userinfo_endpoint": f"{site.provider.url}/userinfo"}
    site.provider.userinfo = {"sub": "u2", "email": ANA, "email_verified": True}
    _refused(site.browser().sign_in(), "not_proven", 403)
    site.provider.userinfo["sub"] = "u1"
    assert site.browser().sign_in().status_code == 303


def test_a_disabled_operator_is_told_what_a_stranger_is_told(site: Site) -> None:
    people.disable_operator(site.engine, ANA, by=LOCAL, now=site.at[0])
    disabled = site.browser().sign_in()
    _refused(disabled, "no_operator", 403)
    site.provider.claims["email"] = "eve@example.com"
    assert site.browser().sign_in().text == disabled.text


def test_wrong_passwords_lock_nobody_out_who_signs_in_elsewhere(site: Site) -> None:
    form = {"name": ANA, "password": "guessed", "next": "/"}
    said = [
        requests.post(f"{site.url}/login", data=form, headers={"Origin": site.url}, timeout=10).status_code
        for _ in range(lockouts.FREE + 1)
    ]
    assert said == [401] * lockouts.FREE + [429]
    assert site.browser().sign_in().status_code == 303


@pytest.mark.parametrize(
    ("back", "word", "status"),
    [
        ({"error": "access_denied"}, "cancelled", 403),
        ({"error": "unauthorized_client", "error_description": "<b>canary</b>"}, "provider_refused", 502),
        ({"error": "<script>"}, "provider_refused", 502),
        ({"iss": "https://evil.example"}, "not_proven", 403),
        ({"code": "another"}, "code_refused", 502),
        ({"code": ""}, "provider_refused", 502),
    ],
)
def test_what_comes_back_instead_of_a_code(site: Site, back: dict[str, str], word: str, status: int) -> None:
    site.provider.back = back
    _refused(site.browser().sign_in(), word, status)


def test_a_wrong_client_secret_is_the_admins(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sign-in")  # whatever was logged at before
    site.settings.__dict__["oidc_client_secret"] = Secret("a wrong one")
    _refused(site.browser().sign_in(), "code_refused", 502)
    assert [record.__dict__["detail"] for record in caplog.records if record.name == "sign-in"] == [
        "OAuthError, invalid_client"
    ]


DISCOVERY = "/.well-known/openid-configuration"
TROUBLE: dict[str, tuple[Change, str, int]] = {
    "an error": (_breaks(DISCOVERY, PlainTextResponse("no", 500)), "provider_away", 503),
    "nothing there": (_breaks(DISCOVERY, PlainTextResponse("no", 404)), "odd_answer", 502),
    "no JSON": (_breaks(DISCOVERY, PlainTextResponse("<html>")), "odd_answer", 502),
    "no object": (_breaks(DISCOVERY, JSONResponse([1])), "odd_answer", 502),
    "no issuer": (lambda provider: provider.about.update(issuer=None), "odd_answer", 502),
    "another issuer": (lambda provider: provider.about.update(issuer="https://evil.example"), "odd_answer", 502),
    "the issuer with a slash": (lambda provider: provider.about.update(issuer=provider.url + "/"), "odd_answer", 502),
    "no place to go": (lambda provider: provider.about.update(authorization_endpoint=None), "odd_answer", 502),
    "plain HTTP": (lambda provider: provider.about.update(token_endpoint="http://evil.example/"), "odd_answer", 502),
    "a number for a place": (lambda provider: provider.about.update(jwks_uri=7), "odd_answer", 502),
    "elsewhere": (_breaks(DISCOVERY, RedirectResponse("https://evil.example/")), "odd_answer", 502),
}


@pytest.mark.parametrize("case", TROUBLE)
def test_a_provider_that_cannot_be_used_is_said_before_anybody_goes_there(site: Site, case: str) -> None:
    change, word, status = TROUBLE[case]
    change(site.provider)
    _refused(site.browser().get(BEGIN), word, status)
    assert "odd" not in site.browser().get("/login").text
    site.provider.about, site.provider.broken = {}, {}
    assert site.browser().sign_in().status_code == 303


LATER: dict[str, tuple[Change, str, int]] = {
    "codes: an error": (_breaks("/token", PlainTextResponse("no", 503)), "provider_away", 503),
    "codes: no JSON": (_breaks("/token", PlainTextResponse("<html>")), "odd_answer", 502),
    "codes: no object": (_breaks("/token", JSONResponse([])), "odd_answer", 502),
    "codes: nothing in it": (_breaks("/token", JSONResponse({})), "odd_answer", 502),
    "codes: an error that is no text": (_breaks("/token", JSONResponse({"error": {}}, 400)), "code_refused", 502),
    "codes: a number": (_breaks("/token", JSONResponse({"access_token": "x", "id_token": 7})), "not_proven", 403),
    "codes: no token": (_breaks("/token", JSONResponse({"access_token": "x", "id_token": "x.y.z"})), "not_proven", 403),
    "codes: elsewhere": (_breaks("/token", RedirectResponse("https://evil.example/")), "odd_answer", 502),
    "keys: an error": (_breaks("/keys", PlainTextResponse("no", 500)), "provider_away", 503),
    "keys: no keys": (_breaks("/keys", JSONResponse({})), "odd_answer", 502),
    "keys: none": (_breaks("/keys", JSONResponse({"keys": []})), "not_proven", 403),
    "keys: numbers": (_breaks("/keys", JSONResponse({"keys": [1]})), "not_proven", 403),
}


@pytest.mark.parametrize("case", LATER)
def test_a_provider_that_fails_on_the_way_back_lets_nobody_in(site: Site, case: str) -> None:
    change, word, status = LATER[case]
    browser = site.browser()
    back = browser.back()
    change(site.provider)
    answer = browser.get(back)
    _refused(answer, word, status)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert not browser.is_in


def test_a_provider_that_is_gone_or_slow_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "_TIMEOUT", (1, 0.3))
    provider = oidc.Provider("http://127.0.0.1:9", client_id="x", client_secret=Secret("y"), redirect_uri="z")
    login = Logins(Secret("y")).new("/", now=site.at[0])
    with pytest.raises(oidc.OidcTrouble) as gone:
        provider.begin(login, now=site.at[0])
    assert (gone.value.word, gone.value.detail) == ("provider_away", "ConnectionError, no code")
    browser = site.browser()
    back = browser.back()

    class Slow(Response):
        async def __call__(self, *_: Any) -> None:
            await asyncio.sleep(1)

    site.provider.broken["/token"] = Slow()
    begun = time.monotonic()
    _refused(browser.get(back), "provider_away", 503)
    assert time.monotonic() - begun < 1


def test_what_the_provider_says_of_itself_is_asked_for_every_ten_minutes(site: Site) -> None:
    for _ in range(2):
        site.browser().sign_in()
    assert site.provider.asked.count(DISCOVERY) == 1
    site.at[0] += timedelta(minutes=10)
    site.browser().sign_in()
    assert site.provider.asked.count(DISCOVERY) == 2


def test_too_many_at_once_are_told_to_come_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> Any:
        raise console_oidc.Busy

    monkeypatch.setattr(console_oidc.Turns, "take", full)
    _refused(site.browser().get(BEGIN), "busy", 503)


def test_a_database_that_is_away_lets_nobody_in(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = site.browser()
    back = browser.back()

    def away(*args: Any, **more: Any) -> Any:
        raise sign_in.Refused  # any error of the house

    monkeypatch.setattr(Gate, "sign_in_as", away)
    answer = browser.get(back)
    assert answer.status_code == 503
    assert "Nobody can be let in right now" in answer.text


def test_every_trouble_has_words_and_each_of_them_is_met_here() -> None:
    met = {word for _, word in NEVER.values()} | {word for _, word, _ in (*TROUBLE.values(), *LATER.values())}
    met |= {"not_begun_here", "cancelled", "provider_refused", "code_refused", "busy"}
    assert met == set(SIGN_INS)


# Where it is not switched on.


def test_without_a_provider_there_is_no_such_way(sqlite_engine: Engine, now: datetime) -> None:
    people.add_operator(sqlite_engine, "ada", role="admin", password=PASSWORD, by=LOCAL, now=now)
    settings = load({"DATABASE_URL": _url(sqlite_engine)})
    with serving(Guard(SignIn(_inside, Gate(lambda: settings)), lambda: settings)) as url:
        browser = Browser(url)
        assert "Sign in with" not in browser.get("/login").text
        for path in (BEGIN, CALLBACK):
            assert browser.get(path).headers["location"] == "/login"


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
def test_only_a_get_begins_or_ends_it(site: Site, method: str) -> None:
    for path in (BEGIN, CALLBACK):
        answer = requests.request(method, site.url + path, allow_redirects=False, timeout=10)
        assert answer.status_code in (303, 403)
        assert "set-cookie" not in answer.headers
    assert site.provider.asked == []


def test_as_long_as_there_are_no_operators_nobody_signs_in_so(sqlite_engine: Engine, now: datetime) -> None:
    with a_provider(lambda: now) as provider:
        port = free_port()
        settings = load(_settings(provider, DATABASE_URL=_url(sqlite_engine), CAPI_CONSOLE_PORT=str(port)))
        with serving(Guard(SignIn(_inside, Gate(lambda: settings)), lambda: settings), port=port) as url:
            for path in (BEGIN, CALLBACK):
                assert Browser(url).get(path).headers["location"] == "/"
                assert Browser(url).get(path, **{"X-Forwarded-For": "192.0.2.1"}).status_code == 403
        assert provider.asked == []


GIVEN = {
    "CAPI_OIDC_ISSUER": "https://login.example.com/realm",
    "CAPI_OIDC_CLIENT_ID": "console",
    "CAPI_OIDC_CLIENT_SECRET": "hush-hush-hush",
}


@pytest.mark.parametrize("lacking", GIVEN)
def test_all_of_its_settings_or_none(lacking: str) -> None:
    with pytest.raises(SettingsError, match=f"^{lacking} is not set and CAPI_OIDC_[A-Z_]+ is: put there ") as error:
        load({name: value for name, value in GIVEN.items() if name != lacking} | {lacking: " "})
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("issuer", "is_taken"),
    [
        ("https://login.example.com/realm/", True),
        ("http://127.0.0.1:9", True),
        ("http://localhost:9/x", True),
        ("http://login.example.com", False),
        ("http://127.0.0.1.example.com", False),
        ("https://user:pass@login.example.com", False),
        ("https://login.example.com?x", False),
        ("ftp://127.0.0.1", False),
        ("https://", False),
        ("login.example.com", False),
    ],
)
def test_the_issuer_is_https_or_this_machine(issuer: str, is_taken: bool) -> None:
    if is_taken:
        assert load(GIVEN | {"CAPI_OIDC_ISSUER": issuer}).oidc_issuer == issuer
        return
    with pytest.raises(SettingsError, match=r"^CAPI_OIDC_ISSUER: "):
        load(GIVEN | {"CAPI_OIDC_ISSUER": issuer})


def test_its_secret_is_kept_out_of_everything() -> None:
    found = load(GIVEN)
    assert found.oidc_client_secret in found.secrets()
    assert "hush-hush-hush" not in f"{found!r} {found.model_dump()} {found.model_dump_json()}"
    assert console_oidc.Elsewhere(Gate(lambda: found)).button("/").name == "login.example.com"  # type: ignore[union-attr]


def test_without_authlib_the_console_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    console_oidc.check(load(GIVEN))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    console_oidc.check(load({}))
    with pytest.raises(SettingsError, match=re.escape("pip install 'capi-console[oidc]'")):
        console_oidc.check(load(GIVEN))


def test_nobody_loads_authlib_who_does_not_need_it() -> None:
    look = (
        "import sys, core.doors.endpoint, core.doors.worker, core.doors.cli, core.doors.console_server;"
        "print('authlib' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"


# Operators without a password.


def test_a_password_is_taken_away_and_given_back(engine: Engine, now: datetime, quick_passwords: None) -> None:
    people.add_operator(engine, ANA, role="admin", password=PASSWORD, by=LOCAL, now=now)
    cookie = sign_in.sign_in(engine, ANA, Secret(PASSWORD), address="", now=now)
    people.set_operator_password(engine, ANA, password=None, by=LOCAL, now=now)
    with reading(engine) as conn:
        assert sign_in.present(conn, cookie, now=now) is None
        assert [row.has_password for row in people.operator_rows(conn, now=now)] == [False]
    with pytest.raises(WrongPassword):
        sign_in.sign_in(engine, ANA, Secret(PASSWORD), address="", now=now)
    people.set_operator_password(engine, ANA, password=PASSWORD, by=LOCAL, now=now)
    assert sign_in.sign_in(engine, ANA, Secret(PASSWORD), address="", now=now)


def test_who_has_no_password_has_none_to_change(engine: Engine, now: datetime) -> None:
    people.add_operator(engine, ANA, role="admin", password=None, by=LOCAL, now=now)
    ana = people.Operator(ANA, "admin")
    with pytest.raises(Refused, match="you sign in without a password"):
        people.change_password(engine, current="", password=PASSWORD, by=ana, now=now)
    with reading(engine) as conn:
        assert sign_in.locked_until(conn, ANA, now=now) is None


def test_without_a_password_the_name_is_an_address(engine: Engine, now: datetime, quick_passwords: None) -> None:
    people.add_operator(engine, "ada", role="admin", password=PASSWORD, by=LOCAL, now=now)
    with pytest.raises(BadInput, match="e-mail address"):
        people.add_operator(engine, "bob", role="viewer", password=None, by=LOCAL, now=now)
    with pytest.raises(BadInput, match="e-mail address"):
        people.set_operator_password(engine, "ada", password=None, by=LOCAL, now=now)


def test_a_console_in_earnest(sqlite_url: str, sqlite_engine: Engine, tmp_path: Path) -> None:
    """The real program at its most talkative: in and out, and no secret, code, state or address stands in its log."""
    real = datetime.now(UTC)
    people.add_operator(sqlite_engine, ANA, role="admin", password=None, by=LOCAL, now=real)
    with a_provider(lambda: datetime.now(UTC)) as provider:
        port = free_port()
        more = _settings(provider, CAPI_CONSOLE_PORT=str(port), CAPI_LOG_LEVEL="DEBUG")
        env = environment(sqlite_url, "http://127.0.0.1:9", **more)
        with running("console", env=env, log=tmp_path / "console.log") as console:
            browser = Browser(f"http://127.0.0.1:{port}")
            eventually(lambda: _serves(browser), within=40, saying=console.log.read_text)
            back = browser.back("/tokens")
            cookie = browser.session.cookies["capi_oidc"] or ""
            assert browser.get(back, **FROM_THERE).headers["location"] == "/tokens"
            assert "<title>" in browser.get("/tokens").text
            session = browser.session.cookies[COOKIE]
            assert session is not None
            provider.claims["email"] = "canary-stranger@example.com"
            _refused(Browser(browser.url).sign_in(), "no_operator", 403)
            provider.broken["/token"] = PlainTextResponse("canary-garbage")
            _refused(Browser(browser.url).sign_in(), "odd_answer", 502)
            console.stop()
        said = console.log.read_text()
        asked = [one for one in provider.asked if isinstance(one, dict)]
        spoken = {one[name] for one in asked for name in ("state", "nonce", "code", "code_verifier") if name in one}
    assert "nobody was signed in" in said
    kept = orjson.loads(_raw(cookie)[32:])
    hidden = {CLIENT_SECRET, ACCESS, CODE, cookie, session, "canary", kept["verifier"], *spoken}
    assert len(hidden) > 12
    assert [one for one in hidden if one in said] == []


def _serves(browser: Browser) -> bool:
    try:
        return browser.get("/_stcore/health").ok
    except requests.ConnectionError:
        return False
