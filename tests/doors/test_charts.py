"""What the charts' axes say where little or nothing is to be shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.desk.health_sql import LEFT
from core.desk.queries import Hour
from core.doors import charts
from core.store.health import Health

START = datetime(2026, 11, 23, tzinfo=UTC)


def _hours(most: int) -> list[Hour]:
    return [
        Hour(START + timedelta(hours=n), delivered=most if n == 3 else 0, after_refresh=0, refused=0) for n in range(24)
    ]


@pytest.mark.parametrize(("most", "top"), [(0, 1.05), (1, 1.05), (3, 3.15)])
def test_low_bars_are_counted_in_whole_numbers(most: int, top: float) -> None:
    axis = charts.deliveries(_hours(most)).layout.yaxis
    assert (axis.dtick, axis.range) == (1, pytest.approx((0, top)))


def test_high_bars_are_left_to_the_chart() -> None:
    axis = charts.deliveries(_hours(400)).layout.yaxis
    assert (axis.dtick, axis.range) == (None, None)


def test_what_is_stacked_on_a_day_is_added_up() -> None:
    days = [(START, "extended", 3), (START, "refused", 2), (START + timedelta(days=1), "refused", 1)]
    assert charts.refreshes(days, charts.OUTCOMES).layout.yaxis.dtick is None, "five on one day"


def test_refreshes_are_stacked_by_what_set_them_off_too() -> None:
    days = [(START, "scheduled", 3), (START, "on_error", 2)]
    drawn = {bar.name: sum(bar.y) for bar in charts.refreshes(days, charts.REFRESHES["trigger"]).data}
    assert drawn == {"Scheduled": 3, "On error": 2}


def test_the_calendar_says_what_its_bars_are() -> None:
    figure = charts.expiry_calendar([(2, Health.VALID, 70)], start=START, unit="events a day")
    assert figure.layout.yaxis.title.text == "events a day"
    assert [sum(bar.y) for bar in figure.data] == [70]


def test_a_calendar_without_an_end_is_drawn_empty() -> None:
    figure = charts.expiry_calendar([], start=START)
    assert (list(figure.data), figure.layout.yaxis.dtick) == ([], 1)


def test_lying_bars_keep_their_words() -> None:
    figure = charts.days_left(dict.fromkeys(LEFT, 0))
    assert figure.layout.yaxis.range is None


def test_the_histogram_of_days_left_is_read_without_colour() -> None:
    (bars,) = charts.days_left(dict(zip(LEFT, range(1_000, 9_000, 1_000), strict=True))).data
    assert list(reversed(bars.y)) == list(LEFT)
    assert list(reversed(bars.text)) == [f"{count},000" for count in range(1, 9)]
    shapes = dict(zip(bars.y, bars.marker.pattern.shape, strict=True))
    assert len({shapes[word] for word in ("overdue", "under 3 days", "14 to 30 days", "no end known")}) == 4
