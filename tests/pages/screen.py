"""A page of the console as somebody sees and uses it: its widgets by name, its tables, its words, its files."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs

import pandas as pd
import pytest
import streamlit as st
from streamlit.elements.lib.utils import user_key_from_element_id
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Block
from streamlit.util import calc_hash

from core.doors import console, console_server
from tests.pages.conftest import ROOT

ENTRIES = {entry.file.removesuffix(".py"): entry for group in console.MENU.values() for entry in group}
# What a table of rows is called beside its own name: how often it was emptied of ticks, and which rows it holds.
_ROWS = re.compile(r"\.\d+\.[0-9a-f]{12}$")
# A widget that is drawn for one thing, an app or an operator, is called by what it is for any of them.
_ONE = re.compile(r"\.(app-\d{5}|ada|bob|vi|eve|lou)$")


class Screen:
    """An open page. What is used by name is noted in `used`; nothing is used that a person could not use."""

    def __init__(self, page: str, *, asks: Mapping[str, str] | None = None, ticked: Mapping[str, Any] | None = None):
        self.at = AppTest.from_file(str(console_server.MAIN), default_timeout=30)
        # The page's own address, as a browser opens it: `switch_page` would have the first page drawn before. Beside
        # streamlit_app.py stands a folder `pages`, from which AppTest would run the page's file without the frame.
        self.at._page_hash = calc_hash(ENTRIES[page].url_path)
        for name, value in (asks or {}).items():
            self.at.query_params[name] = value
        for table, rows in (ticked or {}).items():
            self.at.session_state[f"{table}.chosen"] = list(rows)
        self.used: set[str] = set()
        self.run()

    def run(self) -> Screen:
        self.at.run()
        assert not self.at.exception, self.at.exception
        return self

    # ---- what is seen

    def widgets(self) -> dict[str, Any]:
        """Everything that can be used, by name; each name stands for one thing."""
        found: dict[str, Any] = {}
        for element in elements(self.at._tree):
            name = _name(element)
            if name is not None:
                assert name not in found, f"two widgets are called {name}"
                found[name] = element
        return found

    def links(self) -> list[tuple[str, str, dict[str, str]]]:
        """(label, page, what its address asks there) of every link to another page."""
        pages = {calc_hash(entry.url_path): page for page, entry in ENTRIES.items()}
        found = [element.proto for element in elements(self.at._tree) if element.type == "page_link"]
        return [(one.label, pages[one.page_script_hash], _asked(one.query_string)) for one in found]

    def value(self, name: str) -> Any:
        return self.widgets()[name].value

    def is_closed(self, name: str) -> bool:
        return bool(getattr(self.widgets()[name].proto, "disabled", False))

    def rows(self, name: str = "") -> pd.DataFrame:
        """The table of this name, else the last that is drawn; empty when there is none."""
        if name:
            found: pd.DataFrame = self.widgets()[name].value
            return found
        return self.at.dataframe[-1].value if self.at.dataframe else pd.DataFrame()

    def charts(self) -> list[str]:
        return [element.proto.spec for element in elements(self.at._tree) if element.type == "plotly_chart"]

    def words(self) -> str:
        """What is shown as Markdown: nothing that others wrote may be in it."""
        at = self.at
        kinds = (at.title, at.header, at.subheader, at.markdown, at.caption, at.info, at.warning, at.error, at.success)
        return "\n".join(element.value for kind in (*kinds, at.toast) for element in kind)

    def plain(self) -> str:
        return "\n".join(element.value for kind in (self.at.code, self.at.text) for element in kind)

    def everything(self) -> str:
        """Whatever reaches the browser."""
        tables = "\n".join(frame.value.to_csv() for frame in self.at.dataframe)
        return f"{self.at}\n{self.words()}\n{self.plain()}\n{tables}"

    # ---- what is done

    def fill(self, **values: Any) -> Screen:
        """Type or choose, by name (`new__name` is `new.name`); it reaches the page with the next `run` or `press`."""
        for name, value in values.items():
            self._use(name.replace("__", ".")).set_value(value)
        return self

    def choose(self, name: str, value: Any) -> Screen:
        self._use(name).set_value(value)
        return self.run()

    def press(self, name: str) -> Screen:
        self._use(name).click()
        return self.run()

    def tick(self, name: str, *rows: int) -> Screen:
        """Tick these rows of a table, and no others."""
        key = self._use(name).key
        self.at.session_state[key] = {"selection": {"rows": list(rows), "columns": [], "cells": []}}
        return self.run()

    def _use(self, name: str) -> Any:
        named = self.widgets()
        stands = next((one for one in named if one == name or one == f"{name}.*"), None)
        assert stands is not None, f"there is no {name} among {sorted(named)}"
        self.used.add(stands)
        return named[stands]


class Files:
    """What would be downloaded: AppTest presses the button and never sees the file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._made: dict[str, tuple[str, Callable[[], BytesIO]]] = {}
        drawn = st.download_button

        def draw(label: str, data: Callable[[], BytesIO], *, file_name: str, **look: Any) -> bool:
            self._made[label] = file_name, data
            return drawn(label, data, file_name=file_name, **look)

        monkeypatch.setattr(st, "download_button", draw)

    def taken(self, screen: Screen, name: str) -> tuple[str, list[str]]:
        """(its name, its lines) of the file behind a button."""
        screen.press(name)
        file_name, make = self._made[name]
        raw = make().getvalue()
        assert raw.startswith(BOM_UTF8), "a spreadsheet takes names for something else than UTF-8"
        return file_name, raw.decode("utf-8-sig").splitlines()


def alone(page: str) -> AppTest:
    """A page's file run by itself, as Streamlit would if it were asked for its address without the frame."""
    return AppTest.from_file(str(ROOT / "pages" / f"{page}.py"), default_timeout=30).run()


def elements(node: Any) -> Iterator[Any]:
    children: Iterable[Any] = getattr(node, "children", {}).values()
    for child in children:
        if not isinstance(child, Block):
            yield child
        yield from elements(child)


def _name(element: Any) -> str | None:
    """What a widget is called here: its key, else its label; None for what cannot be used."""
    proto = element.proto
    if not getattr(proto, "id", "") or (element.type == "plotly_chart" and not proto.selection_mode):
        return None
    key = user_key_from_element_id(proto.id)
    if key is None or key.startswith("FormSubmitter:"):
        return str(proto.label)
    return _ONE.sub(".*", _ROWS.sub("", key))


def _asked(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query.removeprefix("?")).items()}
