"""The doctor's looks into the database: is it there, is it ours, is the work done, and how does one app stand."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, or_, select, text
from sqlalchemy.exc import SQLAlchemyError

from core.desk import alerts, incidents, work
from core.desk.explain import explain
from core.desk.explain_tokens import CASES, FINDINGS, INCIDENTS
from core.errors import CoreError
from core.logs import redact
from core.services.doctor import Check
from core.services.findings import Finding, findings
from core.services.policy import Policy
from core.settings import Settings
from core.store import cases, database, keyring, migrate, rekey, tokens
from core.store.apps import App
from core.store.database import reading, writing
from core.store.health import health_of
from core.store.platform_tables import app as app_table
from core.store.platform_tables import app_settings, user
from core.store.schema import capi_outbox, capi_pixel, capi_schedule, capi_token

# Work that could be done and was not for this long says that the workers do not keep up, or hang.
LATE, TOO_LATE = timedelta(minutes=2), timedelta(minutes=15)


class _Back(Exception):
    """Ends a transaction whose writes are not to stay."""


def check_database(engine: Engine, now: datetime) -> list[Check]:
    """Reachable, migrated, with the platform's tables, writable. Each that fails leaves out the ones behind it."""
    shown = database.shown(engine.url)
    try:
        with reading(engine) as conn:
            at = migrate.current(conn)
    except (SQLAlchemyError, OSError) as error:
        do = "Check DATABASE_URL, whether the server runs, and the rights of this user"
        return [Check("database", False, f"{shown} cannot be used: {redact(first_line(error))}", do)]
    checks = [Check("database", True, f"{shown} is reached")]
    if not migrate.serves(at):
        words = f"it is at revision {at or 'none'}, this program needs {migrate.newest()}"
        return [*checks, Check("schema", False, words, "Run `capi-console migrate`; nothing has to be stopped for it")]
    checks.append(Check("schema", True, f"at revision {at}"))
    return [*checks, _platform(engine), _writable(engine, now)]


def _platform(engine: Engine) -> Check:
    try:
        with reading(engine) as conn:
            for table in (user, app_table, app_settings):
                own = [
                    column for column in table.c if column.name not in ("id", "metaPixelEnabled", "metaTestEventCode")
                ]
                conn.execute(select(*own).limit(1)).first()
    except (SQLAlchemyError, CoreError) as error:
        do = "Is DATABASE_URL the platform's database? `capi-console migrate` names what is missing"
        return Check("platform's tables", False, f"they cannot be read: {redact(first_line(error))}", do)
    return Check("platform's tables", True, "User, App and AppSettings are there")


def _writable(engine: Engine, now: datetime) -> Check:
    """A row is written and taken back."""
    try:
        with writing(engine) as conn:
            conn.execute(capi_schedule.insert().values(task="doctor", due_at=now))
            raise _Back
    except _Back:
        return Check("writing", True, "the database takes writes")
    except (SQLAlchemyError, OSError) as error:
        do = "Is the disk full, the file read-only, or the database locked by a long transaction?"
        return Check("writing", False, f"it takes no writes: {redact(first_line(error))}", do)


def check_encryption(conn: Connection) -> list[Check]:
    ring, found = keyring.of(conn), rekey.census(conn)
    if found.missing:
        lost = ", ".join(f"{key_id} ({count} tokens)" for key_id, count in sorted(found.missing.items()))
        do = "Put the key back (CAPI_ENCRYPTION_KEYS or the key file); `capi-console keys list` tells more"
        return [Check("encryption", False, f"keys are missing: {lost}", do)]
    if found.damaged:
        do = "Their owners connect again: send the reconnect link"
        return [Check("encryption", False, f"{found.damaged} stored tokens cannot be opened with any key", do)]
    if not ring:
        do = "Fine where the platform must read them; else `capi-console keys make`, then `keys rotate`"
        return [Check("encryption", True, ring.state, do, warning=True)]
    if found.plain:
        words = f"{ring.state}; {found.plain} tokens still stand in the clear"
        return [Check("encryption", True, words, "Run `capi-console keys rotate`", warning=True)]
    return [Check("encryption", True, ring.state)]


def check_workers(conn: Connection, now: datetime) -> list[Check]:
    known = work.workers(conn, now=now)
    alive = [one for one in known if one.alive]
    if alive:
        return [Check("workers", True, f"{len(alive)} alive, last heard {alive[0].seen_at:%H:%M:%S} UTC")]
    last = f"the last was heard of at {known[0].seen_at:%Y-%m-%d %H:%M} UTC" if known else "none ever ran here"
    do = "Start one: `capi-console worker` (or `capi-console up`); without it nothing is sent and nothing refreshed"
    return [Check("workers", False, f"no worker is alive: {last}", do)]


def check_due(conn: Connection, now: datetime) -> list[Check]:
    """How long work waits that nothing holds back."""
    o, p, t = capi_outbox.c, capi_pixel.c, capi_token.c
    free = or_(p.wait_until.is_(None), p.wait_until <= now)
    waiting = (
        select(func.count(), func.min(o.next_attempt_at))
        .join(capi_pixel, p.pixel_id == o.pixel_id, isouter=True)
        .where(text("capi_outbox.state = 'due'"), o.next_attempt_at <= now, free)
    )
    refreshes = select(func.count(), func.min(t.next_refresh_at)).where(
        t.next_refresh_at <= now, t.needs_reconnect.is_(False)
    )
    found = (("events", *conn.execute(waiting).one()), ("refreshes", *conn.execute(refreshes).one()))
    return [_age(what, count, since, now) for what, count, since in found]


def _age(what: str, count: int, since: datetime | None, now: datetime) -> Check:
    if since is None:
        return Check(f"due {what}", True, "nothing waits")
    age = now - since
    words = f"{count} could go now, the oldest for {_span(age)}"
    do = "Are the workers alive, and is no incident open? Then start more of them (the log tells what they do)"
    return Check(f"due {what}", age <= TOO_LATE, words, do if age > LATE else "", warning=age > LATE)


def check_incidents(conn: Connection, now: datetime) -> list[Check]:
    found = incidents.open_incidents(conn, now)
    if not found:
        return [Check("incidents", True, "none is open")]
    return [
        Check(
            "incident",
            False,
            f"{INCIDENTS[one.kind].what}, since {one.opened_at:%Y-%m-%d %H:%M} UTC, {one.waiting_now} events wait;"
            f" {said(one.words, one.code, one.subcode, one.trace_id)}",
            INCIDENTS[one.kind].do,
        )
        for one in found
    ]


def check_channels(conn: Connection, settings: Settings) -> list[Check]:
    if not settings.alert_urls:
        return [Check("alert channels", None, "no address is set")]
    found = alerts.channels(conn)
    failing = [one for one in found if one.error]
    do = "Correct the address in CAPI_ALERT_URLS, then `capi-console alerts test`"
    if failing:
        return [Check("alert channel", False, f"{one.title}: {redact(one.error or '')}", do) for one in failing]
    told = sum(one.sent_at is not None for one in found)
    words = f"{told} of {len(settings.alert_urls)} took a message so far, none refused its last"
    return [Check("alert channels", True, words, "" if told else "`capi-console alerts test` tries them", not told)]


def check_app(conn: Connection, app: App, *, policy: Policy, now: datetime) -> list[Check]:
    """What is stored of an app and its token."""
    state = "paused" if app.paused else "its pixel is switched off" if not app.pixel_enabled else ""
    own = Check(
        "app", True, f"{app.name} ({app.public_id}), {app.email}{', ' + state if state else ''}", "", bool(state)
    )
    if app.token is None:
        do = "Connect Facebook on the platform, or store a token: `capi-console token set --app`"
        return [own, Check("token", False, "no token is stored for this app", do), _waiting(conn, app)]
    known = tokens.get(conn, app.token.fingerprint)
    found = [] if known is None else findings(conn, app.token.fingerprint, policy=policy, now=now)
    return [own, _stored(app, known, policy, now), *map(_finding, found), *_case(conn, app), _waiting(conn, app)]


def _stored(app: App, known: Row[Any] | None, policy: Policy, now: datetime) -> Check:
    health = health_of(
        app.expires_at,
        never_expires=known is not None and known.never_expires,
        needs_reconnect=known is not None and known.needs_reconnect,
        now=now,
        soon=policy.soon,
        window=policy.window,
    )
    ends = f", ends {app.expires_at:%Y-%m-%d %H:%M} UTC" if app.expires_at else ""
    words = f"{app.fingerprint}: {health}{ends}"
    if known is None or known.broken_since is None:
        return Check("token", True, words)
    why = explain(known.broken_failure)
    said_so = f"{words}; {why.what}, since {known.broken_since:%Y-%m-%d %H:%M} UTC; {known.broken_words or 'no words'}"
    return Check("token", False, said_so, why.do)


def _finding(one: Finding) -> Check:
    why = FINDINGS[one.word]
    where = f" (pixel {one.pixel_id})" if one.pixel_id else ""
    notes = said(one.words, one.code, one.subcode, one.trace_id)
    return Check("finding", one.warning, f"{why.what}{where}; {notes}", why.do, warning=True)


def _case(conn: Connection, app: App) -> list[Check]:
    case = cases.open_of(conn, app.fingerprint or "", app.user_id)
    if case is None:
        return []
    why = CASES.get(case.state)
    words = f"reconnect case {case.id}, {case.state}" + (f": {why.what}" if why else "")
    return [Check("case", True, words, why.do if why else "Send the reconnect link", warning=True)]


def _waiting(conn: Connection, app: App) -> Check:
    o = capi_outbox.c
    rows = conn.execute(select(o.state, func.count()).where(o.app_id == app.id).group_by(o.state))
    counted = {row[0]: row[1] for row in rows}
    names = (("due", "due"), ("parked", "waiting for the token"), ("dead", "failed"))
    words = ", ".join(f"{counted[state]} {name}" for state, name in names if counted.get(state))
    return Check("app's events", True, words or "none waits", "", warning=bool(counted.get("parked")))


def said(words: str | None, code: int | None, subcode: int | None, trace_id: str | None) -> str:
    """Meta's own words with its numbers and trace id."""
    number = "/".join(str(one) for one in (code, subcode) if one is not None)
    notes = ", ".join(filter(None, (number, f"trace {trace_id}" if trace_id else "")))
    return f"{words or 'no words'}{f' ({notes})' if notes else ''}"


def first_line(error: Exception) -> str:
    """The driver's own first line: SQLAlchemy's text may quote parameters."""
    return str(getattr(error, "orig", None) or error or type(error).__name__).strip().splitlines()[0]


def _span(age: timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"
