"""How long Meta asks us to wait, read from its usage headers.

https://developers.facebook.com/docs/graph-api/overview/rate-limiting : the business use case header
counts minutes, the ad account header seconds, the app header names no time at all; `Retry-After` is not documented
but obeyed when present.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from core.meta.failures import Scope

LONGEST: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class UsedUp:
    """A limit that the next call would break; `seconds` until it is worth trying, where Meta names a time."""

    scope: Scope
    seconds: float | None


def retry_after(headers: Mapping[str, str], *, refused: bool, least: float = 0.0) -> float | None:
    """Seconds to stay away, at least `least` and at most a day, or None.

    The ad account header always carries the time to its next reset, so on an answer that was not
    refused it counts only when the account is used up.
    """
    for seconds in (
        _business(headers.get("X-Business-Use-Case-Usage")),
        _account(headers.get("X-Ad-Account-Usage"), refused=refused),
        _number(headers.get("Retry-After")),
    ):
        if seconds:
            return min(max(seconds, least), LONGEST)
    return least or None


def used_up(headers: Mapping[str, str]) -> UsedUp | None:
    """What an answer that Meta gave willingly says about the next: our app's limit before the pixel's."""
    if any((_number(value) or 0.0) >= 100 for value in _shares(headers.get("X-App-Usage"))):
        return UsedUp(Scope.APP, retry_after(headers, refused=False))
    seconds = retry_after(headers, refused=False)
    return UsedUp(Scope.PIXEL, seconds) if seconds else None


def _shares(header: str | None) -> list[Any]:
    """Percentages: {"call_count": 28, "total_time": 25, "total_cputime": 25}."""
    usage = _read(header)
    return list(usage.values()) if isinstance(usage, dict) else []


def _business(header: str | None) -> float | None:
    minutes = [_number(use.get("estimated_time_to_regain_access")) or 0.0 for use in _uses(_read(header))]
    return max(minutes, default=0.0) * 60 or None


def _uses(usage: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(usage, dict):
        for uses in usage.values():
            yield from (use for use in uses if isinstance(use, dict)) if isinstance(uses, list) else ()


def _account(header: str | None, *, refused: bool) -> float | None:
    usage = _read(header)
    if not isinstance(usage, dict):
        return None
    used_up = (_number(usage.get("acc_id_util_pct")) or 0.0) >= 100
    return _number(usage.get("reset_time_duration")) if refused or used_up else None


def _read(header: str | None) -> Any:
    try:
        return json.loads(header) if header else None
    except ValueError:
        return None


def _number(value: object) -> float | None:
    try:
        seconds = float(value) if isinstance(value, (int, float, str)) else 0.0
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None
