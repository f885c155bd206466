"""The first page: each health with its count and its line of two weeks."""

from __future__ import annotations

from sqlalchemy import Engine

from core import clock
from core.store import health_days
from core.store.database import writing
from core.store.health import Health
from tests.desk.rows import DAY
from tests.pages.screen import Screen


def test_each_health_has_its_count_and_its_line(world: Engine) -> None:
    with writing(world) as conn:
        for back in (1, 2):
            health_days.put(conn, dict.fromkeys(Health, 10 * back), now=clock.now() - back * DAY)
    rows = next(one.value for one in Screen("overview").at.dataframe if "Last 14 days" in one.value.columns)
    assert [word for (word,) in rows["Health"]] == [str(word) for word in Health]
    assert rows["Apps"].sum() == 60
    assert [list(line) for line in rows["Last 14 days"]] == [[20, 10, apps] for apps in rows["Apps"]]


def test_a_console_without_apps_draws_its_lines_at_nothing(store: Engine) -> None:
    rows = next(one.value for one in Screen("overview").at.dataframe if "Last 14 days" in one.value.columns)
    assert [list(line) for line in rows["Last 14 days"]] == [[0]] * len(Health)
