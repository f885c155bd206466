"""When sending an event again cannot help, in words."""

from __future__ import annotations

from datetime import datetime

from core.store.outbox import REDACTED

# Why a dead event cannot be sent again: its content was dropped in time (`core.store.retention`).
CONTENT_GONE = "its content was kept long enough and is gone"


def why_no_retry(
    state: str,
    failure: str | None,
    deadline_at: datetime,
    *,
    now: datetime,
    waits: bool = False,
    stored: bool = True,
) -> str | None:
    """Why an event cannot be sent again by an order, in words; None when it can.

    `waits`: for its browser; `stored`: its content is there.
    """
    if waits:
        return "waits for its browser, for a minute at most, and goes by itself then"
    if failure == REDACTED:
        return "was emptied for privacy, there is nothing left to send"
    if state == "parked" and failure != "permission":
        return "waits for its token and goes out by itself once that is mended"
    if state not in ("dead", "due", "parked"):
        return f"is {state} already"
    if deadline_at <= now:
        return "its deadline has passed"
    return None if stored else CONTENT_GONE
