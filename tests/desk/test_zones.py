"""Days and moments as people in a zone mean them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from core.desk import zones
from core.errors import BadInput

BERLIN, NEW_YORK, AUCKLAND = (ZoneInfo(name) for name in ("Europe/Berlin", "America/New_York", "Pacific/Auckland"))


def _at(words: str) -> datetime:
    return datetime.fromisoformat(words).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "now", "since", "until"),
    [
        (UTC, "2026-11-26 14:00", "2026-11-25 00:00", "2026-11-26 00:00"),
        (BERLIN, "2026-11-26 22:59", "2026-11-24 23:00", "2026-11-25 23:00"),  # a minute before the next day
        (BERLIN, "2026-11-26 23:00", "2026-11-25 23:00", "2026-11-26 23:00"),  # and its first moment
        (NEW_YORK, "2026-11-26 04:59", "2026-11-24 05:00", "2026-11-25 05:00"),
        (AUCKLAND, "2026-11-26 11:00", "2026-11-25 11:00", "2026-11-26 11:00"),  # it is the 27th there
        (BERLIN, "2026-10-26 12:00", "2026-10-24 22:00", "2026-10-25 23:00"),  # 25 hours
        (BERLIN, "2026-03-30 12:00", "2026-03-28 23:00", "2026-03-29 22:00"),  # 23 hours
        (
            ZoneInfo("Asia/Beirut"),
            "2026-03-30 12:00",
            "2026-03-28 22:00",
            "2026-03-29 21:00",
        ),  # it began at one o'clock
    ],
)
def test_yesterday_is_the_day_before_where_the_reader_is(zone: tzinfo, now: str, since: str, until: str) -> None:
    assert zones.period("Yesterday", now=_at(now), zone=zone) == {"since": _at(since), "until": _at(until)}
    assert zones.period("Today", now=_at(now), zone=zone) == {"since": _at(until), "until": None}


def test_a_week_is_today_and_the_six_days_before() -> None:
    week = zones.period("Last 7 days", now=_at("2026-11-26 14:00"), zone=BERLIN)
    assert week == {"since": _at("2026-11-19 23:00"), "until": None}
    assert zones.period("Any time", now=_at("2026-11-26 14:00"), zone=BERLIN) == {"since": None, "until": None}


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("today", "2026-11-25 23:00"),
        ("yesterday", "2026-11-24 23:00"),
        ("2026-07-01", "2026-06-30 22:00"),
        ("2026-11-25T14:30", "2026-11-25 13:30"),
        ("2026-11-25 14:30:10", "2026-11-25 13:30:10"),
        ("2026-11-25T14:30Z", "2026-11-25 14:30"),
        ("2026-11-25T14:30-05:00", "2026-11-25 19:30"),
    ],
)
def test_a_moment_is_of_the_zone_unless_it_says_otherwise(words: str, meant: str) -> None:
    assert zones.moment(words, now=_at("2026-11-26 14:00"), zone=BERLIN) == _at(meant)


@pytest.mark.parametrize("words", ["", "tomorrow", "26.11.2026", "2026-02-30", "0001-01-01", "9999-12-31T23:59-10:00"])
def test_a_moment_that_cannot_be_read_says_what_can(words: str) -> None:
    with pytest.raises(BadInput, match="a day such as 2026-11-25"):
        zones.moment(words, now=_at("2026-11-26 14:00"), zone=BERLIN)


@pytest.mark.parametrize("name", ["", "Berlin", "Europe", "../etc/passwd", "/etc/localtime", "a\0b", "x" * 5_000])
def test_a_zone_nobody_knows_says_what_to_name(name: str) -> None:
    with pytest.raises(BadInput, match="such as Europe/Berlin"):
        zones.zone_of(name)


@pytest.mark.parametrize(
    ("name", "is_utc"),
    [("UTC", True), ("Etc/UTC", True), ("Atlantic/Reykjavik", True), ("Europe/London", False), ("Asia/Kolkata", False)],
)
def test_what_shows_utc_all_year_is_utc(name: str, is_utc: bool) -> None:
    assert zones.is_utc(zones.zone_of(name)) is is_utc


def test_days_are_reckoned_without_gaps() -> None:
    now = _at("2026-11-26 14:00")
    for zone in (UTC, BERLIN, NEW_YORK, AUCKLAND, ZoneInfo("America/Santiago"), ZoneInfo("Africa/Casablanca")):
        starts = [zones.day_start(now, zone, ago=ago) for ago in range(400)]
        lengths = {before - after for before, after in pairwise(starts)}
        assert lengths <= {timedelta(hours=hours) for hours in (23, 24, 25)}
