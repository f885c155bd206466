"""What a story is made of: lines in order of time, and where the thing stands now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement

from core.desk.explain import Explanation

GOOD, BAD, WAIT, PLAIN = "good", "bad", "wait", "plain"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened. `detail` holds what others wrote, and numbers; `rank` orders what came at once."""

    at: datetime
    what: str
    whose: str
    tone: str = PLAIN
    detail: tuple[str, ...] = ()
    rank: int = 5


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` to `until`, both included."""

    since: datetime
    until: datetime

    def has(self, moment: datetime | None) -> bool:
        return moment is not None and self.since <= moment <= self.until

    def between(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        return column.between(self.since, self.until)


def in_order(lines: Iterable[Line]) -> tuple[Line, ...]:
    return tuple(sorted(lines, key=lambda line: (line.at, line.rank)))


def utc(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "–"


@dataclass(frozen=True, slots=True)
class Story:
    """`now` in a sentence, whose move it is and what to do; `merchant` is a text to copy, where there is one to tell.

    `facts`: label → value. Lines after this moment are what is planned. `view`: the one of Failed events that lists it.
    """

    title: str
    now: Explanation
    tone: str
    facts: dict[str, str]
    lines: tuple[Line, ...]
    merchant: str | None = None
    view: str | None = None
