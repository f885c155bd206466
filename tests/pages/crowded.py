"""A database in which everything is there that a page can show: made once, copied for each test."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Engine, select, text

from core.desk import people
from core.desk.explain import FAILURES, OUTCOMES
from core.desk.operators import Operator
from core.services.sign_in import LOCAL
from core.store import audit, jobs, lockouts, operators, sessions
from core.store.database import writing
from core.store.schema import capi_alert, capi_event, capi_incident, capi_job, capi_lockout, capi_outbox, capi_refresh
from core.store.schema_ledger import capi_ledger
from tests.desk import trouble
from tests.desk.rows import DAY, HOUR, seed

PASSWORD: Final = "correct horse battery"
# Who can be there; Eve is disabled, and Lou has guessed too often.
STAFF: Final = {"ada": "admin", "bob": "support", "vi": "viewer", "eve": "support", "lou": "viewer"}
WHO: Final = {role: name for name, role in reversed(STAFF.items())}
SAME_ORDER: Final = "#7"
# option → the first apps of the made-up world, in this order, that lack something or are told of
PAUSED, NO_TOKEN, NO_PIXEL, NO_DOMAIN, MISSING, SILENT = (f"app-{number:05d}" for number in range(54, 60))


def crowd(engine: Engine, *, now: datetime) -> None:
    """Fill an empty, migrated database."""
    with writing(engine) as conn:
        for days in (40, 3):
            shop = {"subject": f"Shop of {days} days ago", "count": 1, "reason": None, "now": now - days * DAY}
            audit.write(conn, by="zoe", action="add_app", **shop)
    seed(engine, now=now, apps=60, events=400)
    trouble.open_cases(engine, now=now)
    trouble.incident(engine, now=now)
    trouble.alerts(engine, now=now, count=12)
    trouble.failing_channel(engine, now=now)
    trouble.unreached(engine, "app-00000", now=now)
    _staff(engine, now)
    with writing(engine) as conn:
        _events(conn, now)
        _refreshes(conn, now)
        _apps(conn, now)
        _jobs(conn, now)
        ended = {"opened_at": now - 2 * DAY, "seen_at": now - DAY, "probe_at": now - DAY, "closed_at": now - DAY}
        conn.execute(capi_incident.insert().values(kind="meta_away", waited=12, **ended))


def signed_in(engine: Engine, name: str, *, now: datetime) -> str:
    """The cookie of an operator who has just signed in; a password is not asked for."""
    with writing(engine) as conn:
        return sessions.open_(conn, operators.get(conn, name).id, now=now)


def _staff(engine: Engine, now: datetime) -> None:
    for name, role in STAFF.items():
        people.add_operator(engine, name, role=role, password=PASSWORD, by=LOCAL, now=now)
    people.disable_operator(engine, "eve", by=Operator("ada", "admin"), reason="left", now=now)
    with writing(engine) as conn:
        for _ in range(lockouts.FREE):
            lockouts.take(conn, ["name lou"], now=now)
        conn.execute(capi_lockout.update().values(locked_until=now + DAY))  # longer than any run of the tests


def _events(conn: Connection, now: datetime) -> None:
    """A dead event for each failure, in time still; several orders of one name."""
    e, o = capi_event.c, capi_outbox.c
    dead = list(conn.scalars(select(e.id).where(e.state == "dead").order_by(e.id)))
    for number, (id_, failure) in enumerate(zip(dead, [*FAILURES, "no_token", "past_deadline"], strict=False)):
        ends = now + DAY + number * HOUR
        conn.execute(capi_event.update().where(e.id == id_).values(deadline_at=ends, failure=str(failure)))
        conn.execute(capi_outbox.update().where(o.id == id_).values(deadline_at=ends))
    three = ("#1004", "#1010", "#1020")
    conn.execute(capi_event.update().where(e.order_id.in_(three)).values(order_id=SAME_ORDER))


def _refreshes(conn: Connection, now: datetime) -> None:
    """Each outcome; one of six weeks ago, one of an hour ago."""
    r = capi_refresh.c
    known = list(conn.scalars(select(r.id).order_by(r.id)))
    for id_, outcome in zip(known, OUTCOMES, strict=False):
        conn.execute(capi_refresh.update().where(r.id == id_).values(outcome=str(outcome)))
    for id_, at in ((known[0], now - 40 * DAY), (known[-1], now - HOUR)):
        conn.execute(capi_refresh.update().where(r.id == id_).values(started_at=at))


def _apps(conn: Connection, now: datetime) -> None:
    ours, theirs = "UPDATE capi_app SET", 'UPDATE "AppSettings" SET'
    for app_id, change in (
        (PAUSED, f"{ours} paused_at = '2026-01-01', paused_reason = 'on holiday' WHERE app_id"),
        (NO_TOKEN, f"{ours} fingerprint = NULL WHERE app_id"),
        (NO_TOKEN, f'{theirs} "metaAccessToken" = NULL WHERE "appId"'),
        (NO_PIXEL, f'{theirs} "metaPixelId" = NULL WHERE "appId"'),
        (NO_DOMAIN, f"{ours} shop_domain = NULL WHERE app_id"),
    ):
        conn.execute(text(f"{change} = :id"), {"id": app_id})
    for kind, app_id in (("orders_missing", MISSING), ("silent_shop", SILENT)):
        row = {"kind": kind, "subject": app_id, "title": f"Shop {trouble.EVIL}", "opened_at": now, "seen_at": now}
        conn.execute(capi_alert.insert().values(**row))
    day = (now - 2 * DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    conn.execute(capi_ledger.insert().values(app_id=MISSING, day=day, off=3))
    conn.execute(capi_ledger.insert().values(app_id=MISSING, day=day - DAY, orders=5, purchases=2, received=5))


def _jobs(conn: Connection, now: datetime) -> None:
    """One in each state beside the one that is done."""
    for state in ("queued", "running", "paused", "cancelled"):
        subjects = [f"fp_{number:016x}" for number in range(3)]
        job = jobs.order(conn, "refresh_tokens", subjects, dedupe_key=state, by="bob", reason=state, now=now - HOUR)
        if state in ("running", "paused"):
            jobs.take(conn, job, by="worker@one", now=now)
            jobs.record(conn, job, {subjects[0]: ("ok", f"extended {trouble.EVIL}")}, by="worker@one", now=now)
        if state == "paused":
            jobs.pause(conn, job, now=now)
        if state == "cancelled":
            jobs.end(conn, job, now=now - timedelta(minutes=5), state="cancelled")
    conn.execute(capi_job.update().where(capi_job.c.reason == "queued").values(reason=trouble.EVIL))
