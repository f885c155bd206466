"""Signing in as a person does it: the form, a page's own address, F5, another tab, and out again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core import clock
from core.desk import people
from core.services.sign_in import LOCAL
from tests.browser.conftest import Console, a_console
from tests.browser.screens import CHROMIUM, settle
from tests.browser.test_axe import AXE, RULES
from tests.doors.oidc_provider import CLIENT, CLIENT_SECRET, a_provider

PASSWORD = "correct horse battery"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium on this machine"),
]


def test_in_by_the_form_and_out_in_every_tab(console: Console, page: Any) -> None:
    people.add_operator(console.engine, "ada", role="admin", password=PASSWORD, by=LOCAL, now=clock.now())
    broken: list[str] = []
    page.on("console", lambda line: "Content Security Policy" in line.text and broken.append(line.text))
    page.goto(f"{console.url}/tokens?health=EXPIRED")
    assert page.get_by_role("heading", level=1).inner_text() == "Sign in to the CAPI console"
    page.keyboard.type("Ada")
    page.keyboard.press("Tab")
    page.keyboard.type("a wrong password")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("Name or password is wrong.").wait_for()
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/tokens?health=EXPIRED")
    settle(page)
    page.reload()
    settle(page)
    assert page.get_by_role("heading", level=1).inner_text() == "Token health"
    assert page.get_by_test_id("stSidebar").get_by_text("ada, admin").count() == 1
    kept = page.context.cookies()
    cookie = next(one for one in kept if one["name"] == "capi_session")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    other = page.context.new_page()
    other.goto(f"{console.url}/jobs")
    settle(other)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login")
    other.wait_for_url("**/login?next=/jobs", timeout=20_000)
    assert "capi_session" not in {one["name"] for one in page.context.cookies()}
    page.goto(f"{console.url}/tokens")
    page.wait_for_url("**/login?next=/tokens")
    assert broken == []
    said = console.log.read_text()
    assert PASSWORD not in said
    assert cookie["value"] not in said


def test_with_an_account_kept_elsewhere_to_the_page_and_out(tmp_path: Path, page: Any) -> None:
    """The provider is another site to the browser: what it leads back with must bring our cookie along."""
    with a_provider(clock.now, host="localhost") as provider:
        provider.asks = True
        settings = {"ISSUER": provider.url, "CLIENT_ID": CLIENT, "CLIENT_SECRET": CLIENT_SECRET, "NAME": "Example"}
        more = {f"CAPI_OIDC_{name}": value for name, value in settings.items()}
        with a_console(tmp_path, **more) as console:
            people.add_operator(
                console.engine, "ana@example.com", role="admin", password=None, by=LOCAL, now=clock.now()
            )
            broken: list[str] = []
            page.on("console", lambda line: "Content Security Policy" in line.text and broken.append(line.text))
            page.goto(console.url)
            assert _faults(page) == []
            page.get_by_role("link", name="Sign in with Example").click()
            page.wait_for_url(f"{provider.url}/authorize?**")
            page.get_by_role("link", name="I am Ana").click()
            page.wait_for_url(f"{console.url}/")
            settle(page)
            assert page.get_by_role("heading", level=1).inner_text() == "Overview"
            assert page.get_by_test_id("stSidebar").get_by_text("ana@example.com, admin").count() == 1
            kept = {one["name"]: one for one in page.context.cookies()}
            assert "capi_oidc" not in kept
            assert (kept["capi_session"]["httpOnly"], kept["capi_session"]["sameSite"]) == (True, "Lax")
            page.get_by_role("button", name="Sign out").click()
            page.wait_for_url("**/login")
            provider.claims["email"] = "eve@example.com"
            page.get_by_role("link", name="Sign in with Example").click()
            page.get_by_role("link", name="I am Ana").click()
            page.get_by_role("heading", name="You are not signed in").wait_for()
            assert _faults(page) == []
            page.get_by_role("link", name="Back to the form").click()
            page.wait_for_url("**/login")
            assert broken == []
            assert CLIENT_SECRET not in console.log.read_text()


def _faults(page: Any) -> list[str]:
    """What axe finds on a page of ours, which holds nothing of Streamlit's."""
    page.evaluate(AXE)
    return [rule["id"] for rule in page.evaluate(RULES)["violations"]]
