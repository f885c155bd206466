"""The reckoning after a drill: what shops were promised, what we have written, and what Meta has heard, per app."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, func, select

from core import clock
from core.desk.alert_lines import unbalanced
from core.desk.ledger import imbalances
from core.services import accounts
from core.services.policy import Policy
from core.store.database import reading
from core.store.schema import capi_alert, capi_event, capi_notice, capi_outbox

STATES = ("delivered", "due", "parked", "dead", "skipped")


@dataclass(frozen=True, slots=True)
class Ledger:
    """`lost`: answered with success, and neither at Meta nor in our hands. `strange`: at Meta, and never sent to us.
    `unasked`: written here, and its shop never got an answer. `twins`: events that Meta has more than once, `extra`:
    how often more. `broken`: pixels and apps whose accounts do not agree, and how."""

    promised: int
    states: Counter[str]
    at_meta: int
    lost: set[str]
    strange: set[str]
    unasked: set[str]
    twins: int
    extra: int
    broken: dict[str, str] = field(repr=False)

    @property
    def balances(self) -> bool:
        return not (self.lost or self.strange or self.unasked or self.broken)

    def account(self) -> str:
        """The equation, in figures."""
        parts = " + ".join(f"{self.states[state]:,} {state}" for state in STATES)
        return f"{self.promised:,} received = {parts}"


def reckon(
    engine: Engine, promised: Iterable[str], heard: Iterable[dict[str, Any]], *, now: datetime | None = None
) -> Ledger:
    """`promised`: ids that were answered with success; `heard`: the sandbox's events, each with pixel and event_id;
    `now`: where time was moved.

    Every app of a drill has a pixel of its own, so both sides can be compared app by app.
    """
    ours: dict[str, dict[str, str]] = defaultdict(dict)
    with reading(engine) as conn:
        e, o = capi_event.c, capi_outbox.c
        for row in conn.execute(select(e.pixel_id, e.event_id, e.state)):
            ours[row.pixel_id][row.event_id] = row.state
        kept = conn.execute(select(o.pixel_id, o.state, func.count()).group_by(o.pixel_id, o.state)).all()
    outbox = {(pixel, state): count for pixel, state, count in kept}
    theirs: dict[str, Counter[str]] = defaultdict(Counter)
    for event in heard:
        theirs[event["pixel"]][event["event_id"]] += 1
    promised = set(promised)
    known = {id_ for events in ours.values() for id_ in events}
    at_meta = {id_ for events in theirs.values() for id_ in events}
    waiting = {id_ for events in ours.values() for id_, state in events.items() if state != "delivered"}
    again = [count - 1 for events in theirs.values() for count in events.values() if count > 1]
    found = {f"pixel {pixel}": _trouble(pixel, ours, theirs, outbox) for pixel in {*ours, *theirs}}
    broken = {whose: words for whose, words in found.items() if words} | _unbalanced(engine, now or clock.now())
    return Ledger(
        promised=len(promised),
        states=Counter(state for events in ours.values() for state in events.values()),
        at_meta=len(at_meta),
        lost=promised - at_meta - waiting,
        strange=at_meta - known,
        unasked=known - promised,
        twins=len(again),
        extra=sum(again),
        broken=broken,
    )


def _unbalanced(engine: Engine, now: datetime) -> dict[str, str]:
    """Of the account per app and day, of the days of which no line is dropped yet."""
    with reading(engine) as conn:
        found = imbalances(conn, now, accounts.days_back(Policy()))
    return {f"app {one.app_id} on {one.day:%Y-%m-%d}": unbalanced(one.counts.off) for one in found}


def _trouble(
    pixel: str,
    ours: dict[str, dict[str, str]],
    theirs: dict[str, Counter[str]],
    outbox: dict[tuple[str, str], int],
) -> str:
    """Why the accounts of one app do not agree; empty when they do."""
    states = Counter(ours[pixel].values()) if pixel in ours else Counter[str]()
    delivered = {id_ for id_, state in ours.get(pixel, {}).items() if state == "delivered"}
    if unheard := delivered - set(theirs.get(pixel, ())):
        return f"{len(unheard)} delivered events that Meta never had"
    for state in ("due", "parked", "dead"):
        if states[state] != outbox.get((pixel, state), 0):
            return f"{states[state]} {state} in the ledger, {outbox.get((pixel, state), 0)} in the outbox"
    if set(states) - set(STATES) or sum(states.values()) != len(ours.get(pixel, ())):
        return f"states that no account knows: {dict(states)}"
    return ""


def first_alert(engine: Engine, *, since: datetime, kind: str | None = None) -> float | None:
    """Seconds from `since` until channels had something to tell (of this kind); None when they have nothing yet."""
    a, n = capi_alert.c, capi_notice.c
    asked = select(func.min(n.at)).join_from(capi_notice, capi_alert, n.alert_id == a.id)
    asked = asked.where(n.at >= since, n.what == "opened")
    with reading(engine) as conn:
        at = conn.scalar(asked if kind is None else asked.where(a.kind == kind))
    return None if at is None else (at - since).total_seconds()


def table(rows: dict[str, str], *, holds: bool) -> str:
    """Figures as two columns, the verdict last."""
    width = max(map(len, rows)) + 2
    return "\n".join(
        f"{name:<{width}}{value}" for name, value in (rows | {"verdict": "holds" if holds else "BROKEN"}).items()
    )
