"""How tables look: column widths, badges and moments on the reader's clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from core.desk.explain import OUTCOMES
from core.desk.frames import said
from core.doors import charts
from core.doors.console import zone_name
from core.store.health import Health

_STATES = {
    "parked": "#d9a017",
    "due": "#3f82dc",
    "sending": "#3f82dc",
    "dead": "#c0392b",
    "queued": "#8a94a3",
    "running": "#3f82dc",
    "paused": "#d9a017",
    "done": "#2f9568",
    "cancelled": "#8a94a3",
    "made": "#c0392b",
    "sent": "#3f82dc",
    "opened": "#7b6fc9",
    "expired": "#e0662f",
    "alive": "#2f9568",
    "silent": "#c0392b",
    "stopped": "#8a94a3",
}
_APPS = {"ready": "#2f9568", "no token": "#d9a017", "no pixel": "#d9a017", "paused": "#8a94a3"}
_APPS |= {"orders missing": "#c0392b", "silent": "#e0662f"}
_REACHED = {"yes": "#2f9568", "no": "#c0392b", "not known": "#8a94a3"}
_CHECKED = {"ok": "#2f9568", "failed": "#c0392b", "warning": "#d9a017", "not checked": "#8a94a3"}
_ROW, _HEAD, _MOST = 30, 32, 620
# Streamlit breaks lines in rows of more than 4 rem only.
_TWO_LINES = 58

SORT_WORDS = {
    "urgency": "Most urgent first",
    "ends": "Ends soonest first",
    "shop": "Shop",
    "app": "App",
    "user": "User",
    "waiting": "Most waiting first",
}


def sort_choice(place: Any, sorts: Mapping[str, object]) -> str:
    """The order of the token table, kept in the address."""
    with place:
        return st.selectbox(
            "Order", list(sorts), key="sort", bind="query-params", format_func=SORT_WORDS.__getitem__, width=200
        )


def tokens(rows: int, *, alt: str) -> dict[str, Any]:
    c = st.column_config
    return table(
        rows,
        alt,
        {
            "Shop": c.TextColumn(width=190),
            "App": c.TextColumn(width=150),
            "Health": badges("Health", {str(word): charts.HEALTH[word][0] for word in Health}),
            "Ends": at("Ends", year=True),
            "Days left": c.NumberColumn(format="%.1f", width=80),
            "Waiting": c.NumberColumn(format="localized", width=80, help="Events parked until this token is mended"),
            "Last refresh": at("Last refresh", relative=True),
            "Next step": c.TextColumn(width=300),
            "Token": c.TextColumn(help="The token's fingerprint; the token itself is never shown"),
            "Platform": c.TextColumn(help="What the platform's own monitoring query says"),
        },
    )


def health(rows: int, *, most_apps: int, alt: str) -> dict[str, Any]:
    c = st.column_config
    columns = {
        "Health": badges("Health", {str(word): charts.HEALTH[word][0] for word in Health}, width=120),
        "Apps": c.ProgressColumn(format="localized", min_value=0, max_value=max(1, most_apps), width=125),
        "Last 14 days": c.LineChartColumn(
            width=130, help="Apps at the end of each day (UTC), and now, from low to high"
        ),
    }
    return table(rows, alt, columns)


def refreshes(rows: int, *, alt: str) -> dict[str, Any]:
    c = st.column_config
    colours = {said(word): charts.OUTCOMES[word][0] for word in OUTCOMES}
    return table(
        rows,
        alt,
        {
            "At": at("At"),
            "Outcome": badges("Outcome", colours),
            "Trigger": c.TextColumn(width=90),
            "Ended before": at("Ended before", year=True),
            "Ends now": at("Ends now", year=True),
            "Apps": c.NumberColumn(width=60, help="Apps that hold another token since"),
            "Meta's words": c.TextColumn(width=260),
        },
    )


def failed(rows: int, *, alt: str) -> dict[str, Any]:
    c = st.column_config
    return table(
        rows,
        alt,
        {
            "State": badges("State", _STATES),
            "Shop": c.TextColumn(width=190),
            "Value": c.NumberColumn(format="%.2f", width=80),
            "Currency": c.TextColumn(width=70),
            "Lost at": at("Lost at", help="From then on Meta does not take it any more"),
            "Received": at("Received"),
            "Tries": c.NumberColumn(width=60),
        },
    )


def causes(rows: int, *, alt: str) -> dict[str, Any]:
    """Two lines to a row: what is to be done is read here, at any width."""
    c = st.column_config
    columns = {
        "Cause": c.TextColumn(width=110),
        "State": c.TextColumn(width=70),
        "Whose": c.TextColumn(width=75),
        "Events": c.TextColumn(width=65, alignment="right"),
        "Apps": c.NumberColumn(width=50),
        "What to do": c.TextColumn(width=330),
        "First lost at": at("First lost at", width=105),
        "Oldest": at("Oldest", relative=True, width=95),
        "Money": c.TextColumn(width=190),
    }
    return table(rows, alt, columns, row=_TWO_LINES)


def jobs(rows: int, *, alt: str) -> dict[str, Any]:
    c = st.column_config
    return table(
        rows,
        alt,
        {
            "Job": c.NumberColumn(format="%d", width=60),
            "State": badges("State", _STATES),
            "Progress": c.ProgressColumn(format="percent", min_value=0, max_value=1),
            "Ordered": at("Ordered"),
            "Ended": at("Ended"),
        },
    )


def items(rows: int, *, alt: str) -> dict[str, Any]:
    return table(rows, alt, {"Words": st.column_config.TextColumn(width=500)})


def workers(rows: int, *, alt: str) -> dict[str, Any]:
    columns = {
        "State": badges("State", _STATES),
        "Heard of": at("Heard of", relative=True),
        "Started": at("Started"),
    }
    return table(rows, alt, columns)


def cases(rows: int, *, alt: str) -> dict[str, Any]:
    c = st.column_config
    return table(
        rows,
        alt,
        {
            "Owner": c.TextColumn(width=190),
            "Shops": c.TextColumn(width=240),
            "State": badges("State", _STATES),
            "Waiting": c.NumberColumn(format="localized", width=70, help="Events that wait for this token"),
            "First lost at": at("First lost at", help="From then on Meta does not take the first of them any more"),
            "Next step": c.TextColumn(width=270),
            "Sent": at("Sent", relative=True, width=120),
            "Link ends": at("Link ends", relative=True),
            "Remind": at("Remind", relative=True),
            "Opened": at("Case opened"),
            "Done": at("Done"),
            "Took h": c.NumberColumn("Took, hours", format="%.1f", width=90, help="From the case's opening to its end"),
            "Token": c.TextColumn(help="The token's fingerprint; the token itself is never shown"),
        },
    )


def alerts(rows: int, *, alt: str) -> dict[str, Any]:
    c = st.column_config
    columns = {
        "Alert": c.TextColumn(width=400),
        "Why": c.TextColumn(width=105),
        "What to do": c.TextColumn(width=490),
        "Since": at("Since", relative=True, width=105),
    }
    return table(rows, alt, columns)


def channels(rows: int, *, alt: str) -> dict[str, Any]:
    columns = {
        "Failed": st.column_config.NumberColumn("Failed in a row", width=110),
        "Next try": at("Next try"),
        "Last sent": at("Last sent", relative=True),
        "Error": st.column_config.TextColumn(width=420),
    }
    return table(rows, alt, columns)


def holders(rows: int, *, alt: str) -> dict[str, Any]:
    reached = badges("Reached", _REACHED, help="Whether Meta lets this token use this pixel")
    columns = {"Reached": reached, "Waiting": st.column_config.NumberColumn(format="localized", width=80)}
    return table(rows, alt, columns)


def last_refreshes(rows: int, *, alt: str) -> dict[str, Any]:
    colours = {said(word): charts.OUTCOMES[word][0] for word in OUTCOMES}
    ends = at("Ends now", year=True)
    return table(rows, alt, {"At": at("At"), "Outcome": badges("Outcome", colours), "Ends now": ends})


def checks(rows: int, *, alt: str) -> dict[str, Any]:
    c = st.column_config
    columns = {
        "Check": c.TextColumn(width=150),
        "Result": badges("Result", _CHECKED, width=110),
        "What was found": c.TextColumn(width=420),
        "What to do": c.TextColumn(width=420),
    }
    return table(rows, alt, columns, most=1_200)


def apps(rows: int, *, alt: str) -> dict[str, Any]:
    c = st.column_config
    columns = {
        "Shop": c.TextColumn(width=200),
        "App": c.TextColumn(width=170),
        "State": badges("State", _APPS, width=120),
        "Owner": c.TextColumn(width=190),
        "Consent": c.TextColumn(width=80, help="What happens where a visitor was not asked"),
        "Paused": at("Paused", relative=True),
        "Token": c.TextColumn(help="The token's fingerprint; the token itself is never shown"),
    }
    return table(rows, alt, columns)


def orders(rows: int, *, alt: str) -> dict[str, Any]:
    c = st.column_config
    kept = "Test orders, no consent, other channels: what this app's rules keep from Meta"
    columns = {
        "Day": c.TextColumn(width=100),
        "Kept back": c.NumberColumn(width=90, help=kept),
        "What became of them": c.TextColumn(width=520),
    }
    return table(rows, alt, columns)


def keys(rows: int, *, alt: str) -> dict[str, Any]:
    c = st.column_config
    return table(rows, alt, {"Tokens": c.NumberColumn(format="localized", width=80)})


def settings(rows: int, *, alt: str) -> dict[str, Any]:
    c = st.column_config
    columns = {
        "Setting": c.TextColumn(width=260),
        "Value": c.TextColumn(width=320),
        "From": c.TextColumn(width=100),
        "What it is": c.TextColumn(width=620),
    }
    return table(rows, alt, columns, most=1_600)


def table(rows: int, alt: str, columns: dict[str, Any], *, most: int = _MOST, row: int = _ROW) -> dict[str, Any]:
    """How a table of so many rows looks, as arguments of `st.dataframe`."""
    height = min(most, _HEAD + row * max(1, rows) + 4)
    return {"column_config": columns, "row_height": row, "height": height, "alt": alt, "placeholder": ""}


def at(
    label: str, *, relative: bool = False, year: bool = False, help: str | None = None, width: int | None = None
) -> Any:
    """A column of moments on the reader's clock; which one that is stands in its header's help."""
    clock = f"Local time ({zone_name()}); files to take away give UTC, too"
    help = f"{help}. {clock}" if help else clock
    form = "distance" if relative else "D MMM YYYY, HH:mm" if year else "D MMM, HH:mm"
    return st.column_config.DatetimeColumn(label, format=form, timezone=zone_name(), help=help, width=width)


def badges(label: str, colours: dict[str, str], *, help: str | None = None, width: int | None = None) -> Any:
    """A column of one-word badges."""
    words, shades = list(colours), list(colours.values())
    return st.column_config.MultiselectColumn(label, options=words, color=shades, help=help, width=width)
