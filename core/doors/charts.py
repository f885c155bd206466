"""The console's charts: read without colour alone (patterns, labels), quiet, in the theme's own colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import plotly.graph_objects as go

from core.desk import health_sql
from core.desk.frames import said
from core.desk.queries import Hour
from core.store.health import Health

# word → (colour, pattern)
Looks = dict[str, tuple[str, str]]
# health → (colour that stands on light and dark ground, pattern)
HEALTH: dict[Health, tuple[str, str]] = {
    Health.NEEDS_RECONNECT: ("#c0392b", "x"),
    Health.EXPIRED: ("#e0662f", "/"),
    Health.EXPIRING_SOON: ("#d9a017", "\\"),
    Health.RENEWING: ("#3f82dc", "."),
    Health.NO_EXPIRY: ("#8a94a3", "-"),
    Health.VALID: ("#2f9568", ""),
    Health.NEVER: ("#7b6fc9", "+"),
}
_LEFT = (
    Health.EXPIRED,
    *[Health.EXPIRING_SOON] * 2,
    *[Health.RENEWING] * 2,
    *[Health.VALID] * 2,
    Health.NO_EXPIRY,
)
# days left → the looks of the health that such tokens stand in by default
LEFT: Looks = {word: HEALTH[health] for word, health in zip(health_sql.LEFT, _LEFT, strict=True)}
OUTCOMES: Looks = {
    "extended": ("#2f9568", ""),
    "new_token_same_expiry": ("#6fb98f", "."),
    "adopted": ("#3f82dc", "."),
    "reconnected": ("#1c7f95", "/"),
    "still_valid": ("#7b6fc9", "+"),
    "not_extended": ("#8a94a3", "-"),
    "unreachable": ("#d9a017", "\\"),
    "refused": ("#e0662f", "/"),
    "needs_reconnect": ("#c0392b", "x"),
}
TRIGGERS: Looks = {
    "scheduled": ("#2f9568", ""),
    "on_error": ("#e0662f", "/"),
    "manual": ("#3f82dc", "."),
    "bulk": ("#7b6fc9", "+"),
    "reconnect": ("#1c7f95", "\\"),
    "api": ("#8a94a3", "-"),
}
# what bars of refreshes are stacked by → the looks of its words
REFRESHES = {"outcome": OUTCOMES, "trigger": TRIGGERS}
# How Plotly behaves: no tool bar, no logo, no zoom by accident.
PLAIN = {"displayModeBar": False, "displaylogo": False, "scrollZoom": False}
_PATTERN = {"size": 6, "solidity": 0.22, "fillmode": "overlay", "fgcolor": "rgba(255,255,255,0.75)"}
_GREEN, _BLUE, _RED = "#2f9568", "#3f82dc", "#c0392b"


def expiry_calendar(
    days: Sequence[tuple[int, Health, int]], *, start: datetime, unit: str = "apps", count: int = 60
) -> go.Figure:
    """Apps whose token ends, or the events that hang on them, by day from `start`, stacked by health."""
    dates = [start + timedelta(days=day) for day in range(count)]
    figure = go.Figure()
    for health, (colour, pattern) in HEALTH.items():
        found = {day: height for day, word, height in days if word is health}
        if found:
            heights = [found.get(day, 0) for day in range(count)]
            figure.add_bar(x=dates, y=heights, name=str(health), marker=_marker(colour, pattern))
    span = dates[0] - timedelta(hours=12), dates[-1] + timedelta(hours=12)
    return _quiet(figure, unit, days="day in UTC", span=span)


def days_left(counts: Mapping[str, int]) -> go.Figure:
    """A histogram of days left: how many apps have so many, most urgent on top; the number stands at each bar."""
    words = list(counts)[::-1]
    figure = go.Figure()
    figure.add_bar(
        y=words,
        x=[counts[word] for word in words],
        orientation="h",
        text=[f"{counts[word]:,}" for word in words],
        textposition="outside",
        cliponaxis=False,
        marker={
            "color": [LEFT[word][0] for word in words],
            "pattern": {"shape": [LEFT[word][1] for word in words], **_PATTERN},
        },
    )
    _quiet(figure, "")
    figure.update_xaxes(visible=False, range=[0, max(1, *counts.values()) * 1.2])
    figure.update_yaxes(showgrid=False)
    return figure.update_layout(showlegend=False, hovermode=False, bargap=0.25, height=270)


def deliveries(hours: Sequence[Hour], *, zone: datetime | None = None) -> go.Figure:
    """Events per hour: delivered at once, delivered after a refresh, refused."""
    tz = zone.tzinfo if zone else None
    at = [hour.at.astimezone(tz) for hour in hours]
    figure = go.Figure()
    first = [hour.delivered - hour.after_refresh for hour in hours]
    figure.add_bar(x=at, y=first, name="Delivered", marker=_marker(_GREEN, ""))
    late = [hour.after_refresh for hour in hours]
    figure.add_bar(x=at, y=late, name="Delivered after refresh", marker=_marker(_BLUE, "."))
    figure.add_bar(x=at, y=[hour.refused for hour in hours], name="Refused (each try)", marker=_marker(_RED, "x"))
    return _quiet(figure, "events")


def refreshes(days: Sequence[tuple[datetime, str, int]], looks: Looks) -> go.Figure:
    """Refreshes per day, stacked by what they came to or what set them off: OUTCOMES or TRIGGERS."""
    figure = go.Figure()
    for word, (colour, pattern) in looks.items():
        found = [(day, count) for day, its, count in days if its == word]
        if found:
            x, y = zip(*found, strict=True)
            figure.add_bar(x=list(x), y=list(y), name=said(word), marker=_marker(colour, pattern))
    return _quiet(figure, "refreshes", days="day in UTC")


def _marker(colour: str, pattern: str) -> dict[str, object]:
    return {"color": colour, "pattern": {"shape": pattern, **_PATTERN}}


def _quiet(
    figure: go.Figure, unit: str, *, days: str | None = None, span: tuple[datetime, datetime] | None = None
) -> go.Figure:
    figure.update_layout(
        barmode="stack",
        bargap=0.2,
        height=240 if days else 200,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"orientation": "h", "y": 1.12, "x": 0, "yanchor": "bottom"},
        hovermode="x unified",
        yaxis={"title": unit, "rangemode": "tozero", "tickformat": ",d", "fixedrange": True},
        xaxis={"title": days, "fixedrange": True},
    )
    if span:
        figure.update_xaxes(range=list(span))
    return _whole(figure)


def _whole(figure: go.Figure) -> go.Figure:
    """Whole numbers at the axis of low bars: left alone it says 0, 1, 1 where it means 0, ½, 1."""
    if any(bar.orientation == "h" for bar in figure.data):
        return figure
    heights: Counter[object] = Counter()
    for bar in figure.data:
        for at, height in zip(bar.x, bar.y, strict=True):
            heights[at] += height
    top = max(heights.values(), default=0)
    if top < 4:
        figure.update_yaxes(range=[0, max(1, top) * 1.05], dtick=1)
    return figure
