"""Rows as tables for the screen: pandas, the columns a person reads, and never a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from core.desk.explain import explain
from core.desk.queries import BOUND, Cause, FailedEvent, JobItem, JobRow, RefreshRow, TokenRow, WorkerRow
from core.store.health import Health

_SAID = {
    "token_expired": "Token expired",
    "token_dead": "Token gone",
    "token_soft": "Token in doubt",
    "app_config": "Our settings",
    "permission": "Not permitted",
    "rate_limited": "Rate limited",
    "transient": "Meta in trouble",
    "invalid_event": "Event refused",
    "unknown": "Unknown refusal",
}


def said(word: str | None) -> str:
    """A failure, reason or outcome as it is read on screen: `past_deadline` → `Past deadline`."""
    return _SAID.get(word or "") or (word or "").replace("_", " ").capitalize()


def tokens(rows: Sequence[TokenRow]) -> pd.DataFrame:
    return frame_of(
        "Shop, App, Health, Ends, Days left, Waiting, Last refresh, Outcome, Next step, User, Pixel, Token, Platform",
        (
            (
                row.shop or "",
                row.app_name,
                [str(row.health)],
                row.expires_at,
                row.days_left,
                row.waiting or None,
                row.last_refresh_at,
                said(row.last_outcome),
                row.next_step,
                row.email,
                row.pixel_id or "",
                row.fingerprint or "",
                row.platform,
            )
            for row in rows
        ),
        moments=("Ends", "Last refresh"),
        numbers=("Days left", "Waiting"),
    )


def health(counts: Mapping[Health, int], trend: Mapping[Health, Sequence[int]]) -> pd.DataFrame:
    """A row for each health: apps now, and how many there were day by day."""
    return frame_of(
        "Health, Apps, Last 14 days",
        (([str(word)], apps, list(trend[word])) for word, apps in counts.items()),
        numbers=("Apps",),
    )


def refreshes(rows: Sequence[RefreshRow]) -> pd.DataFrame:
    return frame_of(
        "At, Outcome, Trigger, By, App, User, Ended before, Ends now, Apps, Code, Meta's words, "
        "Trace id, Took ms, Token",
        (
            (
                row.started_at,
                [said(row.outcome)],
                row.trigger.replace("_", " "),
                row.by,
                row.shop or row.app_name or "",
                row.email or "",
                row.expires_before,
                row.expires_after,
                row.apps_updated,
                _code(row.code, row.subcode),
                row.words or "",
                row.trace_id or "",
                row.duration_ms,
                row.new_fingerprint or row.fingerprint,
            )
            for row in rows
        ),
        moments=("At", "Ended before", "Ends now"),
        numbers=("Apps", "Took ms"),
    )


def failed(rows: Sequence[FailedEvent]) -> pd.DataFrame:
    return frame_of(
        "Event, Cause, State, Shop, Order, Value, Currency, Lost at, Received, Tries, Event id, Pixel",
        (
            (
                row.event_name,
                said(row.failure),
                [row.state],
                row.shop or row.app_name or "",
                row.order_id or "",
                None if row.value is None else float(row.value),
                row.currency or "",
                row.deadline_at,
                row.received_at,
                row.attempts,
                row.event_id,
                row.pixel_id,
            )
            for row in rows
        ),
        moments=("Lost at", "Received"),
        numbers=("Value", "Tries"),
    )


def causes(rows: Sequence[Cause]) -> pd.DataFrame:
    return frame_of(
        "Cause, State, Whose, Events, Apps, What to do, First lost at, Oldest, Money",
        (
            (
                said(row.failure),
                row.state,
                explain(row.failure).whose,
                count(row.events),
                row.apps,
                explain(row.failure).do,
                row.first_deadline_at,
                row.oldest_at,
                money(row.money),
            )
            for row in rows
        ),
        moments=("First lost at", "Oldest"),
        numbers=("Apps",),
    )


def jobs(rows: Sequence[JobRow]) -> pd.DataFrame:
    return frame_of(
        "Job, What, State, Progress, Of, Went well, Failed, Skipped, By, Reason, Ordered, Ended",
        (
            (
                row.id,
                said(row.kind),
                [row.state],
                row.done / row.total if row.total else 1.0,
                row.total,
                row.ok,
                row.failed,
                row.skipped,
                row.by,
                row.reason or "",
                row.created_at,
                row.ended_at,
            )
            for row in rows
        ),
        moments=("Ordered", "Ended"),
        numbers=("Job", "Progress", "Of", "Went well", "Failed", "Skipped"),
    )


def items(rows: Sequence[JobItem]) -> pd.DataFrame:
    return frame_of(
        "Subject, Result, Words",
        ((row.subject, row.outcome or "not done", row.words or "") for row in rows),
    )


def workers(rows: Sequence[WorkerRow]) -> pd.DataFrame:
    return frame_of(
        "Worker, State, Heard of, Started, Version",
        (
            (
                row.worker,
                ["alive" if row.alive else "stopped" if row.stopped_at else "silent"],
                row.seen_at,
                row.started_at,
                row.version,
            )
            for row in rows
        ),
        moments=("Heard of", "Started"),
    )


def count(number: int) -> str:
    """`4,812`, or `100,000+` where counting stopped."""
    return f"{number:,}" + ("+" if number >= BOUND else "")


def money(sums: dict[str, Any]) -> str:
    """`12,400 EUR, 310 USD`, the most first; empty without any."""
    ordered = sorted(sums.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{value:,.0f} {currency}" for currency, value in ordered)


def _code(code: int | None, subcode: int | None) -> str:
    return "/".join(str(number) for number in (code, subcode) if number is not None)


def frame_of(columns: str, rows: Any, *, moments: tuple[str, ...] = (), numbers: tuple[str, ...] = ()) -> pd.DataFrame:
    """`columns` separated by commas. Column types are named, so that an empty table looks like a full one."""
    frame = pd.DataFrame(list(rows), columns=columns.split(", "))
    for name in moments:
        frame[name] = pd.to_datetime(frame[name], utc=True)
    for name in numbers:
        frame[name] = pd.to_numeric(frame[name])
    return frame
