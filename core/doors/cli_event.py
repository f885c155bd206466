"""One event in full at the shell: where it stands, why, and what Meta said of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer

from core.desk import queries
from core.desk.detail import EventDetail
from core.desk.diagnosis_store import said
from core.desk.explain import explain
from core.doors.cli_shell import AsJson, cell, say, show_json, store
from core.store.database import reading

_WIDE = 14


def add_to(root: typer.Typer) -> None:
    root.command("event")(event)


def event(
    number: Annotated[int, typer.Argument(min=1, max=2**63 - 1, help="Id of the event, as `events` prints it.")],
    as_json: AsJson = False,
) -> None:
    """One event in full: its state, why, whose move it is, Meta's words and trace id."""
    with store() as (_, engine), reading(engine) as conn:
        seen = queries.event_detail(conn, number)
    if as_json:
        show_json(_all(seen))
        return
    for name, value in _facts(seen):
        if value not in (None, ""):
            say(f"{name:<{_WIDE}}{cell(value)}")


def _all(seen: EventDetail) -> dict[str, Any]:
    found = asdict(seen) | {"id": str(seen.id), "explanation": None}
    if seen.failure:
        why = explain(seen.failure)
        found["explanation"] = {"what": why.what, "whose": why.whose, "do": why.do}
    return found


def _facts(seen: EventDetail) -> Iterator[tuple[str, object]]:
    yield "event", f"{seen.event_name} {seen.event_id}"
    yield "app", f"{seen.app_name or seen.app_id}, pixel {seen.pixel_id}"
    yield "order", seen.order_id
    yield "source", seen.source
    yield "happened", seen.event_time
    yield "received", seen.received_at
    yield "deadline", seen.deadline_at
    yield "state", seen.state
    yield "delivered", seen.delivered_at
    yield "waits for", seen.waits_for
    yield "next try", seen.next_attempt_at
    if seen.failure:
        why = explain(seen.failure)
        yield "failure", seen.failure
        yield "what", why.what
        yield "whose move", why.whose
        yield "what to do", why.do
    if last := seen.attempt:
        yield (
            "last request",
            f"{cell(last.at)}, {last.events} event(s), HTTP {last.status or '-'}, token {last.fingerprint}",
        )
        yield "Meta said", said(last.words, last.code, last.subcode, last.trace_id)
