"""Every page of the menu: empty, with rows, for each role, for a stranger, and when it cannot be drawn.

What is not in the tables of scenes.py and widgets.py fails: a new page, a new widget, one that is gone.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import streamlit as st
from sqlalchemy import Engine
from streamlit.runtime.state import widgets as registry

from core import clock
from core.desk import keys
from core.desk.operators import NEEDS, ROLES, Operator
from core.doors import console, console_rows
from core.sandbox.client import Sandbox
from core.services.sign_in import LOCAL
from tests.desk import trouble
from tests.desk.rows import MARK
from tests.pages.conftest import ROOT, SignsIn
from tests.pages.crowded import WHO
from tests.pages.scenes import SCENES, Scene
from tests.pages.screen import ENTRIES, Screen, alone, elements
from tests.pages.widgets import AT_THE_SHELL, STOPPED, WIDGETS

# page → what it says while there is nothing to show
EMPTY = {
    "overview": "No app is connected yet",
    "find": "Type or paste what you have in hand",
    "tokens": "No app is connected yet",
    "refresh_history": "Nothing was refreshed in this time",
    "failed_events": "Every event has arrived or is on its way",
    "reconnect": "No token needs its owner",
    "jobs": "Nothing was ordered yet",
    "apps": "No app is connected yet",
    "system": "No worker was ever started",
    "people": "Nobody signs in here",
    "sandbox": "No sandbox is in use",
}
A_SETTING, ITS_DATABASE = "A setting is wrong", "The console cannot see its database"
# what is wrong → the setting or file, its value or that it is gone, the page's title, and what is said of it
AWAY = {
    "nobody answers there": ("DATABASE_URL", "postgresql://capi:sesame@127.0.0.1:1/none", ITS_DATABASE, "127.0.0.1:1"),
    "it is no address": ("DATABASE_URL", "sesame", A_SETTING, "DATABASE_URL"),
    "it is another file": ("DATABASE_URL", "sqlite:///{}/console.db.key", ITS_DATABASE, "file is not a database"),
    "a setting is unknown": ("CAPI_CONSOLE_PROT", "sesame", A_SETTING, "CAPI_CONSOLE_PORT"),
    "a setting is wrong": ("CAPI_CONSOLE_PORT", "sesame", A_SETTING, "CAPI_CONSOLE_PORT"),
    "its key is missing": (
        "console.db.key",
        None,
        A_SETTING,
        "stored tokens are encrypted with a key",
    ),
}


def _sound(screen: Screen, page: str) -> None:
    """What holds for each page, whoever looks at whatever."""
    everything = screen.everything()
    assert ENTRIES[page].title in [title.value for title in screen.at.title]
    assert "traceback" not in everything.lower()
    assert MARK not in everything, "a token is shown"
    assert trouble.EVIL not in screen.words(), "what others wrote is drawn as Markdown"
    unknown = set(screen.widgets()) - set(WIDGETS[page])
    assert not unknown, f"tests/pages/widgets.py has no line for {unknown} of {page}"


def test_the_tables_know_every_page() -> None:
    files = {path.stem for path in (ROOT / "pages").glob("*.py")}
    assert files == set(ENTRIES) == set(EMPTY) == set(WIDGETS) == {scene.page for scene in SCENES}


@pytest.mark.parametrize("page", ENTRIES)
def test_an_empty_page_says_so(store: Engine, page: str) -> None:
    screen = Screen(page)
    _sound(screen, page)
    assert EMPTY[page] in screen.words()


def test_a_health_in_the_address_does_not_hide_that_there_is_no_app(store: Engine) -> None:
    assert EMPTY["tokens"] in Screen("tokens", asks={"health": "EXPIRED"}).words()


@pytest.fixture
def played(meta: Sandbox) -> Sandbox:
    """A sandbox that knows the first token of the crowded database."""
    meta.create_token(token=f"{MARK}00000")
    return meta


@contextmanager
def _set(scene: Scene, played: Sandbox) -> Iterator[None]:
    sets = {**scene.sets, **({"CAPI_GRAPH_URL": played.url} if scene.sandbox else {})}
    with pytest.MonkeyPatch.context() as patched:
        for name, value in sets.items():
            patched.setenv(name, value)
        if scene.paged:
            patched.setattr(console_rows, "PAGE_ROWS", 3)
        st.cache_resource.clear() if sets else None
        yield
    st.cache_resource.clear() if sets else None


Links = set[tuple[str, tuple[tuple[str, str], ...]]]


def _look_through(page: str, role: str, crowded: Engine, played: Sandbox) -> Links:
    """Each scene of a page: what a role may not do is closed, and why is said; the rest is open in some scene.

    (page, what is asked there) of every link.
    """
    somebody, lines, opened, links = Operator(WHO[role], role), WIDGETS[page], set(), set()
    for scene in (scene for scene in SCENES if scene.page == page):
        with _set(scene, played):
            screen = scene.open(crowded)
        _sound(screen, page)
        for name in screen.widgets():
            closed, why = screen.is_closed(name), somebody.why_not(lines[name].needs or "change_password")
            assert closed or why is None, f"{name} is open to {role}: {scene}"
            assert why is None or console._WHY_CLOSED[role] in screen.words(), f"nobody says why {name} is closed"
            opened |= set() if closed else {name}
        links |= {(to, tuple(sorted(asks.items()))) for _, to, asks in screen.links()}
    mine = {name for name, line in lines.items() if somebody.may(line.needs or "change_password")}
    assert opened == mine, f"a widget of {page} is never drawn, or never open to {role}"
    return links


@pytest.mark.parametrize("role", ROLES[:-1])
@pytest.mark.parametrize("page", ENTRIES)
def test_a_page_with_rows_for_who_may_not_do_everything(
    crowded: Engine, played: Sandbox, sign_in: SignsIn, page: str, role: str
) -> None:
    sign_in(crowded, WHO[role])
    _look_through(page, role, crowded, played)


def test_an_admin_sees_every_widget_of_every_page_and_there_is_no_other(
    crowded: Engine, played: Sandbox, sign_in: SignsIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other: each call in our source that draws a widget was carried out by one of the scenes."""
    sign_in(crowded, WHO["admin"])
    drawn: set[tuple[str, int]] = set()
    register = registry.register_widget_from_metadata

    def note(metadata: Any, ctx: Any) -> Any:
        frame = inspect.currentframe()
        while frame is not None and (frame.f_code.co_filename not in SOURCES):
            frame = frame.f_back
        if frame is not None:
            drawn.add((frame.f_code.co_filename, frame.f_lineno))
        return register(metadata, ctx)

    monkeypatch.setattr(registry, "register_widget_from_metadata", note)
    links = set().union(*(_look_through(page, "admin", crowded, played) for page in ENTRIES))
    for page, asks in sorted(links):
        _leads_to(page, dict(asks))
    monkeypatch.setenv("CAPI_CONSOLE_PORT", "wrong")
    st.cache_resource.clear()
    assert Screen("overview").widgets().keys() == STOPPED.keys()
    missed = [call for call in _calls() if not any(file == call.file and line in call.lines for file, line in drawn)]
    assert not missed, f"tests/pages/scenes.py has no scene in which these are drawn: {missed}"


def _leads_to(page: str, asks: dict[str, str]) -> None:
    """A link's page knows what its address asks, and finds something."""
    assert asks.keys() <= WIDGETS[page].keys()
    there = Screen(page, asks=asks)
    assert all(there.value(name) for name in asks)
    assert not re.search(r"\bfits\b|Nothing is called", there.words()), (page, asks)


OURS = (*(ROOT / "pages").glob("*.py"), *(ROOT / "core/doors").glob("console*.py"))
SOURCES = {str(path) for path in OURS if "import streamlit as st" in path.read_text(encoding="utf-8")}


class _Call(NamedTuple):
    file: str
    lines: range
    what: str


def _calls() -> Iterator[_Call]:
    """Every call in our source that draws a widget. Some do so only where they are told to answer, by `on_…`."""
    always, asked = _drawing()
    for file in sorted(SOURCES):
        for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name, answers = node.func.attr, any((word.arg or "").startswith("on_") for word in node.keywords)
                if name in always or (name in asked and answers):
                    yield _Call(file, range(node.lineno, (node.end_lineno or 0) + 1), ast.unparse(node)[:80])


def _drawing() -> tuple[set[str], set[str]]:
    """Streamlit's own functions that draw a widget: always, and where they are told to answer."""
    always, asked = {"form_submit_button"}, set()
    for name in dir(st):
        found = getattr(st, name)
        if not inspect.isroutine(found) or name.startswith("_"):
            continue
        parameters = inspect.signature(found).parameters
        on = [parameter.default for word, parameter in parameters.items() if word.startswith("on_")]
        if on and "key" in parameters:
            (asked if "ignore" in on else always).add(name)
    assert {"button", "text_input", "pagination"} <= always, "Streamlit is written another way by now"
    assert {"dataframe", "plotly_chart"} <= asked
    return always, asked


@pytest.mark.parametrize("page", ENTRIES)
def test_a_stranger_sees_nothing(crowded: Engine, page: str) -> None:
    """Neither in the frame, nor by the page's file alone, which Streamlit can be made to run."""
    for at in (Screen(page).at, alone(page)):
        assert not at.exception
        assert [title.value for title in at.title] == ["You are signed out"]
        shown = {element.type for element in elements(at._tree)}
        assert shown <= {"title", "html"}, shown
        assert not any(word in str(at) for word in ("owner", "myshopify", "app_", "fp_", "bob"))


def test_a_page_asks_who_is_there_before_anything() -> None:
    for page in ENTRIES:
        body = ast.parse((ROOT / "pages" / f"{page}.py").read_text()).body
        first = next(one for one in body[1:] if not isinstance(one, ast.Import | ast.ImportFrom))
        assert ast.unparse(first) == "operator = console.operator()", page


@pytest.mark.parametrize("wrong", AWAY)
def test_a_page_that_cannot_be_drawn_says_why(
    crowded: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    name, value, title, words = AWAY[wrong]
    if value is None:
        keys.rotate(crowded, by=LOCAL, now=clock.now())
        (tmp_path / name).unlink()
    else:
        monkeypatch.setenv(name, value.format(tmp_path))
    st.cache_resource.clear()
    for at in (Screen("overview").at, *map(alone, ENTRIES)):
        assert not at.exception
        assert [one.value for one in at.title] == [title]
        assert len(at.error) == 1
        assert words in at.code[0].value
        assert "sesame" not in str(at)
        assert [button.label for button in at.button] == list(STOPPED)


def test_every_order_has_its_button_or_is_given_at_the_shell() -> None:
    given = {line.needs for lines in WIDGETS.values() for line in lines.values()} - {""}
    assert given | AT_THE_SHELL == set(NEEDS)
    assert not given & AT_THE_SHELL
