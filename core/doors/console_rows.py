"""Rows on a page: chosen by id, paged, taken away as a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import tzinfo
from hashlib import sha1
from io import BytesIO
from typing import Any, Literal

import streamlit as st
from sqlalchemy import Connection

from core.desk import exports
from core.doors import console

PAGE_ROWS = 200
Mode = Literal["multi-row", "single-row"]


def select_rows(name: str, frame: Any, ids: Sequence[Any], *, mode: Mode = "multi-row", **kwargs: Any) -> list[Any]:
    """The ids of the rows a person has chosen.

    Streamlit keeps positions, which point at other rows once the data changes
    (https://github.com/streamlit/streamlit/issues/17026): so the widget is a new one for each list of ids, and what
    was chosen, also by the click that caused this run, is carried over by id. Rows of other pages are not chosen.
    """
    remembered = _chosen(name)
    generation = st.session_state.setdefault(f"{name}.generation", 0)
    digest = sha1("\n".join(map(str, ids)).encode(), usedforsecurity=False).hexdigest()[:12]
    key = f"{name}.{generation}.{digest}"
    places = {id_: place for place, id_ in enumerate(ids)}
    default: Any = {"selection": {"rows": [places[id_] for id_ in remembered if id_ in places]}}
    chosen = st.dataframe(
        frame,
        key=key,
        on_select="rerun",
        selection_mode=mode,
        selection_default=default,
        hide_index=True,
        **kwargs,
    )
    rows = [ids[place] for place in chosen["selection"]["rows"] if place < len(ids)]
    st.session_state[f"{name}.chosen"], st.session_state[f"{name}.shown"] = rows, (key, list(ids))
    return rows


def _chosen(name: str) -> list[Any]:
    """The ids that were chosen in the table as it was last shown."""
    key, ids = st.session_state.get(f"{name}.shown", (None, []))
    state = st.session_state.get(key) if key else None
    if state is None:
        return list(st.session_state.get(f"{name}.chosen", []))
    return [ids[place] for place in state["selection"]["rows"] if place < len(ids)]


def clear_rows(name: str) -> None:
    """Untick everything, after an order was given."""
    st.session_state[f"{name}.chosen"], st.session_state[f"{name}.shown"] = [], (None, [])
    st.session_state[f"{name}.generation"] = st.session_state.get(f"{name}.generation", 0) + 1


def pages(total: int, *, key: str) -> int:
    """Which page of `total` rows is looked at, from 1; kept in the address."""
    last = max(1, -(-total // PAGE_ROWS))
    if st.session_state.get(key, 1) > last:
        st.session_state[key] = 1
    return st.pagination(last, key=key, bind="query-params") if last > 1 else 1


def cursor(name: str, filters: Mapping[str, Any]) -> Any:
    """Where this page of a table that is paged by key begins; None at its start, and whenever a filter changes."""
    shape = repr(sorted((key, str(value)) for key, value in filters.items() if key != "since"))
    if st.session_state.get(f"{name}.filters") != shape:
        st.session_state[f"{name}.filters"], st.session_state[f"{name}.cursors"] = shape, []
    cursors: list[Any] = st.session_state[f"{name}.cursors"]
    return cursors[-1] if cursors else None


def pager(name: str, *, after: Any) -> None:
    """Back and on; `after` is the key of this page's last row, None on the last page."""
    cursors: list[Any] = st.session_state[f"{name}.cursors"]
    if not cursors and after is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        st.button("Back", key=f"{name}.back", disabled=not cursors, on_click=_back, args=(cursors,))
        st.caption(f"Page {len(cursors) + 1}")
        st.button("On", key=f"{name}.on", disabled=after is None, on_click=cursors.append, args=(after,))


def _back(cursors: list[Any]) -> None:
    cursors.pop()


def download(label: str, name: str, lines: Callable[[Connection, tzinfo], Iterator[str]]) -> None:
    """A CSV file that is made when it is asked for, line by line, with the reader's own clock."""
    zone = console.zone()  # where the file is made nobody's browser is known

    def make() -> BytesIO:
        file = BytesIO()
        with console.looking() as conn:
            file.writelines(exports.as_file(lines(conn, zone)))
        return file

    st.download_button(
        f"{label} (CSV)", make, file_name=name, mime="text/csv", on_click="ignore", icon=":material/download:"
    )
