"""What pages of others try with the console in the browser of somebody who is signed in there, and what cookies bear.

The endpoint is public: under whatever name a page reaches it, it is told what everybody is told. What it knows of a
browser is the cookie of one login, which belongs to the name that the merchant's link has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine, select

from core import clock
from core.desk import people
from core.doors.console_answers import COOKIE
from core.doors.console_sign_in import CHECK_EVERY
from core.sandbox.client import Sandbox
from core.services.sign_in import LOCAL
from core.store.database import reading
from core.store.schema import capi_audit, capi_case, capi_session
from tests.browser.conftest import Console, a_console
from tests.browser.elsewhere import EVIL, LEADS_HERE, Elsewhere, elsewhere
from tests.browser.screens import CHROMIUM, chromium, settle
from tests.reconnecting import OWNER, Road, a_road

PASSWORD = "correct horse battery"
MISDIRECTED = (421, "This host name is not served")
KINDS = ("cross-site", "same-site")
# An answer of the console that is quickly there: its pages bring some megabytes of script along.
PLAIN = "/_stcore/health"
# What a page may try, and how it ends: a status, or what the browser says in place of one.
FETCH = """([url, how]) => fetch(url, how).then(said => said.type === 'opaque' ? 'sent blindly' : said.status)
  .catch(() => 'held back')"""
SOCKET = """url => new Promise(tell => {
  const line = new WebSocket(url);
  line.onopen = () => { tell('open'); line.close() };
  line.onerror = () => tell('refused');
})"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium on this machine"),
]


@dataclass
class Person:
    """Somebody's browser: a cookie jar of its own."""

    home: str
    context: Any

    def opens(self, url: str) -> Any:
        page = self.context.new_page()
        page.goto(url)
        return page

    def signs_in(self, name: str, *, to: str = PLAIN) -> Any:
        """The page after the form was filled in."""
        page = self.opens(f"{self.home}/login?next={to}")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"**{to}")
        return page

    @property
    def is_in(self) -> bool:
        """Whether the console gives this browser what it gives nobody else."""
        return bool(self.opens(f"{self.home}{PLAIN}").evaluate(FETCH, ["/_stcore/host-config", {}]) == 200)

    @property
    def cookie(self) -> str:
        return next(str(one["value"]) for one in self.context.cookies() if one["name"] == COOKIE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(LEADS_HERE) as started:
        yield started


@pytest.fixture
def other() -> Iterator[Elsewhere]:
    with elsewhere() as site:
        yield site


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """One server for all: nothing is to happen to it."""
    with a_console(tmp_path_factory.mktemp("guarded")) as console:
        yield console


@pytest.fixture(scope="module")
def home(console: Console) -> str:
    """The console with its staff, by the name that pages on other ports of this machine have as well."""
    for name, role in (("ada", "admin"), ("bob", "support")):
        people.add_operator(console.engine, name, role=role, password=PASSWORD, by=LOCAL, now=clock.now())
    return console.url.replace("127.0.0.1", "localhost")


@pytest.fixture
def ada(browser: Any, home: str) -> Iterator[Person]:
    context = browser.new_context()
    person = Person(home, context)
    person.signs_in("ada")
    yield person
    context.close()


@pytest.fixture
def road(sqlite_engine: Engine, meta: Sandbox) -> Iterator[Road]:
    with a_road(sqlite_engine, meta) as made:
        meta.login(user=OWNER, at_once=False)
        yield made


def signed_in(engine: Engine) -> list[tuple[Any, ...]]:
    """Every session there is; a page that was opened may only make it younger."""
    s = capi_session.c
    with reading(engine) as conn:
        return [tuple(row) for row in conn.execute(select(s.hash, s.operator_id, s.started_at))]


def trail(engine: Engine) -> list[str]:
    with reading(engine) as conn:
        return list(conn.scalars(select(capi_audit.c.action).order_by(capi_audit.c.id)))


def under(url: str, name: str = EVIL) -> str:
    return url.replace("localhost", name).replace("127.0.0.1", name)


def as_socket(url: str) -> str:
    return url.replace("http:", "ws:") + "/_stcore/stream"


# A name that was made to lead here (DNS rebinding): the page is of the same origin, and reads every answer.


def test_a_name_that_leads_here_is_served_no_console(ada: Person) -> None:
    rebound = under(ada.home)
    ada.context.add_cookies([{"name": COOKIE, "value": ada.cookie, "url": rebound}])
    theirs, ours = ada.context.new_page(), ada.opens(ada.home + PLAIN)
    answer = theirs.goto(f"{rebound}/tokens")
    assert (answer.status, theirs.locator("body").inner_text()) == MISDIRECTED
    # A script of that very origin, as the name's other address may have given it.
    for path in ("/", "/tokens", "/login", "/_stcore/health", "/_stcore/host-config"):
        assert ours.evaluate(FETCH, [path, {}]) == 200
        assert theirs.evaluate(FETCH, [path, {}]) == MISDIRECTED[0]
    for path in ("/login", "/logout"):
        assert theirs.evaluate(FETCH, [path, {"method": "POST"}]) == MISDIRECTED[0]
    assert ours.evaluate(SOCKET, as_socket(ada.home)) == "open"
    assert theirs.evaluate(SOCKET, as_socket(rebound)) == "refused"


def test_a_name_that_leads_to_the_sandbox_moves_nothing_in_it(meta: Sandbox, browser: Any) -> None:
    meta.create_token()
    page = browser.new_page()
    answer = page.goto(f"{under(meta.url)}/_sandbox/stats")
    assert (answer.status, page.locator("body").inner_text()) == MISDIRECTED
    orders = (["/_sandbox/tokens", {"method": "POST", "body": "{}"}], ["/_sandbox/reset", {"method": "POST"}])
    for order in orders:
        assert page.evaluate(FETCH, order) == MISDIRECTED[0]
    assert meta.stats()["tokens"] == 1
    page.close()


def test_a_name_that_leads_to_the_endpoint_finishes_no_login(road: Road, browser: Any) -> None:
    app = road.a_lost_app()
    context = browser.new_context()
    merchant, stranger = context.new_page(), context.new_page()
    merchant.goto(road.link(app))
    merchant.get_by_role("button", name="Continue with Facebook").click()
    kept: list[str] = []

    def caught(asked: Any) -> None:
        kept.append(asked.fetch(max_redirects=0).headers["location"])
        asked.fulfill(body="caught")

    merchant.route("**/dialog/**", caught)
    merchant.get_by_role("button", name="Continue").click()
    merchant.get_by_text("caught").wait_for()
    stranger.goto(under(kept[0]))
    assert stranger.get_by_text("it was begun in another browser").count() == 1
    assert (road.meta.count("code"), road.case(app).state) == (0, "opened")
    merchant.goto(kept[0])
    merchant.get_by_role("heading", name="Thank you").wait_for()
    context.close()


# A frame of theirs around a page of ours (clickjacking).


@pytest.mark.parametrize("kind", KINDS)
def test_no_page_of_ours_shows_in_a_frame_of_theirs(
    ada: Person, other: Elsewhere, road: Road, browser: Any, kind: str
) -> None:
    link = road.link(road.a_lost_app())
    dialog = f"{road.meta.url}/v24.0/dialog/oauth?client_id=1122334455&redirect_uri={road.url}/x"
    stranger = browser.new_context()
    framed = [
        (ada.context, f"{ada.home}/tokens"),
        (ada.context, f"{ada.home}/_stcore/health"),
        (stranger, f"{ada.home}/login"),
        (stranger, link),
        (stranger, f"{road.url}/auth/facebook/callback?code=c&state=s"),
        (stranger, dialog),
    ]
    assert framed_by(other, kind, stranger, f"{other.origins['cross-site']}/innocent") == ("nothing here", [])
    for jar, url in framed:
        shown, said = framed_by(other, kind, jar, url)
        assert shown == "", url
        assert len(said) == 1, url
    stranger.close()


def framed_by(other: Elsewhere, kind: str, jar: Any, url: str) -> tuple[str, list[str]]:
    """What stands in a frame around `url`, and what the browser says of frames that it leaves empty."""
    other.pages["/frame"] = f'<iframe src="{url.replace("&", "&amp;")}"></iframe>'
    page = jar.new_page()
    said: list[str] = []
    page.on("console", lambda line: said.append(line.text))
    page.goto(f"{other.origins[kind]}/frame")
    (frame,) = page.main_frame.child_frames
    page.wait_for_timeout(300)
    shown = "" if frame.url.startswith("chrome-error:") else frame.locator("body").inner_text()
    page.close()
    refused = [line for line in said if "frame" in line.lower() and urlsplit(url).netloc in line]
    return shown, refused


# Requests of theirs with the person's cookies (CSRF).


@pytest.mark.parametrize("kind", KINDS)
def test_a_form_of_theirs_signs_nobody_in_or_out(ada: Person, console: Console, other: Elsewhere, kind: str) -> None:
    before, told, cookie = signed_in(console.engine), trail(console.engine), ada.cookie
    fields = f'<input name="name" value="bob"><input name="password" value="{PASSWORD}">'
    for path in ("/logout", "/login"):
        other.pages["/form"] = (
            f'<form method="post" action="{ada.home}{path}">{fields}</form><script>document.forms[0].submit()</script>'
        )
        page = ada.opens(f"{other.origins[kind]}/form")
        page.get_by_role("heading", name="This did not come from the console").wait_for()
        page.close()
    assert (signed_in(console.engine), trail(console.engine), ada.cookie) == (before, told, cookie)
    assert ada.is_in


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_of_theirs_reads_nothing_and_does_nothing(
    ada: Person, console: Console, other: Elsewhere, kind: str
) -> None:
    before, told = signed_in(console.engine), trail(console.engine)
    ours, theirs = ada.opens(ada.home + PLAIN), ada.opens(other.origins[kind])
    assert ours.evaluate(SOCKET, as_socket(ada.home)) == "open"
    for name in (ada.home, console.url):
        assert theirs.evaluate(SOCKET, as_socket(name)) == "refused"
    for path in ("/tokens", "/_stcore/host-config", "/_stcore/health"):
        assert theirs.evaluate(FETCH, [ada.home + path, {"credentials": "include"}]) == "held back"
    for path in ("/logout", "/login"):
        for mode, ends in (("cors", "held back"), ("no-cors", "sent blindly")):
            how = {"method": "POST", "credentials": "include", "mode": mode}
            assert theirs.evaluate(FETCH, [ada.home + path, how]) == ends
    assert (signed_in(console.engine), trail(console.engine)) == (before, told)


@pytest.mark.parametrize("kind", KINDS)
def test_a_form_of_theirs_begins_no_login_at_facebook(road: Road, other: Elsewhere, browser: Any, kind: str) -> None:
    app = road.a_lost_app()
    link = road.link(app).replace("127.0.0.1", "localhost")
    other.pages["/form"] = f'<form method="post" action="{link}"></form><script>document.forms[0].submit()</script>'
    with reading(road.world.engine) as conn:
        before = conn.execute(select(capi_case)).all()
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{other.origins[kind]}/form")
    page.get_by_role("heading", name="This link cannot be used").wait_for()
    with reading(road.world.engine) as conn:
        assert conn.execute(select(capi_case)).all() == before
    assert context.cookies() == []
    page.goto(link)
    page.get_by_role("button", name="Continue with Facebook").click()
    page.get_by_role("heading", name="Continue as").wait_for()
    context.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_of_theirs_moves_nothing_in_the_sandbox(
    meta: Sandbox, other: Elsewhere, browser: Any, kind: str
) -> None:
    token, page = meta.create_token(), browser.new_page()
    page.goto(other.origins[kind])
    url = meta.url.replace("127.0.0.1", "localhost")
    for path in (f"tokens/{token.fingerprint}/kill", "faults", "clock", "reset"):
        order = {"method": "POST", "mode": "no-cors", "body": '{"path": "any", "kind": "html_502", "advance": 99}'}
        assert page.evaluate(FETCH, [f"{url}/_sandbox/{path}", order]) == "sent blindly"
    page.close()
    stats = meta.stats()
    assert (stats["tokens"], stats["faults"]) == (1, [])
    assert meta.tokens()[0]["dead"] is None


# The session's cookie.


def test_the_cookie_is_no_scripts_and_no_other_names_and_ends_with_the_browser(ada: Person) -> None:
    (kept,) = (one for one in ada.context.cookies() if one["name"] == COOKIE)
    assert kept == {
        "name": COOKIE,
        "value": ada.cookie,
        "domain": "localhost",
        "path": "/",
        "expires": -1,
        "httpOnly": True,
        "secure": False,
        "sameSite": "Lax",
    }
    page = ada.opens(f"{ada.home}/jobs")
    settle(page)
    assert ada.cookie not in page.evaluate("document.cookie")
    assert ada.cookie not in page.content() + page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")


def test_a_cookie_that_was_planted_is_not_the_one_after_signing_in(browser: Any, home: str) -> None:
    planted = "A" * 43
    context = browser.new_context()
    context.add_cookies([{"name": COOKIE, "value": planted, "url": home}])
    person = Person(home, context)
    person.signs_in("ada")
    assert person.cookie != planted
    context.clear_cookies()
    context.add_cookies([{"name": COOKIE, "value": planted, "url": home}])
    assert not person.is_in
    context.close()


def test_signing_out_ends_one_browsers_session_and_its_cookie_opens_nothing_anywhere(ada: Person, browser: Any) -> None:
    elsewhere_too, thief = (Person(ada.home, browser.new_context()) for _ in range(2))
    elsewhere_too.signs_in("ada")
    thief.context.add_cookies([{"name": COOKIE, "value": ada.cookie, "url": ada.home}])
    assert thief.is_in
    page = ada.opens(f"{ada.home}/jobs")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login")
    assert not thief.is_in
    assert thief.opens(ada.home + PLAIN).evaluate(SOCKET, as_socket(ada.home)) == "refused"
    assert elsewhere_too.is_in
    for one in (elsewhere_too, thief):
        one.context.close()


def test_who_is_disabled_is_thrown_out_of_an_open_page_and_nobody_else_is(
    ada: Person, console: Console, browser: Any
) -> None:
    bob, stays = Person(ada.home, browser.new_context()), ada.opens(f"{ada.home}/jobs")
    page = bob.signs_in("bob", to="/jobs")
    for one in (page, stays):
        settle(one)
    people.disable_operator(console.engine, "bob", by=LOCAL, now=clock.now())
    page.wait_for_url("**/login?next=/jobs", timeout=(CHECK_EVERY + 5) * 1000)
    page.wait_for_load_state()
    page.get_by_label("Name").fill("bob")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").get_by_text("Name or password is wrong.").wait_for()
    assert urlsplit(stays.url).path == "/jobs"
    bob.context.close()
