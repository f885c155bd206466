"""What a person may see of tokens: one row per app, health counts, who is due, and what happened to them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, func, or_, select

from core.desk import volume
from core.desk.health_sql import DAY, LEFT, Horizon, every_app, health_case, left_case, moment
from core.desk.steps import CaseState, next_step, open_cases
from core.services.findings import findings_of
from core.services.policy import Policy
from core.store.database import chunks
from core.store.health import Health
from core.store.platform_tables import app, app_settings
from core.store.schema import capi_app, capi_refresh, capi_token

_LOOKUPS = 1_000

# what a table may be sorted by → columns of `every_app`
SORTS: dict[str, tuple[str, ...]] = {
    "urgency": ("urgency", "ends", "app_id"),
    "ends": ("ends", "app_id"),
    "shop": ("shop", "app_id"),
    "app": ("app_name", "app_id"),
    "user": ("email", "app_id"),
    "waiting": ("waiting", "app_id"),
}
_DOWNWARD = {"waiting"}


@dataclass(frozen=True, slots=True)
class TokenFilters:
    """Which apps are meant: found by a search, in one of these healths, whose token has so many days left (LEFT)."""

    search: str | None = None
    health: Collection[str] = ()
    left: str | None = None


EVERY = TokenFilters()


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One app and the token it holds. `health` is ours, `platform` the word the platform's own query gives."""

    app_id: str
    public_id: str
    app_name: str
    shop: str | None
    user_id: str
    email: str
    pixel_id: str | None
    fingerprint: str | None
    health: Health
    platform: str
    expires_at: datetime | None
    days_left: float | None
    broken_failure: str | None
    last_refresh_at: datetime | None
    last_outcome: str | None
    waiting: int
    finding: str | None
    next_step: str


def token_health(
    conn: Connection,
    filters: TokenFilters = EVERY,
    *,
    now: datetime,
    soon: timedelta,
    window: timedelta,
    sort: str = "urgency",
    limit: int | None = None,
    offset: int = 0,
) -> list[TokenRow]:
    """Apps with their token's health, most urgent first; all of them without `limit`. KeyError for another sort."""
    ordered = _sorted(_wanted(conn, Horizon(now, soon, window), filters), sort)
    rows = conn.execute(ordered.limit(limit).offset(offset if limit is not None else None)).all()
    return [made for part in chunks(rows, _LOOKUPS) for made in _with_refreshes(conn, part, now)]


def each_token(
    conn: Connection, filters: TokenFilters = EVERY, *, now: datetime, soon: timedelta, window: timedelta
) -> Iterator[TokenRow]:
    """All that `token_health` would list, read a thousand apps at a time."""
    wanted = _sorted(_wanted(conn, Horizon(now, soon, window), filters), "urgency")
    for part in conn.execute(wanted, execution_options={"yield_per": _LOOKUPS}).partitions():
        yield from _with_refreshes(conn, part, now)


def health_counts(
    conn: Connection, filters: TokenFilters = EVERY, *, now: datetime, soon: timedelta, window: timedelta
) -> dict[Health, int]:
    """How many of these apps stand in each health, zero included, most urgent first; a health that the filters name
    leaves out none."""
    base = _wanted(conn, Horizon(now, soon, window), replace(filters, health=())).subquery()
    counted = conn.execute(select(base.c.health, func.count()).group_by(base.c.health))
    found = {Health(row[0]): row[1] for row in counted}
    return {word: found.get(word, 0) for word in Health}


def days_left(conn: Connection, *, now: datetime) -> dict[str, int]:
    """How many apps have a token with so many days left, zero included: each word of LEFT."""
    word = left_case(conn, now).label("left")
    every = select(word).select_from(app).join(app_settings, app_settings.c.appId == app.c.id, isouter=True).subquery()
    found = {row[0]: row[1] for row in conn.execute(select(every.c.left, func.count()).group_by(every.c.left))}
    return {left: found.get(left, 0) for left in LEFT}


def due_fingerprints(conn: Connection, *, now: datetime, window: timedelta) -> list[str]:
    """Tokens in use that are broken, past their end or inside the refresh window, and that we can still mend."""
    near = Horizon(now, timedelta(0), window)
    mendable = health_case(conn, near).in_([str(Health.EXPIRED), str(Health.RENEWING)])
    due = _held().where(
        or_(mendable, capi_token.c.broken_since.is_not(None)), capi_token.c.needs_reconnect.is_not(True)
    )
    return list(conn.scalars(due))


def held_fingerprints(conn: Connection, among: Sequence[str] | None = None) -> list[str]:
    """Tokens that some app holds: all of them, or those of `among`."""
    if among is None:
        return list(conn.scalars(_held()))
    parts = chunks(list(among), _LOOKUPS)
    return [held for part in parts for held in conn.scalars(_held().where(capi_app.c.fingerprint.in_(part)))]


def expiries_by_day(
    conn: Connection, *, now: datetime, soon: timedelta, window: timedelta, days: int, weigh: bool = False
) -> list[tuple[int, Health, int]]:
    """(day number from today in UTC, health, apps) for tokens that end from today on; the calendar of expiries.

    `weigh`: instead of apps the events that hang on them, those of the last 24 hours and those that wait; a pixel that
    several apps share counts for each of them.
    """
    start = now.replace(hour=0, minute=0, second=0, microsecond=0)
    base = every_app(conn, Horizon(now, soon, window)).subquery()
    day = func.date(base.c.ends)
    wanted = select(day, base.c.health, func.count())
    if weigh:
        sent = volume.sent_lately(now).subquery("sent")
        events = base.c.waiting + func.coalesce(sent.c.delivered, 0)
        wanted = select(day, base.c.health, func.sum(events)).join_from(
            base, sent, sent.c.pixel_id == base.c.pixel_id, isouter=True
        )
    near = (base.c.ends >= moment(conn, start), base.c.ends < moment(conn, start + days * DAY))
    rows = conn.execute(wanted.where(*near).group_by(day, base.c.health))
    counted = [((date.fromisoformat(str(on)) - start.date()).days, Health(word), int(n)) for on, word, n in rows]
    return sorted(counted)


def _held() -> Select[Any]:
    """Fingerprints of tokens that are in use, each once, in a settled order."""
    return (
        select(capi_app.c.fingerprint)
        .join(app, app.c.id == capi_app.c.app_id)
        .join(app_settings, app_settings.c.appId == app.c.id)
        .join(capi_token, capi_token.c.fingerprint == capi_app.c.fingerprint, isouter=True)
        .where(capi_app.c.fingerprint.is_not(None), app_settings.c.metaAccessToken.is_not(None))
        .distinct()
        .order_by(capi_app.c.fingerprint)
    )


def _wanted(conn: Connection, horizon: Horizon, filters: TokenFilters) -> Select[Any]:
    wanted = every_app(conn, horizon)
    if filters.health:
        wanted = wanted.where(health_case(conn, horizon).in_([str(word) for word in filters.health]))
    if filters.left:
        wanted = wanted.where(left_case(conn, horizon.now) == filters.left)
    text = (filters.search or "").strip()
    if not text:
        return wanted
    columns = wanted.selected_columns
    places = (columns[name] for name in ("app_name", "shop", "email", "public_id", "pixel_id", "fingerprint"))
    return wanted.where(or_(*(place.icontains(text, autoescape=True) for place in places)))


def _sorted(wanted: Select[Any], sort: str) -> Select[Any]:
    columns = wanted.selected_columns
    first, *rest = (columns[name] for name in SORTS[sort])
    leading: ColumnElement[Any] = first.desc() if sort in _DOWNWARD else first.asc().nulls_last()
    return wanted.order_by(leading, *(column.asc().nulls_last() for column in rest))


def _with_refreshes(conn: Connection, rows: Sequence[Row[Any]], now: datetime) -> Iterator[TokenRow]:
    last = _last_refreshes(conn, {row.user_id for row in rows})
    lost = [row.fingerprint for row in rows if row.health == Health.NEEDS_RECONNECT and row.fingerprint]
    cases = open_cases(conn, sorted(set(lost)))
    found = findings_of(conn, sorted({row.fingerprint for row in rows if row.fingerprint}), policy=Policy(), now=now)
    for row in rows:
        name = row.fingerprint or ""
        worst = found[name][0].word if name in found else None
        yield _token_row(row, last.get(name), cases.get((name, row.user_id)), worst, now)


def _last_refreshes(conn: Connection, user_ids: Collection[str]) -> dict[str, Row]:
    """Fingerprint of the token it led to (or left in place) → the newest refresh, for these users' tokens."""
    r = capi_refresh.c
    stands = func.coalesce(r.new_fingerprint, r.fingerprint)
    newest = select(func.max(r.id).label("id")).where(r.user_id.in_(user_ids)).group_by(stands).subquery()
    rows = conn.execute(select(stands.label("stands"), r.started_at, r.outcome).join(newest, newest.c.id == r.id))
    return {row.stands: row for row in rows}


def _token_row(row: Row[Any], last: Row | None, case: CaseState | None, finding: str | None, now: datetime) -> TokenRow:
    health = Health(row.health)
    outcome = last.outcome if last else None
    known = {"has_token": row.fingerprint is not None, "broken": row.broken_failure, "case": case}
    ends: datetime | None = row.expires_at
    return TokenRow(
        app_id=row.app_id,
        public_id=row.public_id,
        app_name=row.app_name,
        shop=row.shop,
        user_id=row.user_id,
        email=row.email,
        pixel_id=row.pixel_id,
        fingerprint=row.fingerprint,
        health=health,
        platform=row.platform,
        expires_at=ends,
        days_left=(ends - now) / DAY if ends else None,
        broken_failure=row.broken_failure,
        last_refresh_at=last.started_at if last else None,
        last_outcome=outcome,
        waiting=row.waiting,
        finding=finding,
        next_step=next_step(health, outcome, finding=finding, now=now, **known),
    )
