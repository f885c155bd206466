"""The lines of a story, each kind from its own table: what happened, when, and whose it is. Reads only, bounded."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select, true

from core.desk.alert_lines import plural, said
from core.desk.explain import MERCHANT, META, RECEIPTS, SHOP, US, explain
from core.desk.explain_tokens import CASES, INCIDENTS
from core.desk.find_shape import BAD, GOOD, PLAIN, WAIT, Line, Period, utc
from core.services.outcome import USABLE
from core.store import tokens
from core.store.platform_tables import app
from core.store.schema import (
    capi_alias,
    capi_attempt,
    capi_audit,
    capi_case,
    capi_incident,
    capi_job,
    capi_job_item,
    capi_receipt,
    capi_refresh,
    capi_token,
    capi_visitor,
)

# Requests and refreshes that one story is made of, at most.
LOOKED_THROUGH, SHOWN = 5_000, 60


def requests(
    conn: Connection,
    pixel_id: str,
    period: Period,
    *,
    refused_only: bool = False,
    own: int | None = None,
    fingerprints: Collection[str] | None = None,
) -> list[Line]:
    """Requests for a pixel, those of one kind in a row as one line. `own`: the one that surely held the event."""
    a = capi_attempt.c
    # Without Meta's whole answers, of up to 16 KiB each.
    told = [column for column in capi_attempt.c if column.name != "answer"]
    asked = [a.failure.is_not(None)] if refused_only else []
    asked += [a.fingerprint.in_(fingerprints)] if fingerprints is not None else []
    newest = select(*told).where(a.pixel_id == pixel_id, period.between(a.at), or_(a.id == own, and_(true(), *asked)))
    rows = conn.execute(newest.order_by(a.at.desc()).limit(LOOKED_THROUGH)).all()
    runs = groupby(
        sorted(rows, key=lambda row: (row.at, row.id)),
        lambda row: (row.failure, row.code, row.subcode, row.fingerprint, row.id == own),
    )
    return [_run(list(run), own) for _, run in runs][-SHOWN:]


def _run(rows: list[Row[Any]], own: int | None) -> Line:
    first, last = rows[0], rows[-1]
    many, events = len(rows), sum(row.events for row in rows)
    what = f"the request with {plural(events, 'event')}" if last.id == own else f"{plural(many, 'request')} for it"
    until = f", until {utc(last.at)}" if many > 1 else ""
    numbers = f"{plural(events, 'event')} in it, HTTP {last.status or '–'}, token {last.fingerprint}"
    quoted = said(last.words, last.code, last.subcode, last.trace_id)
    if not quoted and last.trace_id:
        numbers += f", trace id {last.trace_id}"
    if not last.failure:
        return Line(first.at, f"Meta accepted {what}{until}", META, GOOD, (numbers, *quoted), 9)
    why = explain(last.failure)
    return Line(first.at, f"Meta refused {what}{until}: {why.what}", why.whose, BAD, (numbers, *quoted), 3)


def broken(conn: Connection, fingerprints: Collection[str], period: Period) -> list[Line]:
    """Tokens of these that do not work now, since when and why."""
    t = capi_token.c
    rows = conn.execute(select(capi_token).where(t.fingerprint.in_(fingerprints), t.broken_since.is_not(None)))
    lines = []
    for row in (row for row in rows if row.broken_since <= period.until):
        why = explain(row.broken_failure)
        whose = MERCHANT if row.needs_reconnect else why.whose
        ours = row.broken_words in (None, tokens.PAST_END)
        detail = (f"token {row.fingerprint}", *([] if ours else said(row.broken_words, None, None, None)))
        past = "its stored end has passed" if row.broken_words == tokens.PAST_END else why.what
        what = f"The token stopped working: {past}. Events that need it wait"
        lines.append(Line(max(row.broken_since, period.since), what, whose, BAD, detail, 4))
    return lines


_ASKED = {
    "scheduled": "by plan",
    "on_error": "because the token was refused",
    "reconnect": "the owner logged in at Facebook",
    "api": "asked for by the platform",
}
_ORDERED = {"reconnect": MERCHANT} | dict.fromkeys(("scheduled", "on_error", "api"), US)


def refresh_rows(
    conn: Connection, fingerprints: Collection[str], user_id: str | None, period: Period
) -> list[Row[Any]]:
    """Refreshes of these tokens, and of this user's, oldest first."""
    r = capi_refresh.c
    found: dict[int, Row[Any]] = {}
    for which in (r.fingerprint.in_(fingerprints), r.user_id == user_id):
        newest = select(capi_refresh).where(which, period.between(r.started_at)).order_by(r.started_at.desc())
        found |= {row.id: row for row in conn.execute(newest.limit(SHOWN))}
    return sorted(found.values(), key=lambda row: (row.started_at, row.id))


def closure(fingerprints: Iterable[str | None], rows: Iterable[Row[Any]]) -> set[str]:
    """These tokens, those that came of them and those that they came of."""
    found = {one for one in fingerprints if one}
    pairs = [{row.fingerprint, row.new_fingerprint} - {None} for row in rows]
    while grown := [pair for pair in pairs if pair & found and not pair <= found]:
        found = found.union(*grown)
    return found


def refreshes(rows: Iterable[Row[Any]]) -> list[Line]:
    lines = []
    for row in rows:
        why, good = explain(row.outcome), row.outcome in USABLE
        what = f"Token refresh, {_ASKED.get(row.trigger, f'ordered by {row.by}')}: {why.what}"
        ends = f", ends {utc(row.expires_after)}" if row.expires_after else ""
        held = f"token {row.fingerprint} → {row.new_fingerprint or 'kept'}{ends}"
        detail = (held, *said(row.words if row.code is not None else None, row.code, row.subcode, row.trace_id))
        whose = why.whose if why.whose in (MERCHANT, META) else _ORDERED.get(row.trigger, row.by)
        lines.append(Line(row.started_at, what, whose, GOOD if good else BAD, detail, 6))
    return lines


# column of a case → what it says, whose it is; `{by}` is the operator
_STEPS = (
    ("made_at", "Only its owner can mend the token: a reconnect case was opened", US, WAIT),
    ("sent_at", "{by} took the reconnect link to send it to the merchant", MERCHANT, PLAIN),
    ("opened_at", "The merchant pressed the button of the reconnect link", MERCHANT, PLAIN),
    ("refused_at", "The login was not taken: {why}", MERCHANT, BAD),
    ("done_at", "The reconnect case was closed: the merchant's apps hold a working token again", US, GOOD),
)


def cases(conn: Connection, fingerprints: Collection[str], period: Period) -> list[Line]:
    """The steps of the reconnect cases of these tokens."""
    rows = conn.execute(select(capi_case).where(capi_case.c.fingerprint.in_(fingerprints)))
    lines = []
    for row in rows:
        why = CASES[row.refused].what if row.refused in CASES else "no reason is known"
        for column, what, whose, tone in _STEPS:
            at = getattr(row, column)
            if period.has(at):
                words = what.format(by=row.sent_by or "Somebody", why=why)
                lines.append(Line(at, words, whose, tone, (f"case {row.id}, token {row.fingerprint}",), 7))
    return lines


def incidents(conn: Connection, period: Period) -> list[Line]:
    """What was wrong for everybody meanwhile."""
    i = capi_incident.c
    rows = conn.execute(
        select(capi_incident).where(
            i.opened_at <= period.until, or_(i.closed_at.is_(None), i.closed_at >= period.since)
        )
    )
    lines = []
    for row in rows:
        why = INCIDENTS[row.kind]
        quoted = tuple(said(row.words, row.code, row.subcode, row.trace_id))
        begun = max(row.opened_at, period.since)
        lines.append(Line(begun, f"Incident, for all shops: {why.what}", why.whose, BAD, quoted, 4))
        if period.has(row.closed_at):
            lines.append(Line(row.closed_at, f"The incident is over: {why.what}", why.whose, GOOD, (), 7))
    return lines


def retries(conn: Connection, event_id: int, *, since: datetime) -> list[Line]:
    """Orders of operators to send it again, and what came of them."""
    j, i = capi_job.c, capi_job_item.c
    mine = (i.job_id == j.id) & (i.subject == str(event_id))
    ordered = select(j.id, j.by, j.reason, j.created_at, i.outcome, i.words).join(capi_job_item, mine)
    rows = conn.execute(ordered.where(j.created_at >= since, j.kind == "retry_events"))
    return [
        Line(
            row.created_at,
            f"{row.by} ordered it to be sent again: {row.words or row.outcome or 'not done yet'}",
            row.by,
            PLAIN,
            (f"job {row.id}" + (f", because: {row.reason}" if row.reason else ""),),
            7,
        )
        for row in rows
    ]


# Orders of which the audit trail says an app as their subject.
_ABOUT_APPS = ("add_app", "set_app", "set_token", "pause_app", "diagnose")


def orders_about(conn: Connection, app_id: str, public_id: str, period: Period) -> list[Line]:
    """What operators did with an app, from the audit trail: the last of it."""
    a = capi_audit.c
    begins = (f"{public_id}:", f"{public_id} ", f"test event for {public_id},")
    mine = a.subject.in_((public_id, f"app {app_id}")), *(a.subject.startswith(one, autoescape=True) for one in begins)
    newest = select(capi_audit).where(period.between(a.at), a.action.in_(_ABOUT_APPS), or_(*mine))
    rows = conn.execute(newest.order_by(a.id.desc()).limit(SHOWN))
    return [
        Line(
            row.at,
            f"{row.by}: {row.action.replace('_', ' ')}",
            row.by,
            PLAIN,
            (row.subject, *([f"because: {row.reason}"] if row.reason else [])),
        )
        for row in rows
    ]


def receipts(conn: Connection, app_id: str, period: Period) -> list[Line]:
    """Requests of the shop that were not taken, by reason."""
    r = capi_receipt.c
    first, count = func.min(r.at).label("first"), func.count().label("times")
    counted = select(r.source, r.reason, first, func.max(r.at).label("last"), count)
    rows = conn.execute(
        counted.where(r.app_id == app_id, period.between(r.at))
        .group_by(r.source, r.reason)
        .order_by(first)
        .limit(SHOWN)
    )
    lines = []
    for row in rows:
        why = RECEIPTS.get(row.reason) or explain(row.reason)
        last = f", the last {utc(row.last)}" if row.times > 1 else ""
        what = f"{plural(row.times, 'request')} of the shop came to nothing ({row.source}){last}: {why.what}"
        lines.append(Line(row.first, what, why.whose, WAIT, (f"To do: {why.do}",), 1))
    return lines


def names(conn: Connection, event_id: int) -> list[Row[Any]]:
    """(app_id, alias, at) under which the same thing may be reported by another source."""
    a = capi_alias.c
    return list(conn.execute(select(a.app_id, a.alias, a.at).where(a.event_id == event_id).order_by(a.alias)))


def browsers(conn: Connection, aliases: Collection[Row[Any]]) -> list[Line]:
    """When the browser behind it was seen; nothing of the browser itself."""
    v = capi_visitor.c
    lines = []
    for kind, key in sorted({tuple(row.alias.split(":", 1)) for row in aliases}):
        apps = {row.app_id for row in aliases}
        seen = select(v.seen_at, v.marketing).where(v.app_id.in_(apps), v.kind == kind, v.key == key)
        for row in conn.execute(seen):
            consent = {True: "yes", False: "no", None: "not said"}[row.marketing]
            detail = (f"consent to marketing: {consent}", "its marks complete what the webhook lacks")
            lines.append(Line(row.seen_at, f"Its browser was seen in the shop, by the {kind}", SHOP, PLAIN, detail, 2))
    return lines


def owner_of(conn: Connection, app_id: str) -> Row[Any] | None:
    """(user id, public id) of an app."""
    named = select(app.c.userId.label("user_id"), app.c.appId.label("public_id")).where(app.c.id == app_id)
    found: Any = conn.execute(named).first()
    return found


def ended_at(row: Row[Any]) -> datetime:
    return row.started_at + timedelta(milliseconds=row.duration_ms)
