"""How much hangs on which tokens: by hand, on both databases."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, update

from core.desk import volume
from core.store import apps, rollups
from core.store.database import reading, writing
from core.store.platform_tables import app_settings
from tests.services.alerting import break_tokens, many_apps, wait_events

HOUR = timedelta(hours=1)
AHEAD = {"soon": timedelta(days=7), "window": timedelta(days=30)}


def _counted(engine: Engine, hour: datetime, counts: dict[str, int]) -> None:
    with writing(engine) as conn:
        rollups.put(conn, hour, {pixel: rollups.Counts(count, 0, 0, 1) for pixel, count in counts.items()})


def _pixels(engine: Engine) -> list[str]:
    with reading(engine) as conn:
        return [str(one.pixel_id) for one in apps.every(conn)]


def test_the_share_of_events_on_tokens_that_work(engine: Engine, now: datetime) -> None:
    names = many_apps(engine, 3, now=now)
    first, second, third = _pixels(engine)
    _counted(engine, rollups.hour_of(now), {first: 70, second: 20})
    _counted(engine, rollups.hour_of(now) - 30 * HOUR, {third: 1_000})
    with reading(engine) as conn:
        assert volume.share(conn, now=now, **AHEAD) == volume.Share(90, 90)
    break_tokens(engine, [names[1]], now=now)
    wait_events(engine, 1, 10, now=now, left=24 * HOUR)
    with reading(engine) as conn:
        found = volume.share(conn, now=now, **AHEAD)
    assert found == volume.Share(70, 100)
    assert found.percent == pytest.approx(70)


def test_a_pixel_of_two_apps_flows_on_the_token_that_works_and_one_of_no_app_on_none(
    engine: Engine, now: datetime
) -> None:
    names = many_apps(engine, 3, now=now)
    first, second, _ = _pixels(engine)
    with reading(engine) as conn:
        shared = apps.every(conn)[1]
    with writing(engine) as conn:
        conn.execute(update(app_settings).where(app_settings.c.appId == shared.id).values(metaPixelId=first))
    _counted(engine, rollups.hour_of(now), {first: 70, second: 20, "9999": 5})
    break_tokens(engine, [names[0]], now=now)
    with reading(engine) as conn:
        assert volume.share(conn, now=now, **AHEAD) == volume.Share(70, 95)


def test_without_events_there_is_no_share(engine: Engine, now: datetime) -> None:
    many_apps(engine, 1, now=now)
    with reading(engine) as conn:
        assert volume.share(conn, now=now, **AHEAD).percent is None


def test_what_an_hour_carries_is_of_whole_hours(engine: Engine, now: datetime) -> None:
    this = rollups.hour_of(now)
    _counted(engine, this, {"1": 500})
    _counted(engine, this - HOUR, {"1": 24, "2": 24, "3": 99})
    _counted(engine, this - 24 * HOUR, {"1": 48})
    _counted(engine, this - 25 * HOUR, {"1": 480})
    with reading(engine) as conn:
        assert volume.per_hour(conn, {"1", "2"}, now=now) == 4
        assert volume.per_hour(conn, set(), now=now) == 0
