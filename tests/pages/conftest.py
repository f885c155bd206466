"""The console under AppTest: its own database, nothing cached between tests."""

from __future__ import annotations

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

ROOT = Path(__file__).parents[2]
Opens = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'console.db'}")
    monkeypatch.setattr("core.logs.setup", lambda *_: None)
    monkeypatch.setattr("core.logs.adopt_foreign_handlers", lambda: None)
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
    """Opens a page of the console with widgets set, by key; fails on an exception in it."""

    def go(page: str = "overview", **widgets: object) -> AppTest:
        at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=30)
        at.run()
        if page != "overview":
            at.switch_page(f"pages/{page}.py")
        for key, value in widgets.items():
            at.session_state[key] = value
        at.run()
        assert not at.exception, at.exception
        return at

    return go
