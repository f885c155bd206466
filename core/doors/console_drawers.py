"""One thing in full, below its table. What others wrote is shown as plain text, never as Markdown."""

from __future__ import annotations

import streamlit as st

from core.desk import frames, queries
from core.desk.explain import explain, meaning
from core.doors import console
from core.doors import console_times as times
from core.errors import NotFound


def event(event_id: int) -> None:
    """What happened to one event, whose move it is, and what Meta said."""
    with console.looking() as conn:
        try:
            seen = queries.event_detail(conn, event_id)
        except NotFound:
            st.info("This event is not stored any more.")
            return
    said = explain(seen.failure)
    with st.container(border=True):
        st.subheader(said.what)
        st.caption(f"{said.whose}: {said.do}.")
        find(seen.event_id)
        left, right = st.columns(2, gap="large")
        with left:
            _line(seen)
        with right:
            _attempt(seen)
        if seen.payload is not None:
            with st.expander("What Meta would hear", icon=":material/data_object:"):
                st.caption("Personal data is stored hashed only; addresses and browser ids are not shown.")
                st.json(seen.payload)


def find(what: str) -> None:
    """A link to the whole story of something, by what it is called.

    Streamlit drops a parameter on the way to a page when the page before has bound one of the same name: each page
    calls its search by a name of its own.
    """
    st.page_link(console.page("find"), label="Its whole story", icon=":material/search:", query_params={"q": what})


def _line(seen: queries.EventDetail) -> None:
    worth = f", {seen.value:,.2f} {seen.currency or ''}" if seen.value is not None else ""
    lines = [
        f"Event       {seen.event_name}{worth}",
        f"Event id    {seen.event_id}",
        f"Order       {seen.order_id or '–'}",
        f"Shop        {seen.shop or '–'} ({seen.app_name or 'deleted app'})",
        f"Pixel       {seen.pixel_id}",
        f"Came by     {seen.source}",
        f"State       {seen.state}, {frames.said(seen.failure)}; tries: {seen.attempts}",
    ]
    if seen.waits_for is not None:
        lines.append(f"Waits for   {seen.waits_for or 'a first token'}")
    st.code("\n".join(lines), language=None)
    sent_at = seen.attempt.at if seen.attempt else None
    rows = [("Happened", seen.event_time), ("Received", seen.received_at), ("Last sent", sent_at)]
    rows += [("Next try", seen.next_attempt_at), ("Lost at", seen.deadline_at)]
    times.table(row for row in rows if row[1] is not None)


def _attempt(seen: queries.EventDetail) -> None:
    attempt = seen.attempt
    if attempt is None:
        st.text("It was never sent to Meta.")
        return
    code = "/".join(str(number) for number in (attempt.code, attempt.subcode) if number is not None)
    means = meaning(attempt.code, attempt.subcode, attempt.words)
    lines = [
        f"Request     events in it: {attempt.events}, {attempt.duration_ms} ms",
        f"Answer      HTTP {attempt.status or '–'}, code {code or '–'}" + (f", {means}" if means else ""),
        f"Trace id    {attempt.trace_id or '–'}",
        f"Token       {attempt.fingerprint}",
        "",
        attempt.words or "Meta said nothing.",
    ]
    st.code("\n".join(lines), language=None, wrap_lines=True)
    if attempt.answer:
        with st.expander("Meta's answer", icon=":material/description:"):
            st.code(attempt.answer, language=None, wrap_lines=True)


def refresh(row: queries.RefreshRow) -> None:
    """One refresh: what it came to, whose move it is, and what Meta said."""
    said = explain(row.outcome)
    code = "/".join(str(number) for number in (row.code, row.subcode) if number is not None)
    means = meaning(row.code, row.subcode, row.words)
    with st.container(border=True):
        st.subheader(f"{frames.said(row.outcome)}: {said.what}")
        st.caption(f"{said.whose}: {said.do}.")
        if row.trace_id:
            find(row.trace_id)
        lines = [
            f"Token       {row.fingerprint} → {row.new_fingerprint or 'kept'}",
            f"Owner       {row.email or '–'}",
            f"Asked by    {row.by}, {row.trigger.replace('_', ' ')}",
            f"Took        {row.duration_ms:,} ms",
            f"Apps        {row.apps_updated:,} hold the new token",
            f"Code        {code or '–'}" + (f", {means}" if means else ""),
            f"Trace id    {row.trace_id or '–'}",
            "",
            f"Meta: {row.words or 'said nothing'}",
        ]
        st.code("\n".join(lines), language=None, wrap_lines=True)
        ends = ("Ended before", row.expires_before), ("Ends now", row.expires_after)
        times.table([("At", row.started_at), *ends])
