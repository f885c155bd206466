"""Waiting for ordered work at the shell: a bar for people, the last word as JSON for scripts."""

from __future__ import annotations

import time
from collections.abc import Callable

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine

from core import clock
from core.desk import queries
from core.desk.queries import JobRow
from core.doors.cli_shell import NOT_DONE, complain, say, show_json
from core.errors import Refused
from core.store.database import reading

_POLL = 0.25


def wait_for(engine: Engine, job_id: int, *, what: str, as_json: bool) -> None:
    """Until the job has ended; exit code 1 when some of it failed. Refused when no worker is there to do it."""
    job = _watch(engine, job_id, what)
    if as_json:
        show_json({"job": job.id, "state": job.state, "ok": job.ok, "failed": job.failed, "skipped": job.skipped})
    else:
        say(f"job {job.id} {job.state}: {job.ok} ok, {job.failed} failed, {job.skipped} skipped")
        _tell_what_failed(engine, job)
    if job.failed or job.state != "done":
        raise typer.Exit(NOT_DONE)


def _watch(engine: Engine, job_id: int, what: str) -> JobRow:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what)

        def show(job: JobRow) -> None:
            bar.update(task, completed=job.done, total=job.total)

        return _until_ended(engine, job_id, show)


def _until_ended(engine: Engine, job_id: int, show: Callable[[JobRow], None]) -> JobRow:
    while True:
        with reading(engine) as conn:
            job = queries.job_progress(conn, job_id)
            alive = any(worker.alive for worker in queries.workers(conn, now=clock.now()))
        show(job)
        if not job.is_open:
            return job
        if not alive:
            raise Refused(f"job {job_id} is ordered, but no worker runs to do it: start `capi-console worker`")
        time.sleep(_POLL)


def _tell_what_failed(engine: Engine, job: JobRow) -> None:
    if not (job.failed or job.skipped):
        return
    with reading(engine) as conn:
        items = queries.job_items(conn, job.id, limit=10_000)
    for item in items:
        if item.outcome in ("failed", "skipped"):
            complain(f"{item.subject} {item.outcome}: {item.words}")
