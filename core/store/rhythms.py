"""The keeper of rhythms: when in the week a shop shows signs of life, by storefront calls and by webhooks.

A sign of life is a span of ten minutes in which something came in, not an event: one visit is many events, and whether
they come says nothing that the first one did not. Each hour of the week has the mean of its signs, the newer weeks
weighing more. Hours are learnt when the next event comes, the empty ones before it as well: a shop that is silent now
unlearns nothing by its silence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, bindparam, func, select, tuple_, update

from core.store.database import chunks, insert_into, upsert
from core.store.platform_tables import app
from core.store.schema import capi_app, capi_schedule
from core.store.schema_ledger import capi_rhythm

KINDS: Final = ("track", "webhook")
HOUR, WEEK = timedelta(hours=1), timedelta(weeks=1)
HOURS = 168
SPAN = timedelta(minutes=10)
# What one week's hour counts against all before it.
WEIGHT = 0.3
# Silent for longer than this, a shop is forgotten, and learnt anew when it comes back.
FORGOTTEN = timedelta(weeks=4)
# So many signs of life were to be expected and none came. With a mean of 12, none at all has a probability of
# exp(-12) = 6e-6, were they independent; a sign is ten minutes in which anything came in, because the events of one
# visit are not.
AWAITED: Final = 12
WEEKS = 2
# An hour has six signs of life at most.
SOONEST = AWAITED // 6 * HOUR
# That nothing comes from anybody is told of so many shops at least: one may close its doors.
EVERYBODY = 3
HEARD_AGAIN: Final = "heard again"
_CHUNK = 500
_MONDAY = datetime.fromisoformat("1970-01-05T00:00:00+00:00")


@dataclass(slots=True)
class Rhythm:
    """What is known of one kind of one app; `expected`: signs of life in each of the week's hours."""

    app_id: str
    kind: str
    since: datetime
    last_at: datetime
    hour: datetime
    count: int
    expected: list[float]

    @property
    def weeks(self) -> int:
        """Whole weeks that were learnt."""
        return (self.hour - self.since) // WEEK

    def awaited(self, since: datetime, until: datetime) -> float:
        """Signs of life that were to be expected between these moments."""
        weeks, rest = divmod(until - since, WEEK)
        total, at, end = weeks * sum(self.expected), since, since + rest
        while at < end:
            next_ = min(_hour_of(at) + HOUR, end)
            total += self.expected[_slot(at)] * ((next_ - at) / HOUR)
            at = next_
        return total

    def hear(self, at: datetime) -> None:
        """Something came in; moments in their order, what is older than the last one tells nothing new."""
        if at - self.last_at > FORGOTTEN:
            self.since, self.hour, self.count, self.expected = _hour_of(at), _hour_of(at), 0, [0.0] * HOURS
        if span_of(at) > span_of(self.last_at) or self.count == 0:
            while self.hour < _hour_of(at):
                self._learn()
            self.count += 1
        self.last_at = max(self.last_at, at)

    def _learn(self) -> None:
        slot, first = _slot(self.hour), self.hour - self.since < WEEK
        before = self.expected[slot]
        self.expected[slot] = round(float(self.count) if first else before + WEIGHT * (self.count - before), 4)
        self.hour, self.count = self.hour + HOUR, 0


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def span_of(moment: datetime) -> int:
    return (moment - _MONDAY) // SPAN


def _slot(moment: datetime) -> int:
    return ((moment - _MONDAY) // HOUR) % HOURS


def heard(rows: Iterable[Any]) -> dict[tuple[str, str], list[datetime]]:
    """(App.id, kind) → when something came in by these rows of `capi_taken`: the last moment of each span, which tells
    as much as all."""
    spans: dict[int, dict[tuple[str, str], datetime]] = defaultdict(dict)
    for row in sorted(rows, key=lambda row: row.at):
        of_span, at = spans[span_of(row.at)], row.at
        for app_id, (_, _, track, webhook) in orjson.loads(row.counts).items():
            if track:
                of_span[app_id, "track"] = at
            if webhook:
                of_span[app_id, "webhook"] = at
    found: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for of_span in spans.values():
        for key, at in of_span.items():
            found[key].append(at)
    return found


def hear(conn: Connection, heard: Mapping[tuple[str, str], Sequence[datetime]]) -> None:
    """Moments at which something came in, by (App.id, kind)."""
    _note_silence(conn, (at for moments in heard.values() for at in moments))
    for part in chunks(sorted(heard), _CHUNK):
        known = {(one.app_id, one.kind): one for one in _locked(conn, part)}
        learnt: list[Rhythm] = []
        counted: list[Rhythm] = []
        for key in part:
            moments = sorted(heard[key])
            begun = _hour_of(moments[0])
            own = known.get(key) or Rhythm(*key, begun, moments[0], begun, 0, [0.0] * HOURS)
            hour = own.hour if key in known else None
            for at in moments:
                own.hear(at)
            (counted if own.hour == hour else learnt).append(own)
        _put(conn, learnt)
        _put_counted(conn, counted)


def _put(conn: Connection, learnt: Sequence[Rhythm]) -> None:
    if learnt:
        rows = [{name: getattr(one, name) for name in _NAMES} | {"expected": _packed(one.expected)} for one in learnt]
        put = insert_into(conn, capi_rhythm)
        new = {name: put.excluded[name] for name in _NAMES if name not in ("app_id", "kind")}
        conn.execute(put.on_conflict_do_update(index_elements=["app_id", "kind"], set_=new), rows)


def _put_counted(conn: Connection, counted: Sequence[Rhythm]) -> None:
    """Of which no hour was learnt: the week's 168 numbers are what they were."""
    if counted:
        c = capi_rhythm.c
        mine = update(capi_rhythm).where(c.app_id == bindparam("own_app"), c.kind == bindparam("own_kind"))
        moved = mine.values(last_at=bindparam("moved"), count=bindparam("counted"))
        rows = [
            {"own_app": one.app_id, "own_kind": one.kind, "moved": one.last_at, "counted": one.count} for one in counted
        ]
        conn.execute(moved, rows)


def _note_silence(conn: Connection, moments: Iterable[datetime]) -> None:
    """Keep the end of the last while in which nothing came from anybody, though it should have: no shop's fault."""
    if (last := last_of_all(conn)) is None:
        return
    for since, until in pairwise(sorted({last, *(at for at in moments if at > last)})):
        if until - since >= SOONEST and is_silence(not_heard(conn, since=last, now=until), since, until):
            upsert(conn, capi_schedule, {"task": HEARD_AGAIN}, {"due_at": until})


def heard_again(conn: Connection) -> datetime | None:
    """When something came again after nothing had come from anybody; what a shop owes is counted from then on."""
    return conn.scalar(select(capi_schedule.c.due_at).where(capi_schedule.c.task == HEARD_AGAIN))


def is_silence(quiet: Sequence[Rhythm], since: datetime, until: datetime) -> bool:
    """Whether it is no chance that nothing came of all these meanwhile, and they are shops enough."""
    if len({one.app_id for one in quiet}) < EVERYBODY:
        return False
    return sum(one.awaited(since, until) for one in quiet if one.weeks >= WEEKS) >= AWAITED


_NAMES = ("app_id", "kind", "since", "last_at", "hour", "count", "expected")


def _packed(expected: list[float]) -> str:
    return orjson.dumps(expected).decode()


def _locked(conn: Connection, keys: Sequence[tuple[str, str]]) -> list[Rhythm]:
    c = capi_rhythm.c
    mine = select(capi_rhythm).where(tuple_(c.app_id, c.kind).in_(keys)).order_by(c.app_id, c.kind)
    return _read(conn.execute(mine.with_for_update()))


def _read(rows: Iterable[Row[Any]]) -> list[Rhythm]:
    return [Rhythm(**{**row._mapping, "expected": orjson.loads(row.expected)}) for row in rows]


def not_heard(conn: Connection, *, since: datetime, now: datetime, app_id: str | None = None) -> list[Rhythm]:
    """Rhythms of living, unpaused apps (or this one) from which nothing of that kind came since then, and which are not
    forgotten."""
    c = capi_rhythm.c
    alive = select(capi_rhythm).join(app, app.c.id == c.app_id).join(capi_app, capi_app.c.app_id == c.app_id)
    quiet = c.last_at <= since, c.last_at > now - FORGOTTEN, capi_app.c.paused_at.is_(None)
    alive = alive if app_id is None else alive.where(c.app_id == app_id)
    return _read(conn.execute(alive.where(*quiet)))


def of_apps(conn: Connection, app_ids: Sequence[str]) -> list[Rhythm]:
    found: list[Rhythm] = []
    for part in chunks(app_ids, _CHUNK):
        found += _read(conn.execute(select(capi_rhythm).where(capi_rhythm.c.app_id.in_(part))))
    return found


def last_of_all(conn: Connection) -> datetime | None:
    """When anything came in from anybody."""
    return conn.scalar(select(func.max(capi_rhythm.c.last_at)))


def forget(conn: Connection, before: datetime, limit: int) -> int:
    """Drop rhythms of shops that were last heard of before this moment; how many."""
    c = capi_rhythm.c
    old = conn.execute(select(c.app_id, c.kind).where(c.last_at < before).order_by(c.last_at).limit(limit)).all()
    if old:
        conn.execute(capi_rhythm.delete().where(tuple_(c.app_id, c.kind).in_([tuple(row) for row in old])))
    return len(old)
