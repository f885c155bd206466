"""Failed events sent again: the ticked ones, or all that fit the filters, with a seat belt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import streamlit as st

from core import clock
from core.desk import commands, frames, queries
from core.desk.operators import Operator
from core.doors import console
from core.doors import console_orders as orders
from core.errors import Refused

_SAMPLE = 5


def buttons(
    operator: Operator,
    chosen: Sequence[int],
    *,
    filters: queries.Filters,
    total: int,
    shown: Sequence[queries.FailedEvent],
    now: datetime,
) -> None:
    """`shown`: the first rows of all that match, for a sample."""
    may = operator.may("retry_events")
    if st.button(f"Retry selected ({len(chosen)})", type="primary", disabled=not chosen or not may, key="retry"):
        preview = _preview(chosen, now)
        orders.confirm(
            "Send the selected events again?",
            [f"{preview.retried:,} of {len(chosen):,} selected events go out again.", *_left_out(preview)],
            _order(list(chosen), operator),
            clears="events",
            possible=preview.retried > 0,
        )
    help_ = None if filters.narrow else queries.NOT_ALL
    everything = f"Retry all that match ({frames.count(total)})"
    if st.button(everything, disabled=not (total and may and filters.narrow), key="retry_all", help=help_):
        _ask_for_all(operator, filters, shown, now)


def _ask_for_all(
    operator: Operator, filters: queries.Filters, shown: Sequence[queries.FailedEvent], now: datetime
) -> None:
    """What is asked about is what is ordered: the ids are taken here, and whatever comes later is not among them."""
    try:
        with console.looking() as conn:
            ids = queries.failed_ids(conn, filters, now=now)
    except Refused as error:
        st.info(str(error), icon=":material/filter_alt:")
        return
    preview = _preview(ids, now)
    sample = "\n".join(
        f"{row.event_name}, {row.shop or row.app_name or row.app_id}, {row.order_id or row.event_id}"
        for row in shown[:_SAMPLE]
    )
    more = f"\n… and {len(ids) - _SAMPLE:,} more" if len(ids) > _SAMPLE else ""
    orders.confirm(
        "Send all of these again?",
        [
            f"**{preview.retried:,}** of {len(ids):,} events that match now go out again; what comes later does not.",
            *_left_out(preview),
            "The job can be cancelled under Jobs; its result, row by row, is there as CSV.",
        ],
        _order(ids, operator),
        clears="events",
        possible=preview.retried > 0,
        needs_why=True,
        plain=f"{sample}{more}",
    )


def _preview(ids: Sequence[int], now: datetime) -> queries.RetryPreview:
    with console.looking() as conn:
        return queries.retry_preview(conn, ids, now=now)


def _left_out(preview: queries.RetryPreview) -> list[str]:
    return [f"{count:,} stay: {why}." for why, count in preview.skipped.items()]


def _order(ids: Sequence[int], operator: Operator) -> Callable[[str], object]:
    return lambda why: commands.order_retry(console.engine(), ids, by=operator, reason=why, now=clock.now())
