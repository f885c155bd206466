"""Moments on a page: on the reader's clock, and in UTC where they are pointed at; the one way for all pages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from html import escape

import streamlit as st

from core.doors import console


def when(moment: datetime | None, *, seconds: bool = False) -> str:
    """HTML: `23 Nov 14:05` with UTC in its title, which is shown where the keyboard or a finger stands on it, too
    (`console._STYLE`); a dash without a moment."""
    if moment is None:
        return "–"
    shown = f"{console.local(moment):{'%d %b, %H:%M:%S' if seconds else '%d %b %H:%M'}}"
    utc = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    return f'<time datetime="{moment.isoformat()}" title="{utc}" tabindex="0">{shown}</time>'


def caption(words: str) -> None:
    """A caption with moments in it: our own words and `when`, nothing that others wrote."""
    st.caption(words, unsafe_allow_html=True)


def table(rows: Iterable[tuple[str, datetime | None] | tuple[str, datetime | None, str]]) -> None:
    """What happened when, a line each: (name, moment, plain words behind it)."""
    lines = (
        f"<tr><th scope=row>{escape(name)}</th><td>{when(moment)}{escape(''.join(more))}</td></tr>"
        for name, moment, *more in rows
    )
    st.html(f'<table class="times" aria-label="Times">{"".join(lines)}</table>')
