"""Commands about events: look at them, send them, send them again."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import Annotated, Any

import orjson
import typer
from sqlalchemy import Engine

from core import clock
from core.desk import commands, ledger, queries
from core.doors import cli_inbound, cli_times, wiring
from core.doors.cli_jobs import wait_for
from core.doors.cli_shell import META_APP, NOT_DONE, AsJson, operator, say, show, store
from core.doors.cli_times import Since, TimeZone, Until
from core.errors import BadInput, Refused
from core.services.send import send_with_refresh
from core.store.database import reading
from core.store.outbox import STATES

# What can be sent again, by the state it is in → the way the desk looks at it.
RETRIED = {"dead": "dead", "due": "retrying"}


def add_to(root: typer.Typer) -> None:
    commands_ = (("events", events), ("receipts", cli_inbound.receipts), ("retry", retry), ("send", send))
    for name, command in commands_:
        root.command(name)(command)


def events(
    state: Annotated[str | None, typer.Option(help=f"Only these: {', '.join(STATES)}.")] = None,
    app: Annotated[str | None, typer.Option(help="Only of this app (public appId).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    count: Annotated[
        bool, typer.Option("--count", help="How many by app, name, state and reason, in place of each.")
    ] = False,
    since_hours: Annotated[int, typer.Option(min=1, max=24 * 400, help="With --count: look back so many hours.")] = 168,
    as_json: AsJson = False,
) -> None:
    """The latest events and what became of them."""
    if state is not None and state not in STATES:
        raise BadInput(f"--state: {state!r} is none of: {', '.join(STATES)}")
    rows = _counted(state, app, since_hours) if count else _latest(state, app, limit)
    show(rows, as_json=as_json, empty="no event")


def _latest(state: str | None, app: str | None, limit: int) -> list[dict[str, object]]:
    with store() as (_, engine), reading(engine) as conn:
        found = ledger.latest_events(conn, now=clock.now(), state=state, app=app, limit=limit)
    return [
        {
            "id": str(row.id),
            "received": row.received_at,
            "app": row.app_name,
            "event": row.event_name,
            "event_id": row.event_id,
            "source": row.source,
            "order": row.order_id,
            "value": row.value,
            "currency": row.currency,
            "state": row.state,
            "failure": row.failure,
            "attempts": row.attempts,
            "after refresh": row.after_refresh,
        }
        for row in found
    ]


def _counted(state: str | None, app: str | None, since_hours: int) -> list[dict[str, object]]:
    if state == "sending":
        raise BadInput("--count: what is being sent counts as due")
    since = clock.now() - timedelta(hours=since_hours)
    with store() as (_, engine), reading(engine) as conn:
        found = queries.event_counts(conn, since=since, state=state, app=app)
    return [
        {
            "app": one.app_name,
            "appId": one.public_id,
            "event": one.event_name,
            "state": one.state,
            "reason": one.failure,
            "count": one.count,
        }
        for one in found
    ]


def retry(
    event: Annotated[
        list[int] | None, typer.Option(min=1, max=2**63 - 1, help="Id of an event, as `events` prints it; repeat it.")
    ] = None,
    state: Annotated[str | None, typer.Option(help=f"All in this state: {', '.join(RETRIED)}.")] = None,
    failure: Annotated[str | None, typer.Option(help="With --state: only those that failed so.")] = None,
    search: Annotated[str | None, typer.Option(help="With --state: only those that a search finds.")] = None,
    since: Since = None,
    until: Until = None,
    time_zone: TimeZone = None,
    reason: Annotated[str | None, typer.Option(help="Goes into the audit trail.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send events again that have failed, and wait for the worker to do it."""
    if bool(event) == (state is not None):
        raise BadInput("say what to send again: --event (once or more) or --state")
    if state is not None and state not in RETRIED:
        raise BadInput(f"--state: {state!r} is none of: {', '.join(RETRIED)}; parked events go by themselves")
    if event and any((failure, search, since, until)):
        raise BadInput("--failure, --search, --since and --until go with --state: --event says already which")
    now = clock.now()
    span = cli_times.span(since, until, now=now, zone=cli_times.zone(time_zone))
    with store() as (_, engine):
        wanted = event or _failed(engine, queries.Filters(RETRIED[str(state)], failure, search, **span), now)
        with reading(engine) as conn:
            preview = queries.retry_preview(conn, wanted, now=clock.now())
        if preview.retried and not yes:
            for words, count in preview.skipped.items():
                say(f"{count} will be left out: {words}")
            typer.confirm(f"Send {preview.retried} event(s) again?", abort=True)
        job = commands.order_retry(engine, wanted, by=operator(), reason=reason, now=clock.now())
        wait_for(engine, job, what="sending again", as_json=as_json)


def _failed(engine: Engine, filters: queries.Filters, now: datetime) -> list[int]:
    with reading(engine) as conn:
        found = queries.failed_ids(conn, filters, now=now, everything=True)
    if not found:
        raise Refused("there is no such event")
    return found


def send(
    app: Annotated[str, typer.Option(help="The app's public appId.")],
    as_json: AsJson = False,
) -> None:
    """Send the Conversions API events that come in on standard input (JSON), mending the token if need be."""
    given = _from_input()
    with store(require=META_APP) as (settings, engine):
        service = wiring.make_service(settings, engine, kind="shell")
        sent = send_with_refresh(service, app, given, by=operator().name)
    rows: list[dict[str, object]] = [
        {
            "event_id": one.event_id,
            "state": one.state,
            "failure": one.failure,
            "after refresh": one.after_refresh,
        }
        for one in sent
    ]
    show(rows, as_json=as_json, empty="no event")
    if any(one.state in ("dead", "skipped") for one in sent):
        raise typer.Exit(NOT_DONE)


def _from_input() -> list[dict[str, Any]]:
    """A list of events, one event, or Meta's own `{"data": […]}`."""
    try:
        given = orjson.loads(sys.stdin.buffer.read())
    except orjson.JSONDecodeError as error:
        raise BadInput(f"standard input holds no JSON ({error})") from None
    found = given.get("data", [given]) if isinstance(given, dict) else given
    if not isinstance(found, list) or not found:
        raise BadInput('standard input: a list of events is expected, or {"data": […]}')
    for number, event in enumerate(found, start=1):
        moment = event.get("event_time", 0) if isinstance(event, dict) else None
        if not isinstance(moment, int) or isinstance(moment, bool) or abs(moment) > 10**11:
            raise BadInput(f"standard input: event {number} is not an object with event_time in whole seconds")
    return found
