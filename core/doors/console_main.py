"""What Streamlit runs: the frame around every page. Pages are named by absolute paths, because a folder `pages` beside
the main script would make Streamlit serve each file straight from its address."""

from __future__ import annotations

import streamlit as st

from core.doors import console, console_sandbox
from core.doors.console_server import ROOT


def render() -> None:
    st.set_page_config(page_title="CAPI console", page_icon="📡", layout="wide")
    console.style()
    pages = {section: [_page(entry) for entry in entries] for section, entries in console.MENU.items()}
    page = st.navigation(pages)
    console.frame()
    page.run()


def _page(entry: console.Entry) -> st.Page:
    """A page that is not for here is hidden only: who has its address reads why."""
    return st.Page(
        ROOT / "pages" / entry.file,
        title=entry.title,
        icon=entry.icon,
        url_path=entry.url_path,
        default=entry.url_path == "",
        visibility="hidden" if entry.sandbox and not console_sandbox.here() else "visible",
    )


if __name__ == "__main__":
    render()
