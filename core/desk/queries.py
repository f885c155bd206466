"""Everything a person may see: reads only, typed rows, never a secret. What is grouped here lives in its own module."""

from __future__ import annotations

from core.desk.detail import Attempt, EventDetail, event_detail
from core.desk.events import (
    BOUND,
    NOT_ALL,
    VIEWS,
    Cause,
    FailedEvent,
    Filters,
    causes,
    failed_events,
    failed_ids,
    failed_total,
)
from core.desk.health_sql import LEFT
from core.desk.inbound import EventCount, Receipt, ReceiptCount, event_counts, receipt_counts, receipts
from core.desk.overview import Hour, Overview, health_trend, hours, overview
from core.desk.refreshes import RefreshRow, refresh_history, refreshes_per_day
from core.desk.retry import RetryPreview, retry_preview
from core.desk.token_detail import Holder, TokenDetail, token_detail
from core.desk.tokens import (
    SORTS,
    TokenFilters,
    TokenRow,
    days_left,
    due_fingerprints,
    each_token,
    expiries_by_day,
    health_counts,
    held_fingerprints,
    token_health,
)
from core.desk.work import JobItem, JobRow, WorkerRow, job_items, job_progress, jobs, open_jobs, workers

__all__ = [
    "BOUND",
    "LEFT",
    "NOT_ALL",
    "SORTS",
    "VIEWS",
    "Attempt",
    "Cause",
    "EventCount",
    "EventDetail",
    "FailedEvent",
    "Filters",
    "Holder",
    "Hour",
    "JobItem",
    "JobRow",
    "Overview",
    "Receipt",
    "ReceiptCount",
    "RefreshRow",
    "RetryPreview",
    "TokenDetail",
    "TokenFilters",
    "TokenRow",
    "WorkerRow",
    "causes",
    "days_left",
    "due_fingerprints",
    "each_token",
    "event_counts",
    "event_detail",
    "expiries_by_day",
    "failed_events",
    "failed_ids",
    "failed_total",
    "health_counts",
    "health_trend",
    "held_fingerprints",
    "hours",
    "job_items",
    "job_progress",
    "jobs",
    "open_jobs",
    "overview",
    "receipt_counts",
    "receipts",
    "refresh_history",
    "refreshes_per_day",
    "retry_preview",
    "token_detail",
    "token_health",
    "workers",
]
