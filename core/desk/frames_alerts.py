"""Alerts and incidents of the last weeks as tables, with who was told of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import pandas as pd

from core.desk.alerts import PastAlert, Told
from core.desk.explain_tokens import INCIDENTS
from core.desk.frames import frame_of, said
from core.desk.incidents import IncidentRow

Shown = Callable[[datetime], str]


def record(rows: Sequence[PastAlert], shown: Shown) -> pd.DataFrame:
    """`shown` writes a moment on the reader's clock."""
    return frame_of(
        "Alert, Why, State, Opened, Ended, Told",
        (
            (
                one.alert.title,
                said(one.alert.kind),
                ["over" if one.alert.closed_at else "open"],
                one.alert.opened_at,
                one.alert.closed_at,
                "; ".join(_told(told, shown) for told in one.told) or "nobody yet",
            )
            for one in rows
        ),
        moments=("Opened", "Ended"),
    )


def _told(told: Told, shown: Shown) -> str:
    if told.error is None:
        return f"{told.channel} {shown(told.at)}"
    return f"{told.channel} not yet, tried {told.tries:,} times until {shown(told.at)}: {told.error}"


def incidents(rows: Sequence[IncidentRow]) -> pd.DataFrame:
    return frame_of(
        "Incident, State, Opened, Ended, Took h, Refusals, Waited, Meta's words, Trace id",
        (
            (
                INCIDENTS[row.kind].what,
                ["open" if row.is_open else "over"],
                row.opened_at,
                row.closed_at,
                (row.closed_at - row.opened_at).total_seconds() / 3600 if row.closed_at else None,
                row.refusals,
                row.waiting_now if row.is_open else row.waited,
                row.words or "",
                row.trace_id or "",
            )
            for row in rows
        ),
        moments=("Opened", "Ended"),
        numbers=("Took h", "Refusals", "Waited"),
    )


def tests(results: Sequence[tuple[str, str | None]]) -> pd.DataFrame:
    return frame_of("Channel, Result", ((title, error or "took it") for title, error in results))
