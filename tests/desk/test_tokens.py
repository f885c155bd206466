"""What the console says of tokens, on both databases."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, delete, insert, text

from core.desk import queries
from core.desk.health_sql import LEFT
from core.desk.tokens import EVERY, TokenFilters
from core.store import rollups
from core.store.database import reading, writing
from core.store.health import Health, health_of, platform_word
from core.store.rollups import HOUR
from core.store.schema import capi_rollup
from tests.desk.rows import seed

DAY, SOON, WINDOW = timedelta(days=1), timedelta(days=7), timedelta(days=30)

# The platform's own monitoring query, in each database's words for "now".
_PLATFORM = """
    SELECT a.id, CASE
        WHEN s."metaTokenExpiresAt" IS NULL THEN 'No expiry set'
        WHEN s."metaTokenExpiresAt" < {now} THEN 'EXPIRED'
        WHEN s."metaTokenExpiresAt" < {soon} THEN 'Expiring soon'
        ELSE 'Valid' END AS status
    FROM "App" a JOIN "AppSettings" s ON s."appId" = a.id
"""
_NOW = {
    "postgresql": ("TIMESTAMP '2026-11-23 12:00:00'", "TIMESTAMP '2026-11-23 12:00:00' + INTERVAL '7 days'"),
    "sqlite": ("'2026-11-23 12:00:00.000'", "'2026-11-30 12:00:00.000'"),
}


@pytest.fixture
def world(engine: Engine, now: datetime) -> Engine:
    seed(engine, now=now, apps=72)
    return engine


def _rows(
    engine: Engine, now: datetime, filters: queries.TokenFilters = EVERY, **more: object
) -> list[queries.TokenRow]:
    with reading(engine) as conn:
        return queries.token_health(conn, filters, now=now, soon=SOON, window=WINDOW, **more)  # type: ignore[arg-type]


def test_the_platforms_four_words_are_ours_for_every_row(world: Engine, now: datetime) -> None:
    moment, soon = _NOW[world.dialect.name]
    with reading(world) as conn:
        theirs = {row[0]: row[1] for row in conn.execute(text(_PLATFORM.format(now=moment, soon=soon)))}
    assert {row.app_id: row.platform for row in _rows(world, now)} == theirs
    assert set(theirs.values()) == {"No expiry set", "EXPIRED", "Expiring soon", "Valid"}


def test_health_in_sql_is_health_in_python(world: Engine, now: datetime) -> None:
    with reading(world) as conn:
        known = {row.fingerprint: row for row in conn.execute(text("SELECT * FROM capi_token"))}
    for row in _rows(world, now):
        token = known[row.fingerprint]
        expected = health_of(
            row.expires_at,
            never_expires=bool(token.never_expires),
            needs_reconnect=bool(token.needs_reconnect),
            now=now,
            soon=SOON,
            window=WINDOW,
        )
        assert row.health is expected
        assert row.platform == platform_word(row.expires_at, now=now, soon=SOON)


@pytest.mark.parametrize(
    ("seconds", "word"),
    [(-1, "EXPIRED"), (0, "Expiring soon"), (7 * 86400 - 1, "Expiring soon"), (7 * 86400, "Renewing")],
)
def test_the_edges_of_each_word(engine: Engine, now: datetime, seconds: int, word: str) -> None:
    seed(engine, now=now, apps=1, events=0)
    with writing(engine) as conn:
        _end_at(conn, now + timedelta(seconds=seconds))
    (row,) = _rows(engine, now)
    assert row.health == word


def test_ends_that_prisma_or_a_person_wrote_on_sqlite(sqlite_engine: Engine, now: datetime) -> None:
    seed(sqlite_engine, now=now, apps=3, events=0)
    late = str(int((now - timedelta(days=1)).timestamp() * 1000))
    written = (late, "datetime('2026-11-25')", "'2026-12-10T00:00:00.000Z'")
    with writing(sqlite_engine) as conn:
        for number, value in enumerate(written):
            where = f"""WHERE "appId" = 'app-{number:05d}'"""
            conn.execute(text(f'UPDATE "AppSettings" SET "metaTokenExpiresAt" = {value} {where}'))
    found = {row.app_id: str(row.health) for row in _rows(sqlite_engine, now)}
    assert found == {"app-00000": "EXPIRED", "app-00001": "Expiring soon", "app-00002": "Renewing"}


def test_counts_agree_with_rows_and_most_urgent_comes_first(world: Engine, now: datetime) -> None:
    rows = _rows(world, now)
    with reading(world) as conn:
        counts = queries.health_counts(conn, now=now, soon=SOON, window=WINDOW)
    assert dict(Counter(row.health for row in rows)) == {word: count for word, count in counts.items() if count}
    assert [row.health for row in rows] == sorted((row.health for row in rows), key=list(Health).index)


def test_pages_join_to_the_whole(world: Engine, now: datetime) -> None:
    pages = [row for start in range(0, 72, 20) for row in _rows(world, now, limit=20, offset=start)]
    assert pages == _rows(world, now)


def test_search_and_filter(world: Engine, now: datetime) -> None:
    assert {row.app_id for row in _rows(world, now, TokenFilters(search="owner3@"))} == {
        "app-00009",
        "app-00010",
        "app-00011",
    }
    assert _rows(world, now, TokenFilters(search="100%")) == []
    expired = _rows(world, now, TokenFilters(health=["EXPIRED"]))
    assert expired
    assert {row.health for row in expired} == {Health.EXPIRED}


@pytest.mark.parametrize(
    ("left", "word"),
    [
        (timedelta(seconds=-1), "overdue"),
        (timedelta(0), "under 3 days"),
        (3 * DAY - timedelta(seconds=1), "under 3 days"),
        (3 * DAY, "3 to 7 days"),
        (7 * DAY, "7 to 14 days"),
        (14 * DAY, "14 to 30 days"),
        (30 * DAY, "30 to 60 days"),
        (60 * DAY, "60 days or more"),
        (None, "no end known"),
    ],
)
def test_the_edges_of_days_left(engine: Engine, now: datetime, left: timedelta | None, word: str) -> None:
    seed(engine, now=now, apps=1, events=0)
    with writing(engine) as conn:
        _end_at(conn, None if left is None else now + left)
    with reading(engine) as conn:
        counts = queries.days_left(conn, now=now)
    assert {bucket: count for bucket, count in counts.items() if count} == {word: 1}
    assert list(counts) == list(LEFT)


def test_the_histogram_counts_what_its_filter_lists(world: Engine, now: datetime) -> None:
    with reading(world) as conn:
        counts = queries.days_left(conn, now=now)
        for word, count in counts.items():
            listed = _rows(world, now, TokenFilters(left=word))
            assert len(listed) == count
            of_health = queries.health_counts(conn, TokenFilters(left=word), now=now, soon=SOON, window=WINDOW)
            assert sum(of_health.values()) == count
    assert sum(counts.values()) == 72
    assert sum(count > 0 for count in counts.values()) >= 5


@pytest.mark.parametrize("sort", queries.SORTS)
def test_every_sort_lists_every_app(world: Engine, now: datetime, sort: str) -> None:
    assert len(_rows(world, now, sort=sort)) == 72


def test_waiting_events_and_the_last_refresh_stand_beside_the_token(world: Engine, now: datetime) -> None:
    broken = [row for row in _rows(world, now) if row.waiting]
    assert broken
    assert all(row.broken_failure for row in broken)
    refreshed = next(row for row in _rows(world, now) if row.last_outcome == "extended")
    assert refreshed.last_refresh_at is not None
    assert refreshed.last_refresh_at < now


def test_due_are_the_broken_and_the_ending_but_not_the_lost(world: Engine, now: datetime) -> None:
    with reading(world) as conn:
        due = set(queries.due_fingerprints(conn, now=now, window=WINDOW))
    rows = _rows(world, now)
    wanted = {Health.EXPIRED, Health.EXPIRING_SOON, Health.RENEWING}
    assert due == {row.fingerprint for row in rows if row.health in wanted}


def test_the_calendar_counts_each_end_once(world: Engine, now: datetime) -> None:
    with reading(world) as conn:
        days = queries.expiries_by_day(conn, now=now, soon=SOON, window=WINDOW, days=60)
    ahead = [row for row in _rows(world, now) if row.expires_at and now <= row.expires_at]
    assert sum(apps for _, _, apps in days if apps) >= len(ahead)
    assert all(0 <= day < 60 for day, _, _ in days)


def test_the_calendar_weighs_by_what_hangs_on_each_token(world: Engine, now: datetime) -> None:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    rows = [row for row in _rows(world, now) if row.expires_at and today <= row.expires_at < today + 60 * DAY]
    busy = next(row for row in rows if row.pixel_id)
    with writing(world) as conn:
        conn.execute(delete(capi_rollup))
        rollup = {"pixel_id": busy.pixel_id, "hour": rollups.hour_of(now - 3 * HOUR), "delivered": 70}
        rollup |= {"after_refresh": 0, "refused": 0, "requests": 14}
        conn.execute(insert(capi_rollup).values(**rollup))
        conn.execute(insert(capi_rollup).values(**rollup | {"hour": rollups.hour_of(now - 2 * DAY)}))
    with reading(world) as conn:
        apps = queries.expiries_by_day(conn, now=now, soon=SOON, window=WINDOW, days=60)
        events = queries.expiries_by_day(conn, now=now, soon=SOON, window=WINDOW, days=60, weigh=True)
    assert [line[:2] for line in events] == [line[:2] for line in apps], "the same days, other heights"
    waiting = sum(row.waiting for row in rows)
    assert sum(height for *_, height in events) == waiting + 70, "yesterday's is counted, what is older is not"


def _end_at(conn: object, moment: datetime | None) -> None:
    from core.store.platform_tables import app_settings

    conn.execute(app_settings.update().values(metaTokenExpiresAt=moment))  # type: ignore[attr-defined]
