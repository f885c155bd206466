"""Time that is moved: for drills and tests that show weeks in minutes."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Engine, event

from core.store.database import is_embedded


class Clock:
    """A clock that is moved by hand."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment

    def on(self, step: timedelta) -> None:
        self.moment += step


def hasten(engine: Engine) -> None:
    """Nothing time-lapsed outlives a power cut, so none of it waits for the disk."""
    if is_embedded(engine):
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
