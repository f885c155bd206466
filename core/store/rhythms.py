"""The keeper of rhythms: when in the week a shop shows signs of life, by storefront calls and by webhooks.

A sign of life is a span of ten minutes in which something came in, not an event: one visit is many events, and whether
they come says nothing that the first one did not. Each hour of the week has the mean of its signs, the newer weeks
weighing more. Hours are learnt when the next event comes, the empty ones before it as well: a shop that is silent now
unlearns nothing by its silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, func, select, tuple_

from core.store.database import chunks, insert_into
from core.store.platform_tables import app
from core.store.schema import capi_app
from core.store.schema_ledger import capi_rhythm

KINDS: Final = ("track", "webhook")
HOUR, WEEK = timedelta(hours=1), timedelta(weeks=1)
HOURS = 168
SPAN = timedelta(minutes=10)
# What one week's hour counts against all before it.
WEIGHT = 0.3
# Silent for longer than this, a shop is forgotten, and learnt anew when it comes back.
FORGOTTEN = timedelta(weeks=4)
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


def hear(conn: Connection, heard: Mapping[tuple[str, str], Sequence[datetime]]) -> None:
    """Moments at which something came in, by (App.id, kind)."""
    for part in chunks(sorted(heard), _CHUNK):
        known = {(one.app_id, one.kind): one for one in _locked(conn, part)}
        rows = []
        for key in part:
            moments = sorted(heard[key])
            begun = _hour_of(moments[0])
            own = known.get(key) or Rhythm(*key, begun, moments[0], begun, 0, [0.0] * HOURS)
            for at in moments:
                own.hear(at)
            rows.append({name: getattr(own, name) for name in _NAMES} | {"expected": _packed(own.expected)})
        put = insert_into(conn, capi_rhythm)
        new = {name: put.excluded[name] for name in _NAMES if name not in ("app_id", "kind")}
        conn.execute(put.on_conflict_do_update(index_elements=["app_id", "kind"], set_=new), rows)


_NAMES = ("app_id", "kind", "since", "last_at", "hour", "count", "expected")


def _packed(expected: list[float]) -> str:
    return orjson.dumps(expected).decode()


def _locked(conn: Connection, keys: Sequence[tuple[str, str]]) -> list[Rhythm]:
    c = capi_rhythm.c
    mine = select(capi_rhythm).where(tuple_(c.app_id, c.kind).in_(keys)).order_by(c.app_id, c.kind)
    return _read(conn.execute(mine.with_for_update()))


def _read(rows: Iterable[Row[Any]]) -> list[Rhythm]:
    return [Rhythm(**{**row._mapping, "expected": orjson.loads(row.expected)}) for row in rows]


def not_heard(conn: Connection, *, since: datetime, now: datetime) -> list[Rhythm]:
    """Rhythms of living, unpaused apps from which nothing of that kind came since then, and which are not forgotten."""
    c = capi_rhythm.c
    alive = select(capi_rhythm).join(app, app.c.id == c.app_id).join(capi_app, capi_app.c.app_id == c.app_id)
    quiet = c.last_at <= since, c.last_at > now - FORGOTTEN, capi_app.c.paused_at.is_(None)
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
