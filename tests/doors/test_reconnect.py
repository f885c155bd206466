"""A merchant's way back: link, page, dialog, callback, stored token; and every way it can go wrong."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from sqlalchemy import Engine, delete, func, select, text
from sqlalchemy.exc import OperationalError

from core.desk import cases as desk
from core.desk.case_words import REFUSED
from core.doors import wiring
from core.doors.endpoint import create_app
from core.doors.endpoint_reconnect import ReconnectDoor
from core.sandbox.client import Sandbox
from core.secret import Secret
from core.services import watch
from core.services.policy import Policy
from core.services.reconnect import Reconnect
from core.services.verification import Word
from core.settings import Settings
from core.store import apps, cases, keyring, reach, tokens
from core.store.apps import App
from core.store.database import reading, writing
from core.store.keyring import Keyring
from core.store.platform_tables import app as app_table
from core.store.platform_tables import app_settings, platform, user
from core.store.schema import capi_case, capi_token, ours
from core.store.sealing import Unreadable
from tests.inbound.serving import serving
from tests.reconnecting import OPERATOR, OWNER, Browser, Road, a_road, everything, query
from tests.world import APP_ID, APP_SECRET, DAY, World

SCOPES = "ads_management,business_management"


@pytest.fixture
def road(engine: Engine, meta: Sandbox) -> Iterator[Road]:
    with a_road(engine, meta) as made:
        yield made


@pytest.fixture
def small_road(sqlite_engine: Engine, meta: Sandbox) -> Iterator[Road]:
    """On one database, where the database does not matter."""
    with a_road(sqlite_engine, meta) as made:
        yield made


def stored(engine: Engine) -> dict[str, list[Any]]:
    return everything(engine, lambda: [*ours.sorted_tables, *platform.sorted_tables])


def test_the_whole_road(road: Road) -> None:
    one = road.a_lost_app(email="owner@example.com")
    two = road.world.an_app(one.token, email="owner@example.com")
    stranger = road.world.an_app(one.token, email="else@example.com")
    sent = road.world.an_event(two)
    road.world.deliver(two)
    assert road.world.state_of(sent) == "parked"

    browser, link = Browser(), road.link(one)
    page = browser.get(link, timeout=10)
    assert page.status_code == 200
    assert one.name in page.text
    assert two.name in page.text
    assert stranger.name not in page.text

    pressed = browser.press(link)
    assert pressed.status_code == 303
    asked = query(pressed.headers["location"])
    assert pressed.headers["location"].startswith(f"{road.meta.url}/v24.0/dialog/oauth?")
    assert asked["redirect_uri"] == f"{road.url}/auth/facebook/callback"
    assert (asked["scope"], asked["response_type"]) == (SCOPES, "code")
    assert "auth_type" not in asked

    back = browser.step(browser.step(pressed))
    assert (back.status_code, back.headers["location"]) == (303, urlsplit(link).path)
    thanks = browser.get(link, timeout=10)
    assert "Thank you" in thanks.text

    fresh = road.world.app(one).token
    assert fresh == road.world.app(two).token != one.token
    assert road.world.app(stranger).token == one.token
    ends = road.world.app(one).expires_at
    assert ends is not None
    assert ends > road.time() + 59 * DAY
    assert road.case(one).state == "done"
    for app in (one, two):
        road.world.deliver(road.world.app(app))
    assert road.world.state_of(sent) == "delivered"
    last = road.world.refreshes()[-1]
    assert (last.outcome, last.trigger, last.by, last.apps_updated) == ("reconnected", "reconnect", "merchant", 2)


def test_another_users_apps_that_hold_the_same_dead_token_get_a_case_of_their_own(road: Road) -> None:
    app = road.a_lost_app()
    stranger = road.world.an_app(app.token, email="else@example.com")
    Browser().walk(road.link(app))
    assert road.case(app).state == "done"
    assert (road.case(stranger).state, road.case(stranger).fingerprint) == ("made", app.fingerprint)
    Browser().walk(road.link(stranger))
    assert road.case(stranger).state == "done"
    assert road.world.app(stranger).token not in (app.token, road.world.app(app).token)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_opening_a_link_changes_nothing(road: Road, method: str) -> None:
    """Mail programs open every link (S18)."""
    link = road.link(road.a_lost_app())
    before = stored(road.world.engine)
    for address in (link, link + "x", f"{road.url}/auth/facebook/callback?code=c&state=s"):
        answer = requests.request(method, address, timeout=10)
        assert "set-cookie" not in answer.headers
    assert stored(road.world.engine) == before
    assert (road.meta.count("code"), road.meta.count("exchange")) == (0, 0)


def test_a_head_of_the_callback_uses_no_login_up(small_road: Road) -> None:
    app = small_road.a_lost_app()
    browser = Browser()
    callback = browser.to_callback(small_road.link(app))
    assert browser.head(callback, timeout=10).status_code == 200
    browser.get(callback, timeout=10)
    assert small_road.case(app).state == "done"


def test_no_page_can_be_framed_kept_or_made_to_load_anything(small_road: Road) -> None:
    app = small_road.a_lost_app()
    link = small_road.link(app)
    pages = [requests.get(address, timeout=10) for address in (link, link + "x")]
    pages.append(requests.get(f"{small_road.url}/auth/facebook/callback", timeout=10))
    pages.append(Browser().press(link))
    for page in pages:
        policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["form-action"] == f"'self' {small_road.meta.url}"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["x-robots-tag"] == "noindex, nofollow"
        assert page.headers["cache-control"] == "no-store"
        assert not any(piece in page.text for piece in ("<script", "src=", "http://", "https://", "url(", "@import"))


def test_the_button_may_lead_to_any_of_facebooks_hosts(sqlite_world: World) -> None:
    """Chromium checks `form-action` at every redirect that follows, and phones are sent on to m.facebook.com."""
    settings = Settings(FACEBOOK_APP_ID=APP_ID, FACEBOOK_APP_SECRET=Secret(APP_SECRET))
    door = ReconnectDoor(Reconnect(sqlite_world.service(), settings))
    assert "form-action 'self' https://*.facebook.com;" in door._tell["Content-Security-Policy"]


def test_the_names_of_shops_are_text(small_road: Road) -> None:
    app = small_road.a_lost_app()
    with writing(small_road.world.engine) as conn:
        conn.execute(app_table.update().values(name='<script>alert("x")</script>'))
    page = requests.get(small_road.link(app), timeout=10).text
    assert "<script" not in page
    assert "&lt;script&gt;alert(&quot;x&quot;)" in page


def test_a_link_that_cannot_be_used_says_the_same_whatever_the_reason(road: Road) -> None:
    app, other = road.a_lost_app(), road.a_lost_app()
    link = road.link(app)
    gone = road.link(other)
    with writing(road.world.engine) as conn:
        conn.execute(delete(capi_case).where(capi_case.c.user_id == other.user_id))
    foreign = Secret("another-secret")
    strange = desk.make_link(
        road.world.engine,
        road.settings.model_copy(update={"facebook_app_secret": foreign}),
        road.case(app).id,
        by=OPERATOR,
        now=road.time(),
    ).link
    replaced, link = link, road.link(app)
    text = link.rsplit("/", 1)[1]
    torn = [link[:-1], link + "A", link.replace(text, text.swapcase()), f"{road.url}/reconnect/x"]
    wrong = [replaced, gone, strange, *torn]
    answers = [requests.request(method, one, timeout=10) for one in wrong for method in ("GET", "POST")]
    road.time.ahead = 7 * DAY + timedelta(seconds=1)
    answers += [requests.request(method, link, timeout=10) for method in ("GET", "POST")]
    assert {(answer.status_code, answer.text) for answer in answers} == {(404, answers[0].text)}
    assert "cannot be used" in answers[0].text


def test_a_used_link_says_so_kindly_and_begins_nothing(road: Road) -> None:
    app = road.a_lost_app()
    link = road.link(app)
    Browser().walk(link)
    before = stored(road.world.engine)
    again = Browser()
    pressed = again.press(link)
    assert (pressed.status_code, pressed.headers["location"]) == (303, urlsplit(link).path)
    assert "Facebook is connected" in again.get(link, timeout=10).text
    assert stored(road.world.engine) == before


def test_a_link_works_for_seven_days(small_road: Road) -> None:
    app = small_road.a_lost_app()
    link = small_road.link(app)
    small_road.time.ahead = 7 * DAY - timedelta(minutes=1)
    assert "Thank you" in Browser().walk(link).text


def test_another_site_cannot_press_the_button(small_road: Road) -> None:
    app = small_road.a_lost_app()
    link = small_road.link(app)
    for site in ("cross-site", "same-site"):
        assert requests.post(link, headers={"Sec-Fetch-Site": site}, timeout=10).status_code == 404
    assert small_road.case(app).state == "sent"
    assert Browser().post(link, headers={"Sec-Fetch-Site": "same-origin"}, timeout=10).ok


def test_pressing_without_end_is_slowed_down(small_road: Road) -> None:
    link = small_road.link(small_road.a_lost_app())
    answers = [Browser().press(link).status_code for _ in range(8)]
    assert answers == [303] * 6 + [429] * 2
    other = small_road.link(small_road.a_lost_app())
    assert Browser().press(other).status_code == 303


# --- the callback


def test_the_cookie_is_for_this_login_and_for_no_script(small_road: Road) -> None:
    pressed = Browser().press(small_road.link(small_road.a_lost_app()))
    cookie = pressed.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Max-Age=900" in cookie
    assert "Secure" not in cookie
    assert "state" not in cookie


def test_behind_https_the_cookie_is_secure_and_bound_to_the_host(sqlite_world: World, meta: Sandbox) -> None:
    with a_road(sqlite_world.engine, meta, CAPI_PUBLIC_URL="https://events.example.com") as road:
        link = road.link(road.a_lost_app())
        assert link.startswith("https://events.example.com/reconnect/")
        pressed = Browser().press(link.replace("https://events.example.com", road.url))
        cookie = pressed.headers["set-cookie"]
        assert cookie.startswith("__Host-capi-login-")
        assert "Secure" in cookie
        assert "Path=/;" in cookie + ";"
        assert query(pressed.headers["location"])["redirect_uri"].startswith("https://events.example.com/auth/")


def test_a_login_comes_back_to_the_browser_that_began_it(road: Road) -> None:
    app = road.a_lost_app()
    callback = Browser().to_callback(road.link(app))
    answer = Browser().get(callback, timeout=10)
    assert answer.status_code == 400
    assert "another browser" in answer.text
    assert road.world.app(app).token == app.token
    assert road.meta.count("code") == 0


def test_states_cannot_be_swapped_between_cases(road: Road) -> None:
    mine, theirs = road.a_lost_app(), road.a_lost_app()
    browser, thief = Browser(), Browser()
    own = query(browser.to_callback(road.link(mine)))
    foreign = query(thief.to_callback(road.link(theirs)))
    for code, state in ((own["code"], foreign["state"]), (foreign["code"], foreign["state"])):
        answer = browser.get(f"{road.url}/auth/facebook/callback", params={"code": code, "state": state}, timeout=10)
        assert answer.status_code == 400
    assert road.meta.count("code") == 0
    assert {road.world.app(app).token for app in (mine, theirs)} == {mine.token, theirs.token}


def test_two_cases_may_be_connected_in_two_tabs_of_one_browser(small_road: Road) -> None:
    mine, theirs = small_road.a_lost_app(), small_road.a_lost_app()
    browser = Browser()
    callbacks = [browser.to_callback(small_road.link(app)) for app in (mine, theirs)]
    for callback in callbacks:
        assert "Thank you" in browser.get(callback, timeout=10).text


@pytest.mark.parametrize(
    "query_", ["", "?code=abc", "?state=abc", "?code=abc&state=abc", "?error=access_denied&state=%00"]
)
def test_a_callback_out_of_nowhere_is_explained(small_road: Road, query_: str) -> None:
    answer = requests.get(f"{small_road.url}/auth/facebook/callback{query_}", timeout=10)
    assert answer.status_code == 400
    assert "could not be finished here" in answer.text


def test_a_login_counts_once_and_a_second_callback_is_answered_kindly(road: Road) -> None:
    app = road.a_lost_app()
    browser = Browser()
    callback = browser.to_callback(road.link(app))
    assert "Thank you" in browser.get(callback, timeout=10).text
    fresh = road.world.app(app).token
    assert "Facebook is connected" in browser.get(callback, timeout=10).text
    assert road.world.app(app).token == fresh
    assert road.meta.count("code") == 1


def test_a_refused_login_counts_once_as_well(small_road: Road) -> None:
    app = small_road.a_lost_app()
    browser, link = Browser(), small_road.link(app)
    small_road.meta.login(user="8002")
    callback = browser.to_callback(link)
    browser.get(callback, timeout=10)
    again = browser.get(callback, timeout=10)
    assert again.status_code == 400
    assert urlsplit(link).path in again.text
    assert small_road.meta.count("code") == 1


def test_two_callbacks_at_once_store_one_token(road: Road) -> None:
    app = road.a_lost_app()
    browser = Browser()
    callback = browser.to_callback(road.link(app))
    barrier = threading.Barrier(4)

    def ask(_: int) -> int:
        own = Browser()
        own.cookies.update(browser.cookies)
        barrier.wait()
        return own.get(callback, allow_redirects=False, timeout=20).status_code

    with ThreadPoolExecutor(4) as pool:
        answers = sorted(pool.map(ask, range(4)))
    assert answers.count(303) >= 1
    assert set(answers) <= {303, 400}
    assert road.meta.count("code") == 1
    assert [row.outcome for row in road.world.refreshes() if row.trigger == "reconnect"] == ["reconnected"]
    assert road.case(app).state == "done"


def test_a_login_takes_a_quarter_of_an_hour_at_most(road: Road) -> None:
    app = road.a_lost_app()
    link, browser = road.link(app), Browser()
    callback = browser.to_callback(link)
    road.time.ahead = timedelta(minutes=15, seconds=1)
    late = browser.get(callback, timeout=10)
    assert late.status_code == 400
    assert "/reconnect/" not in late.text
    assert road.world.app(app).token == app.token
    assert "Thank you" in browser.walk(link).text


def test_the_newest_press_of_the_button_is_the_one_that_counts(small_road: Road) -> None:
    app = small_road.a_lost_app()
    browser, link = Browser(), small_road.link(app)
    first = browser.to_callback(link)
    second = browser.to_callback(link)
    assert browser.get(first, timeout=10).status_code == 400
    assert "Thank you" in browser.get(second, timeout=10).text


def test_a_new_link_ends_a_login_that_was_begun_with_the_one_before(small_road: Road) -> None:
    app = small_road.a_lost_app()
    browser = Browser()
    callback = browser.to_callback(small_road.link(app))
    small_road.link(app)
    assert browser.get(callback, timeout=10).status_code == 400
    assert small_road.world.app(app).token == app.token


def test_a_login_never_leads_to_a_newer_link_than_its_own(road: Road) -> None:
    """Whoever had a link that was replaced, because it got into wrong hands, does not get the new one."""
    app = road.a_lost_app()
    browser, leaked = Browser(), road.link(app)
    callback = browser.to_callback(leaked)
    link = road.link(app)
    pages = [browser.get(callback, timeout=10)]
    assert "Thank you" in Browser().walk(link).text
    pages.append(browser.get(callback, timeout=10))
    for page in pages:
        assert page.status_code == 400
        assert "/reconnect/" not in page.text


def test_a_login_that_is_over_leads_nowhere(road: Road) -> None:
    app = road.a_lost_app()
    browser, link = Browser(), road.link(app)
    callback = browser.to_callback(link)
    assert "Thank you" in browser.get(callback, timeout=10).text
    road.time.ahead = timedelta(minutes=15, seconds=1)
    page = browser.get(callback, timeout=10)
    assert page.status_code == 400
    assert "/reconnect/" not in page.text


def test_a_link_that_ends_during_the_login_takes_no_token(road: Road) -> None:
    app = road.a_lost_app()
    link, browser = road.link(app), Browser()
    road.time.ahead = 7 * DAY - timedelta(minutes=1)
    callback = browser.to_callback(link)
    road.time.ahead = 7 * DAY + timedelta(seconds=1)
    assert browser.get(callback, timeout=10).status_code == 400
    with writing(road.world.engine) as conn:
        assert cases.expire(conn, now=road.time()) == 1
    assert road.case(app).state == "expired"
    assert road.world.app(app).token == app.token
    assert "Thank you" in Browser().walk(road.link(app)).text


# --- what is not taken

WHY: dict[str, Callable[[Road], None]] = {
    "cancelled": lambda road: road.meta.login(error="access_denied"),
    "dialog_error": lambda road: road.meta.login(error="server_error"),
    "code_refused": lambda road: road.meta.fault("code", "error", error={"code": 100, "error_subcode": 36009}),
    "wrong_app": lambda road: road.meta.fault(
        "debug", "error", error={"code": 100, "message": "(#100) The App_id did not match the Viewing App"}
    ),
    "other_user": lambda road: road.meta.login(user="8002"),
    "missing_scope": lambda road: road.meta.login(user=OWNER, scopes=["business_management"]),
    "pixel_unreachable": lambda road: road.meta.login(user=OWNER, pixels=["1"]),
    "our_setup": lambda road: road.meta.fault("code", "error", error={"code": 1, "message": "client secret"}),
    "meta_away": lambda road: road.meta.fault("exchange", "transient_2"),
}


@pytest.mark.parametrize("word", WHY)
def test_what_is_not_taken_is_explained_and_the_link_goes_on_working(small_road: Road, word: str) -> None:
    app = small_road.a_lost_app()
    with reading(small_road.world.engine) as conn:
        facts = small_road.world.service().graph.debug_token(app.token)  # type: ignore[arg-type]
    with writing(small_road.world.engine) as conn:
        tokens.learn(conn, str(app.fingerprint), facts, now=small_road.time())
    link, browser = small_road.link(app), Browser()
    WHY[word](small_road)

    refused = browser.walk(link)

    assert refused.status_code == 200
    assert "Try again" in refused.text
    case = small_road.case(app)
    assert (case.state, case.refused) == ("opened", word)
    assert case.refused_at is not None
    assert small_road.world.app(app).token == app.token
    said = REFUSED[word].split("{names}", 1)[0]
    assert said.replace("'", "&#x27;") in refused.text
    shown = refused.text.replace(urlsplit(link).path, "")
    assert not any(piece in shown for piece in ("EAA", "fp_", "OAuth", "trace", "(#", "Viewing App", app.user_id))

    small_road.meta.clear_faults()
    small_road.meta.login(user=OWNER)
    assert "Thank you" in browser.walk(link).text
    assert small_road.world.app(app).token != app.token


def test_a_token_that_meta_calls_invalid_is_not_stored(small_road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    app = small_road.a_lost_app()
    graph = small_road.reconnect.verification.graph
    exchange = graph.exchange

    def die(token: Secret, **more: Any) -> Any:
        fresh = exchange(token, **more)
        small_road.meta.kill(fresh.token, 458)
        return fresh

    monkeypatch.setattr(graph, "exchange", die)
    Browser().walk(small_road.link(app))
    assert small_road.case(app).refused == "token_refused"
    assert small_road.world.app(app).token == app.token


def test_a_callback_without_a_code_is_explained(small_road: Road) -> None:
    app = small_road.a_lost_app()
    browser, link = Browser(), small_road.link(app)
    state = query(browser.press(link).headers["location"])["state"]
    for code in ({}, {"code": ""}, {"code": "a b\n"}):
        answer = browser.get(f"{small_road.url}/auth/facebook/callback", params={"state": state, **code}, timeout=10)
        assert answer.ok
        assert small_road.case(app).refused == "no_code"
        state = query(browser.press(link).headers["location"])["state"]


def test_what_facebook_says_is_kept_without_letters_that_nobody_sees(road: Road) -> None:
    """PostgreSQL stores no NUL, and a terminal obeys escapes: anybody can write them into the address."""
    app = road.a_lost_app()
    browser, link = Browser(), road.link(app)
    said = {"\x00": None, "no\x00 w\x1b]0;x\x07ay\nout": "no w]0;xay out"}
    for words, kept in said.items():
        state = query(browser.press(link).headers["location"])["state"]
        asked = {"state": state, "error": "server_error", "error_description": words}
        ended = browser.get(f"{road.url}/auth/facebook/callback", params=asked, timeout=10)
        assert ended.status_code == 200
        assert (road.case(app).refused, road.case(app).refused_words) == ("dialog_error", kept)


def test_every_word_has_a_sentence_for_the_merchant() -> None:
    assert set(REFUSED) == {str(word) for word in Word}


def test_another_user_connects_once_an_operator_lets_them(road: Road) -> None:
    app = road.a_lost_app()
    link = road.link(app)
    road.meta.login(user="8002")
    Browser().walk(link)
    case = road.case(app)
    assert (case.refused, case.refused_words) == ("other_user", f"before: {OWNER}; now: 8002")
    desk.accept_other_user(road.world.engine, case.id, user="8002", by=OPERATOR, now=road.time())
    road.meta.login(user="9009")
    Browser().walk(link)
    assert (road.case(app).state, road.case(app).refused_user) == ("opened", "9009"), "only the one who was looked at"
    road.meta.login(user="8002")
    assert "Thank you" in Browser().walk(link).text
    fresh = road.world.app(app).fingerprint
    assert road.world.token(str(fresh)).meta_user_id == "8002"


def test_another_users_id_stands_in_the_case_while_it_is_the_reason(small_road: Road) -> None:
    app = small_road.a_lost_app()
    link = small_road.link(app)
    small_road.meta.login(user="8002")
    Browser().walk(link)
    assert small_road.case(app).refused_user == "8002"
    small_road.meta.login(error="access_denied")
    Browser().walk(link)
    assert (small_road.case(app).refused, small_road.case(app).refused_user) == ("cancelled", None)


# Trouble with the look-up of the token before → why the login is not taken, or None when nobody can be known.
LOOK_UPS: dict[str, tuple[dict[str, Any], str | None]] = {
    "limited": ({"kind": "rate_17"}, "meta_away"),
    "away": ({"kind": "transient_2"}, "meta_away"),
    "an answer of no sort": ({"kind": "html_200"}, "meta_away"),
    "never heard of": ({"kind": "error", "error": {"code": 7777, "message": "?"}}, "meta_away"),
    "our secret": ({"kind": "error", "error": {"code": 190, "message": "Invalid OAuth access token"}}, "our_setup"),
    "another app's": (
        {"kind": "error", "error": {"code": 100, "message": "(#100) The App_id did not match the Viewing App"}},
        None,
    ),
    "no token": ({"kind": "error", "error": {"code": 100, "message": "(#100) Invalid parameter"}}, None),
}


@pytest.mark.parametrize("trouble", LOOK_UPS)
def test_who_connected_before_is_asked_of_meta_and_nobody_gets_in_while_it_cannot_say(
    small_road: Road, trouble: str
) -> None:
    fault, word = LOOK_UPS[trouble]
    app = small_road.a_lost_app()
    _forget_whose(small_road)
    link = small_road.link(app)
    small_road.meta.login(user="8002")
    small_road.meta.fault("debug", **fault, token=app.token)
    ended = Browser().walk(link)
    if word is None:
        assert "Thank you" in ended.text
        return
    assert small_road.case(app).refused == word
    assert small_road.world.app(app).token == app.token
    small_road.meta.clear_faults()
    Browser().walk(link)
    assert small_road.case(app).refused == "other_user"
    small_road.meta.login(user=OWNER)
    assert "Thank you" in Browser().walk(link).text


def test_a_stumble_at_the_look_up_of_the_token_before_costs_nobody_the_login(small_road: Road) -> None:
    app = small_road.a_lost_app()
    _forget_whose(small_road)
    link = small_road.link(app)
    small_road.meta.fault("debug", "transient_2", count=1, token=app.token)
    assert "Thank you" in Browser().walk(link).text


def _forget_whose(road: Road) -> None:
    with writing(road.world.engine) as conn:
        conn.execute(capi_token.update().values(meta_user_id=None))


@pytest.fixture
def sealed_road(small_road: Road) -> Iterator[Road]:
    keyring.put(small_road.world.engine, Keyring((Secret(keyring.new_key()),)))
    yield small_road
    keyring.put(small_road.world.engine, Keyring())


def _sealed(road: Road) -> App:
    """An app with an encrypted token whose Meta user is known."""
    token = road.meta.create_token(user=OWNER)
    app = road.world.an_app(token)
    facts = road.world.graph().debug_token(token)
    with writing(road.world.engine) as conn:
        tokens.see(conn, token.fingerprint, user_id=app.user_id, now=road.time(), next_refresh_at=None)
        apps.write_token(conn, app.id, token, expires_at=None)
        tokens.learn(conn, token.fingerprint, facts, now=road.time())
    return road.world.app(app)


def test_spoiling_a_stored_token_lets_no_other_user_in(sealed_road: Road) -> None:
    road = sealed_road
    app = _sealed(road)
    mine = {"app": app.id}
    with writing(road.world.engine) as conn:
        stored = conn.scalar(text('SELECT "metaAccessToken" FROM "AppSettings" WHERE "appId" = :app'), mine)
        spoilt = stored[:-4] + ("AAAA" if stored[-4:] != "AAAA" else "BBBB")
        conn.execute(
            text('UPDATE "AppSettings" SET "metaAccessToken" = :to WHERE "appId" = :app'), {"to": spoilt} | mine
        )
    watch.notice_tokens(road.world.engine, Policy(app_id=APP_ID), now=road.time())
    assert road.world.app(app).unreadable is Unreadable.DAMAGED
    link = road.link(app)
    road.meta.login(user="8002")
    Browser().walk(link)
    assert (road.case(app).state, road.case(app).refused) == ("opened", "other_user")
    road.meta.login(user=OWNER)
    assert "Thank you" in Browser().walk(link).text


def test_a_token_whose_key_is_elsewhere_lets_nobody_in_unasked(
    sealed_road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    road = sealed_road
    app = _sealed(road)
    with writing(road.world.engine) as conn:
        cases.open_(conn, str(app.fingerprint), user_id=app.user_id, failure="token_dead", words="", now=road.time())
    _forget_whose(road)
    locked = replace(app, token=None, unreadable=Unreadable.LOCKED)
    monkeypatch.setattr(apps, "holders", lambda *_: [locked])
    Browser().walk(road.link(app))
    assert (road.case(app).state, road.case(app).refused) == ("opened", "our_setup")


def test_a_declined_permission_is_asked_for_again(small_road: Road) -> None:
    app = small_road.a_lost_app()
    small_road.meta.login(user=OWNER, scopes=["business_management"])
    link = small_road.link(app)
    refused = Browser().walk(link)
    assert "ads_management" in refused.text
    assert small_road.case(app).refused_words == "ads_management"
    small_road.meta.login(user=OWNER)
    pressed = Browser().press(link)
    assert query(pressed.headers["location"])["auth_type"] == "rerequest"


def test_a_permission_that_sending_can_do_without_may_be_declined(small_road: Road) -> None:
    app = small_road.a_lost_app()
    small_road.meta.login(user=OWNER, scopes=["ads_management"])
    assert "Thank you" in Browser().walk(small_road.link(app)).text


def test_a_pixel_that_the_dead_token_did_not_reach_either_holds_nobody_up(small_road: Road) -> None:
    world = small_road.world
    one = small_road.a_lost_app(email="owner@example.com")
    two = world.an_app(one.token, email="owner@example.com")
    small_road.meta.login(user=OWNER, pixels=[str(one.pixel_id)])
    link = small_road.link(one)
    refused = Browser().walk(link)
    assert two.name in refused.text
    assert small_road.case(one).refused_words == f"{two.name} (pixel {two.pixel_id})"
    with writing(world.engine) as conn:
        reach.note(conn, str(one.fingerprint), str(two.pixel_id), reached=False, now=small_road.time())
    assert "Thank you" in Browser().walk(link).text
    with reading(world.engine) as conn:
        known = {row.pixel_id: row.reached for row in reach.of(conn, str(world.app(one).fingerprint))}
    assert known == {one.pixel_id: True, two.pixel_id: False}


def test_a_stumble_of_meta_does_not_cost_the_login(small_road: Road) -> None:
    app = small_road.a_lost_app()
    for path in ("exchange", "debug", "pixel"):
        small_road.meta.fault(path, "transient_2", count=1)
    assert "Thank you" in Browser().walk(small_road.link(app)).text


# --- races with the rest of the world


def test_a_token_mended_by_another_path_needs_no_login(road: Road) -> None:
    app = road.a_lost_app()
    browser, link = Browser(), road.link(app)
    callback = browser.to_callback(link)
    newer = road.meta.create_token(user=OWNER)
    with writing(road.world.engine) as conn:
        apps.write_token(conn, app.id, newer, expires_at=road.time() + 60 * DAY)
        cases.close(conn, str(app.fingerprint), now=road.time())
    assert "Facebook is connected" in browser.get(callback, timeout=10).text
    assert road.world.app(app).token == newer


@pytest.mark.parametrize("when", ["before the button", "before the callback", "during the exchange"])
def test_the_platforms_own_new_token_is_never_replaced(road: Road, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform writes AppSettings behind our back, as its own login does (R4)."""
    app = road.a_lost_app()
    link, browser = road.link(app), Browser()
    newer = road.meta.create_token(user=OWNER)

    def write() -> None:
        with writing(road.world.engine) as conn:
            conn.execute(app_settings.update().where(app_settings.c.appId == app.id).values(metaAccessToken=newer))

    if when == "before the button":
        write()
        browser.walk(link)
    else:
        callback = browser.to_callback(link)
        if when == "before the callback":
            write()
        else:
            take_over = road.reconnect.service.take_over
            monkeypatch.setattr(
                road.reconnect.service, "take_over", lambda *args, **more: (write(), take_over(*args, **more))[1]
            )
        browser.get(callback, timeout=10)
    assert "Facebook is connected" in browser.get(link, timeout=10).text
    assert road.world.app(app).token == newer
    assert road.case(app).state == "done"


@pytest.mark.parametrize("when", ["before the button", "before the callback"])
def test_a_merchant_who_was_deleted_connects_nothing(road: Road, when: str) -> None:
    app = road.a_lost_app()
    link, browser = road.link(app), Browser()
    callback = browser.to_callback(link) if when == "before the callback" else None
    with writing(road.world.engine) as conn:
        for table, own in ((app_settings, app_settings.c.appId), (app_table, app_table.c.id)):
            conn.execute(table.delete().where(own == app.id))
        conn.execute(user.delete().where(user.c.id == app.user_id))
    ended = browser.get(callback, timeout=10) if callback else browser.walk(link)
    assert ended.status_code == 200
    assert road.case(app).state == "done"
    with reading(road.world.engine) as conn:
        assert conn.scalar(select(func.count()).select_from(app_settings)) == 0


def test_a_token_lent_to_a_refresh_is_waited_for(road: Road) -> None:
    app = road.a_lost_app()
    link, browser = road.link(app), Browser()
    with writing(road.world.engine) as conn:
        assert tokens.lease(conn, str(app.fingerprint), by="worker-9", now=road.time())
    timer = threading.Timer(0.4, lambda: _let_go(road.world.engine, str(app.fingerprint)))
    timer.start()
    assert "Thank you" in browser.walk(link).text
    timer.join()


def _let_go(engine: Engine, fingerprint: str) -> None:
    with writing(engine) as conn:
        tokens.release(conn, fingerprint, by="worker-9")


# --- without a road


def test_without_a_public_address_links_say_that_they_cannot_be_served(sqlite_engine: Engine) -> None:
    with serving(create_app(sqlite_engine, Settings())) as url:
        for path in ("/reconnect/x", "/auth/facebook/callback?code=c&state=s"):
            answer = requests.get(url + path, timeout=10)
            assert answer.status_code == 503
            assert "right now" in answer.text


def test_the_endpoint_serves_links_where_merchants_reach_it(sqlite_world: World) -> None:
    own = Settings(FACEBOOK_APP_ID=APP_ID, FACEBOOK_APP_SECRET=Secret(APP_SECRET))
    everywhere = own.model_copy(update={"endpoint_host": "0.0.0.0"})
    public = everywhere.model_copy(update={"public_url": "https://events.example.com"})
    made = [wiring.make_reconnect(settings, sqlite_world.service()) for settings in (own, everywhere, public)]
    addresses = [one.redirect_uri if one else None for one in made]
    callback = "/auth/facebook/callback"
    assert addresses == [f"http://127.0.0.1:8000{callback}", None, f"https://events.example.com{callback}"]


def test_without_a_database_the_merchant_is_asked_to_come_back(
    small_road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = small_road.link(small_road.a_lost_app())

    def fail(*_: Any) -> None:
        raise OperationalError("SELECT", {}, Exception("gone"))

    monkeypatch.setattr(Reconnect, "_case", fail)
    answer = requests.get(link, timeout=10)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")


def test_nothing_secret_reaches_a_page_a_log_or_an_address(small_road: Road, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app = small_road.a_lost_app()
    link, browser = small_road.link(app), Browser()
    caplog.clear()
    pages = [browser.get(link, timeout=10)]
    seen = []
    for prepare in (WHY["meta_away"], WHY["code_refused"], lambda road: road.meta.clear_faults()):
        prepare(small_road)
        pressed = browser.press(link)
        dialog = browser.step(pressed)
        pages += [pressed, browser.step(dialog), browser.get(link, timeout=10)]
        seen += [query(dialog.headers["location"])["code"], query(pressed.headers["location"])["state"]]
        seen += [value for name, value in browser.cookies.items() if name.startswith("capi-login")]
    assert small_road.case(app).state == "done"
    fresh = small_road.world.app(app).token
    assert fresh is not None
    # What our side wrote; `urllib3` also speaks for the browser of this test, which may know its own addresses.
    ours = [record for record in caplog.records if record.threadName != threading.main_thread().name]
    logged = "\n".join(record.getMessage() + str(record.__dict__) for record in ours)
    assert ours
    assert not fresh.inside(logged)
    for piece in (*seen, APP_SECRET, link.rsplit("/", 1)[1]):
        assert piece not in logged
    for page in pages:
        shown = page.text
        assert not any(piece in shown for piece in (*seen, APP_SECRET))
        assert not fresh.inside(shown)
        assert not fresh.inside(str(page.headers))
    assert all("state" not in (page.headers.get("location") or "") for page in pages[2::3])
