"""Orders from a page: asked once more, given once, followed while the worker carries them out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import streamlit as st
from sqlalchemy import Connection

from core import clock
from core.desk import commands, frames, queries
from core.desk.operators import Operator
from core.doors import console
from core.doors.console_rows import clear_rows
from core.errors import CoreError

_LIVE, _CALM = 1.0, 10.0


def confirm(
    title: str,
    lines: Sequence[str],
    order: Callable[[str], object],
    *,
    clears: str = "",
    done: str = "",
    possible: bool = True,
    yes: str = "Yes, order it",
    asks_why: bool = True,
    needs_why: bool = False,
    plain: str = "",
) -> None:
    """Ask once more, with the exact count and a box for the reason; then order and close.

    `lines` are ours and may be Markdown; `plain` is what others wrote. `needs_why`: not without a reason.

    The order is given in the button's callback, so that it is given once however often the script runs.
    """

    @st.dialog(title, icon=":material/help:", on_dismiss=_answered)
    def ask() -> None:
        if st.session_state.pop("answered", False):
            st.rerun()
        for line in lines:
            st.write(line)
        if plain:
            st.code(plain, language=None, wrap_lines=True)
        if asks_why:
            st.text_input("Reason", key="reason", placeholder="Stands in the audit trail", max_chars=200)
        if st.session_state.pop("reason.missing", False):
            st.warning("Say why first: so many at once want a reason.", icon=":material/edit_note:")
        given: dict[str, Any] = {"on_click": _give, "args": (order, done, clears, needs_why)}
        st.button(yes, type="primary", key="yes", disabled=not possible, icon=":material/check:", **given)

    for left_over in ("answered", "reason.missing"):
        st.session_state.pop(left_over, None)
    st.session_state["asking"] = True
    ask()


def _give(order: Callable[[str], object], done: str, clears: str, needs_why: bool) -> None:
    if needs_why and not st.session_state.get("reason", "").strip():
        st.session_state["reason.missing"] = True
        return
    try:
        job_id = order(st.session_state.get("reason", ""))
    except CoreError as error:
        st.session_state["notice"] = ("refused", str(error))
    else:
        words = done or f"Job {job_id} is ordered: its progress shows on the left"
        st.session_state["notice"] = ("ordered", words)
        if clears:
            clear_rows(clears)
    st.session_state["answered"] = True


def _answered() -> None:
    st.session_state["asking"] = False


def job_buttons(job: queries.JobRow, operator: Operator) -> None:
    """An open job can be paused, go on, or be cancelled."""
    engine, left = console.engine(), job.total - job.done
    with st.container(horizontal=True):
        if job.state == "paused":
            may = operator.may("resume_job")
            look: dict[str, Any] = {"type": "primary", "icon": ":material/play_arrow:", "disabled": not may}
            st.button("Go on with this job", key="resume", on_click=_resume, args=(job.id, operator), **look)
        elif st.button("Pause this job", disabled=not operator.may("pause_job"), icon=":material/pause:", key="pause"):
            confirm(
                "Pause this job?",
                [f"{job.done:,} of {job.total:,} are done; {left:,} wait until somebody goes on with the job."],
                lambda why: commands.pause_job(engine, job.id, by=operator, reason=why, now=clock.now()),
                done=f"Job {job.id} is paused",
                yes="Yes, pause it",
            )
        if st.button("Cancel this job", disabled=not operator.may("cancel_job"), icon=":material/cancel:"):
            confirm(
                "Cancel this job?",
                [f"{job.done:,} of {job.total:,} are done and stay done; the rest is left as it is."],
                lambda why: commands.cancel_job(engine, job.id, by=operator, reason=why, now=clock.now()),
                done=f"Job {job.id} is cancelled",
            )


def _resume(job_id: int, operator: Operator) -> None:
    try:
        commands.resume_job(console.engine(), job_id, by=operator, now=clock.now())
    except CoreError as error:
        st.session_state["notice"] = ("refused", str(error))
    else:
        st.session_state["notice"] = ("ordered", f"Job {job_id} goes on")


def notices() -> None:
    """What became of the last order, once."""
    kind, words = st.session_state.pop("notice", (None, ""))
    if kind == "ordered":
        st.toast(words, icon=":material/check_circle:")
    elif kind == "refused":
        st.toast("This was not ordered: the reason stands at the top of the page", icon=":material/block:")
        st.error("This was not ordered:", icon=":material/block:")
        st.text(words)
    for note in st.session_state.pop("notes", ()):
        st.info("Good to know:", icon=":material/info:")
        st.text(note)


def live_jobs() -> None:
    """Progress of open jobs by itself; when the last one ends the page is drawn anew, selections stay."""
    notices()
    st.session_state["asking"] = False
    with console.looking() as conn:
        running = queries.open_jobs(conn)
        _tell_ended(conn, st.session_state.get("jobs.running", set()) - {job.id for job in running})
    st.session_state["jobs.running"] = {job.id for job in running}
    with st.sidebar:
        st.fragment(_progress, run_every=_LIVE if running else _CALM)()


def _tell_ended(conn: Connection, ended: Collection[int]) -> None:
    """How the jobs that were running a moment ago came out."""
    for job_id in ended:
        if (job := queries.job_progress(conn, job_id)) is not None:
            icon = ":material/error:" if job.failed else ":material/check_circle:"
            words = f"Job {job.id} {job.state}: {job.ok:,} went well, {job.failed:,} failed, {job.skipped:,} skipped"
            st.toast(words, icon=icon, duration="long")


def _progress() -> None:
    with console.looking() as conn:
        running = queries.open_jobs(conn)
        silent = not any(worker.alive for worker in queries.workers(conn, now=clock.now()))
    for job in running:
        words = f"Job {job.id}: {frames.said(job.kind).lower()}, {job.done:,} of {job.total:,}"
        words += ", paused" if job.state == "paused" else ""
        st.progress(job.done / job.total if job.total else 1.0, text=words)
    if silent:
        st.warning(
            "No worker is alive: events and orders wait. Start one with `capi-console worker`.",
            icon=":material/warning:",
        )
    # A page drawn anew would close the question that somebody is answering.
    if st.session_state.get("jobs.running", set()) != {job.id for job in running} and not st.session_state.get(
        "asking"
    ):
        st.rerun()
