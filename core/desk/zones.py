"""Which clock a reader lives by: their time zone, where their days begin, and the periods that are named after them."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from core.errors import BadInput

# From the start of the day so many days ago, until the start of another.
PERIODS: dict[str, tuple[int | None, int | None]] = {
    "Any time": (None, None),
    "Today": (0, None),
    "Yesterday": (1, 0),
    "Last 7 days": (6, None),
}
_DAYS = {"today": 0, "yesterday": 1}
_HALVES = (datetime(2026, 1, 1), datetime(2026, 7, 1))


def zone_of(name: str) -> tzinfo:
    """A zone by its IANA name; BadInput for a name that is not known here."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: a folder of zones, such as `Europe`
        words = "a name such as Europe/Berlin, America/New_York or UTC is needed"
        raise BadInput(f"{name!r} is no time zone that this machine knows: {words}") from None


def is_utc(zone: tzinfo) -> bool:
    """Whether its clock shows UTC in winter and summer, whatever its name."""
    return not any(zone.utcoffset(half) for half in _HALVES)


def day_start(now: datetime, zone: tzinfo, *, ago: int) -> datetime:
    """When the day so many days ago began for people in this zone, in UTC."""
    day = now.astimezone(zone).date() - timedelta(days=ago)
    return datetime.combine(day, time.min, zone).astimezone(UTC)


def period(word: str, *, now: datetime, zone: tzinfo) -> dict[str, datetime | None]:
    """`since` and `until` of one of PERIODS, as the queries take them. KeyError for another word."""
    since, until = (None if ago is None else day_start(now, zone, ago=ago) for ago in PERIODS[word])
    return {"since": since, "until": until}


def moment(words: str, *, now: datetime, zone: tzinfo) -> datetime:
    """`today`, `yesterday`, a day (its start) or a moment in ISO 8601, in this zone unless it names its offset; in UTC.
    BadInput."""
    if words in _DAYS:
        return day_start(now, zone, ago=_DAYS[words])
    try:
        at = datetime.fromisoformat(words)
        return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        known = "today, yesterday, a day such as 2026-11-25 or a moment such as 2026-11-25T14:30"
        raise BadInput(f"{words!r} is no time that can be read: {known}") from None
