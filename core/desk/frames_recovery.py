"""What recovery shows as tables: cases, alerts, checks, and the apps that hang on a token."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pandas as pd

from core.desk.alerts import AlertRow, ChannelRow
from core.desk.cases import CaseRow
from core.desk.diagnosis import Check
from core.desk.explain_tokens import explain_token
from core.desk.frames import frame_of, said
from core.desk.queries import Holder, RefreshRow
from core.desk.steps import case_step

_REACH = {True: "yes", False: "no", None: "not known"}


def cases(rows: Sequence[CaseRow], now: datetime) -> pd.DataFrame:
    return frame_of(
        "Owner, Shops, State, Why, Waiting, First lost at, Next step, Sent, Link ends, Remind, Refused, Opened, Done, "
        "Took h, Token",
        (
            (
                row.email or row.user_id,
                shops(row),
                [row.state],
                said(row.failure),
                row.waiting or None,
                row.first_lost_at,
                "" if row.done_at else case_step(row, now),
                row.sent_at,
                row.link_ends_at,
                row.remind_at,
                said(row.refused),
                row.made_at,
                row.done_at,
                (row.done_at - row.made_at).total_seconds() / 3600 if row.done_at else None,
                row.fingerprint,
            )
            for row in rows
        ),
        moments=("First lost at", "Sent", "Link ends", "Remind", "Opened", "Done"),
        numbers=("Waiting", "Took h"),
    )


def shops(row: CaseRow, most: int = 2) -> str:
    """`a.example, b.example and 3 more`."""
    shown = ", ".join(row.shops[:most])
    more = max(row.apps, len(row.shops)) - min(most, len(row.shops))
    if not shown:
        return f"{row.apps} apps" if row.apps != 1 else "1 app"
    return f"{shown} and {more} more" if more > 0 else shown


def alerts(rows: Sequence[AlertRow]) -> pd.DataFrame:
    return frame_of(
        "Alert, Why, What to do, Since",
        ((row.title, said(row.kind), explain_token(row.kind).do, row.opened_at) for row in rows),
        moments=("Since",),
    )


def channels(rows: Sequence[ChannelRow]) -> pd.DataFrame:
    return frame_of(
        "Channel, Failed, Next try, Last sent, Error",
        ((row.title, row.failures, row.next_attempt_at, row.sent_at, row.error or "") for row in rows),
        moments=("Next try", "Last sent"),
        numbers=("Failed",),
    )


def holders(rows: Sequence[Holder]) -> pd.DataFrame:
    return frame_of(
        "App, Shop, Pixel, Reached, Waiting, Meta's words, Trace id, App id",
        (
            (
                row.app_name,
                row.shop or "",
                row.pixel_id or "none",
                [_REACH[row.reached]],
                row.waiting or None,
                row.words or "",
                row.trace_id or "",
                row.public_id,
            )
            for row in rows
        ),
        numbers=("Waiting",),
    )


def last_refreshes(rows: Sequence[RefreshRow]) -> pd.DataFrame:
    return frame_of(
        "At, Outcome, Trigger, By, Ends now, Meta's words, Trace id",
        (
            (
                row.started_at,
                [said(row.outcome)],
                row.trigger.replace("_", " "),
                row.by,
                row.expires_after,
                row.words or "",
                row.trace_id or "",
            )
            for row in rows
        ),
        moments=("At", "Ends now"),
    )


def checks(rows: Sequence[Check]) -> pd.DataFrame:
    return frame_of(
        "Check, Result, What was found, What to do",
        ((row.name[:1].upper() + row.name[1:], [row.state], row.words, row.do) for row in rows),
    )
