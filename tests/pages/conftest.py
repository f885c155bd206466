"""The console under AppTest: its own database, nothing cached between tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from sqlalchemy import Engine
from streamlit import config
from streamlit.testing.v1 import AppTest

from core import clock
from core.store import database, migrate
from tests.desk.rows import seed
from tests.pages.crowded import crowd, signed_in

ROOT = Path(__file__).parents[2]
Opens = Callable[..., AppTest]
SignsIn = Callable[[Engine, str], None]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'console.db'}")
    monkeypatch.setattr("core.logs.setup", lambda *_: None)
    monkeypatch.setattr("core.logs.adopt_foreign_handlers", lambda: None)
    # AppTest reads every installed package's metadata for components of its own: two thirds of what a page costs here.
    manager = "streamlit.components.v2.component_manager.BidiComponentManager"
    monkeypatch.setattr(f"{manager}.discover_and_register_components", lambda *_, **__: None)
    config.set_option("client.showErrorDetails", "full")
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Engine]:
    engine = database.open_engine(f"sqlite:///{tmp_path / 'console.db'}")
    migrate.prepare(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def world(store: Engine) -> Engine:
    seed(store, now=clock.now(), apps=60, events=400)
    return store


@pytest.fixture
def opens() -> Opens:
    """Opens a page of the console with widgets set, by key, for a browser in a zone; fails on an exception in it."""

    def go(page: str = "overview", zone: str | None = None, **widgets: object) -> AppTest:
        at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=30)
        at.context["timezone"] = zone
        at.run()
        if page != "overview":
            at.switch_page(f"pages/{page}.py")
        for key, value in widgets.items():
            at.session_state[key] = value
        at.run()
        assert not at.exception, at.exception
        return at

    return go


@pytest.fixture(scope="session")
def crowded_file(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Path:
    """A database with everything in it that a page can show."""
    path = Path(shutil.copy(sqlite_template, tmp_path_factory.mktemp("crowded") / "console.db"))
    engine = database.open_engine(f"sqlite:///{path}")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("core.services.passwords.COST", (4, 8, 1))
        migrate.prepare(engine)
        crowd(engine, now=clock.now())
    engine.dispose()
    return path


@pytest.fixture
def crowded(crowded_file: Path, tmp_path: Path) -> Iterator[Engine]:
    """A copy of it and of its key, which this test's pages show."""
    for file in crowded_file.parent.iterdir():
        shutil.copy(file, tmp_path)
    engine = database.open_engine(f"sqlite:///{tmp_path / 'console.db'}")
    migrate.prepare(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def sign_in(monkeypatch: pytest.MonkeyPatch) -> SignsIn:
    """Has somebody of the crowded database sit before the browser from now on."""

    def go(engine: Engine, name: str) -> None:
        cookie = signed_in(engine, name, now=clock.now())
        monkeypatch.setattr("core.doors.console._cookie", lambda: cookie)

    return go
