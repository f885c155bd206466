"""Alerts: one scan of the tables finds what is wrong now, and compares it with the alerts that are open.

What is new opens an alert, what is gone closes one, a lower stage makes one worse; each is a notice, and notices are
what channels are told (`core.services.telling`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, Row

from core.services import shortfalls
from core.services.policy import DAY, Policy
from core.store import alerts, conditions, incidents, ledger
from core.store.alerts import NewAlert
from core.store.conditions import Holder
from core.store.database import chunks, reading, writing
from core.store.workers import SILENT_AFTER

log = logging.getLogger("alerts")

# Days before the end at which a token that was not extended is told of, each once.
EXPIRY_STAGES = (14, 7, 3, 1)
# Hours before their deadline at which waiting events are told of.
DEADLINE_STAGES = (24, 6)
# An event that has just come in late is on its way, and no matter for an alert.
UNDER_WAY = timedelta(minutes=5)
# Meta out of reach is a matter for an alert when it was tried in vain so often.
UNREACHABLE_TRIES = 3
# Refreshes that failed this long before an incident was opened belong to it.
BEFORE_INCIDENT = timedelta(minutes=10)
# A token just seen is refreshed within a day; before that it is not "still not extended".
FIRST_TRY = timedelta(hours=25)
# How long a token that works again by Meta's word alone is still told of, unless a request shows that it works.
ON_TRIAL = timedelta(minutes=15)
# A worker that was replaced sooner than this is not worth an alert.
GAP = timedelta(minutes=2)
KEPT = timedelta(days=90)
_LONGEST_TITLE = 300
# Markdown's letters, and those of mentions; the names in `_EMAIL` call everybody, even from within a word.
_CONTROLS = re.compile(r"[\[\]<>`*|\\~@]")
_SCHEME = re.compile(r"(?i)[a-z][a-z0-9+.-]*:/+")
_EMAIL = re.compile(r"(?i)((?<![\w.+@-])[\w.+-]+@(?!(?:everyone|here|channel|all)\b)[\w-]+(?:\.[\w-]+)+(?![\w@]))")

# The subject of an alert that concerns no shop more than the others.
EVERYBODY = ""
INCIDENTS = {
    "app_config": "Meta refuses our own app",
    "rate_limited": "Meta limits our whole app",
    "meta_away": "Meta is away",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """Something wrong now. `stage`: days or hours left; `since`: when it began, where that is known."""

    kind: str
    subject: str
    stage: int = 0
    since: datetime | None = None
    title: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What a scan came to, in alerts."""

    opened: int
    restaged: int
    closed: int


Find = Callable[[Connection, Policy, datetime], Iterable[Condition]]


def scan(engine: Engine, policy: Policy, *, now: datetime, kinds: Iterable[str] | None = None) -> Change:
    """Bring the open alerts of these kinds (default: all that are cheap to find) up to what is so now."""
    wanted = tuple(kinds if kinds is not None else QUICK)
    with reading(engine) as conn:
        found = {(one.kind, one.subject): one for kind in wanted for one in FINDERS[kind](conn, policy, now)}
        known = {(row.kind, row.subject): row for row in alerts.open_alerts(conn, wanted)}
        new = [one for key, one in found.items() if key not in known]
        opening = _named(conn, new, now)
    moved = [(row.id, found[key].stage) for key, row in known.items() if key in found and found[key].stage != row.stage]
    over = [row.id for key, row in known.items() if key not in found]
    opened = _in_chunks(engine, opening, lambda conn, part: alerts.open_(conn, part, now=now))
    restaged = _in_chunks(engine, moved, lambda conn, part: alerts.restage(conn, part, now=now))
    closed = _in_chunks(engine, over, lambda conn, part: alerts.close(conn, part, now=now))
    if opened or closed:
        log.info("alerts changed", extra={"opened": opened, "closed": closed})
    return Change(opened, restaged, closed)


def _in_chunks(engine: Engine, items: list, write: Callable[[Connection, list], int]) -> int:
    """In short transactions, so that nothing holds up SQLite's only writer."""
    done = 0
    for part in chunks(items, alerts.CHUNK):
        with writing(engine) as conn:
            done += write(conn, list(part))
    return done


def forget_old(engine: Engine, *, now: datetime) -> None:
    """Drop what ended long ago."""
    while True:
        with writing(engine) as conn:
            if alerts.forget_old(conn, before=now - KEPT) < alerts.CHUNK:
                return


def _named(conn: Connection, new: list[Condition], now: datetime) -> list[NewAlert]:
    """With titles that say whom it concerns, for as long as the alert is kept."""
    of_token = conditions.holders(conn, [one.subject for one in new if one.kind in OF_TOKENS])
    of_app = conditions.app_names(conn, [one.subject for one in new if one.kind in OF_APPS])
    who = of_token | of_app
    return [
        NewAlert(
            one.kind, one.subject, one.stage, one.title or title(who.get(one.subject), one.subject), _since(one, now)
        )
        for one in new
    ]


def _since(one: Condition, now: datetime) -> datetime:
    return min(one.since, now) if one.since else now


def title(who: Holder | None, subject: str) -> str:
    """`Tea House (tea.myshopify.com) and 2 more shops, anna@example.com`."""
    if who is None:
        return subject
    shop = f"{who.app_name} ({who.shop})" if who.shop else who.app_name
    others = f" and {who.apps - 1} more shop{'s' if who.apps > 2 else ''}" if who.apps > 1 else ""
    return f"{plain(shop)}{others}, {plain(who.email)}"[:_LONGEST_TITLE]


def plain(text: str) -> str:
    """One line of other people's words, without what a service could take for a link, a mention or a line of ours.

    `[`, `<`, `@` and their like become blanks; an e-mail address stays as it is.
    """
    odd = "".join(letter if letter.isprintable() else " " for letter in text)
    parts = _EMAIL.split(odd)  # every second one is an address
    parts[::2] = [_SCHEME.sub("", _CONTROLS.sub(" ", part)).replace("#", "# ") for part in parts[::2]]
    return " ".join("".join(parts).split())


def _needs_reconnect(conn: Connection, policy: Policy, now: datetime) -> Iterable[Condition]:  # noqa: ARG001
    """Also one that Meta calls valid again and that no request has shown to work yet: it may be refused once more."""
    lost = [*conditions.needing_reconnect(conn), *conditions.on_trial(conn, since=now - ON_TRIAL)]
    return [Condition("needs_reconnect", row.fingerprint, since=row.broken_since) for row in lost]


def _refresh_failed(conn: Connection, policy: Policy, now: datetime) -> Iterable[Condition]:  # noqa: ARG001
    """A refusal counts at once, Meta out of reach after some tries; neither while it was everybody's trouble."""
    windows = conditions.incident_windows(conn, since=now - 2 * DAY)
    return [
        Condition("refresh_failed", row.fingerprint, since=row.started_at)
        for row in conditions.failing_refreshes(conn)
        if (row.outcome == "refused" or (row.outcome == "unreachable" and row.failures >= UNREACHABLE_TRIES))
        and not any(
            begun - BEFORE_INCIDENT <= row.started_at and (over is None or row.started_at <= over)
            for begun, over in windows
        )
    ]


def _expiring(conn: Connection, policy: Policy, now: datetime) -> Iterable[Condition]:
    """Only inside the refresh window: before it, nobody has tried to extend the token."""
    stages = [days for days in EXPIRY_STAGES if days * DAY <= policy.window]
    if not stages:
        return []
    rows = conditions.ending_tokens(conn, before=now + stages[0] * DAY, known_before=now - FIRST_TRY)
    ends: dict[str, datetime] = {}
    for row in rows:
        at = row.stored or row.expires_at
        ends[row.fingerprint] = min(at, ends.get(row.fingerprint, at))
    left = {found: at - now for found, at in ends.items() if at <= now + stages[0] * DAY}
    return [Condition("expiring", found, stage=_stage(stages, rest, DAY)) for found, rest in left.items()]


def _stage(stages: Iterable[int], left: timedelta, unit: timedelta) -> int:
    """The lowest stage that has been reached; 0 when nothing is left."""
    return min((stage for stage in stages if left <= stage * unit), default=0) if left > timedelta(0) else 0


def _deadline(conn: Connection, policy: Policy, now: datetime) -> Iterable[Condition]:  # noqa: ARG001
    hour = timedelta(hours=1)
    near = conditions.near_deadline(conn, now=now, within=DEADLINE_STAGES[0] * hour, waited=UNDER_WAY)
    return [
        Condition("deadline", app_id, stage=_stage(DEADLINE_STAGES, waiting.first_lost_at - now, hour))
        for app_id, waiting in near.items()
    ]


def _incident(conn: Connection, policy: Policy, now: datetime) -> Iterable[Condition]:  # noqa: ARG001
    return [
        Condition("incident", str(row.id), since=row.opened_at, title=INCIDENTS.get(row.kind, row.kind))
        for row in incidents.open_ones(conn)
    ]


def _worker_silent(conn: Connection, policy: Policy, now: datetime) -> Iterable[Condition]:  # noqa: ARG001
    """A worker that fell silent without a good-bye, until another was started in its place.

    One that was replaced late, so that nobody was there to tell, is told of all the same, once.
    """
    beats = conditions.heartbeats(conn)
    alive = [row for row in beats if row.seen_at >= now - SILENT_AFTER]
    silent = sorted((row for row in beats if row.seen_at < now - SILENT_AFTER), key=lambda row: row.seen_at)
    told = alerts.told_of(conn, "worker_silent", [row.worker for row in silent])
    found = []
    for row, replaced_at in _replaced(silent, alive).items():
        gone = replaced_at - row.seen_at if replaced_at else None
        heard = row.worker in told and told[row.worker] >= row.seen_at
        unheard = gone is not None and gone > GAP and not heard
        if gone is None or unheard:
            found.append(Condition("worker_silent", row.worker, since=row.seen_at, title=row.worker))
    return found


def _replaced(silent: list[Row], alive: list[Row]) -> dict[Row, datetime | None]:
    """Silent worker → when the one was started that stands in for it; each stands in for one."""
    free = sorted(alive, key=lambda row: row.started_at)
    found: dict[Row, datetime | None] = {}
    for row in reversed(silent):
        stand_in = next((other for other in free if other.started_at >= row.seen_at), None)
        if stand_in is not None:
            free.remove(stand_in)
        found[row] = stand_in.started_at if stand_in is not None else None
    return found


def _ledger(conn: Connection, policy: Policy, now: datetime) -> Iterable[Condition]:  # noqa: ARG001
    """Of which the outbox tells otherwise, or of which what came in is not what stands in the account."""
    off = {row.app_id for row in ledger.out_of_balance(conn)}
    return [Condition("ledger", app_id) for app_id in sorted(off | conditions.out_of_balance(conn).keys())]


def _orders_missing(conn: Connection, policy: Policy, now: datetime) -> Iterable[Condition]:  # noqa: ARG001
    return [Condition("orders_missing", app_id) for app_id in shortfalls.missing_orders(conn, now=now)]


def _silent_shop(conn: Connection, policy: Policy, now: datetime) -> Iterable[Condition]:  # noqa: ARG001
    """While nobody can tell, what was told stands."""
    found = shortfalls.silence(conn, now=now)
    if found.behind:
        told = alerts.open_alerts(conn, ["silent_shop"])
        return [Condition(row.kind, row.subject, since=row.opened_at, title=row.title) for row in told]
    shops = [Condition("silent_shop", one.app_id, since=one.since) for one in found.shops]
    if found.everybody is not None:
        shops.append(Condition("silent_shop", EVERYBODY, since=found.everybody, title="Every shop"))
    return shops


FINDERS: dict[str, Find] = {
    "needs_reconnect": _needs_reconnect,
    "refresh_failed": _refresh_failed,
    "expiring": _expiring,
    "deadline": _deadline,
    "incident": _incident,
    "worker_silent": _worker_silent,
    "ledger": _ledger,
    "orders_missing": _orders_missing,
    "silent_shop": _silent_shop,
}
KINDS = tuple(FINDERS)
# Looked at now and then: the ledger's balance reads every event that waits, and the others change by the hour.
SLOW = ("ledger", "orders_missing", "silent_shop")
QUICK = tuple(kind for kind in FINDERS if kind not in SLOW)
OF_TOKENS = frozenset({"needs_reconnect", "refresh_failed", "expiring"})
OF_APPS = frozenset({"deadline", *SLOW})
