"""Time that a test moves: ours and Meta's."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.world import World


class Clock:
    """A clock that a test moves."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment

    def on(self, step: timedelta) -> None:
        self.moment += step


def tick(world: World, step: timedelta) -> None:
    """Forward, or back."""
    world.clock.on(step)  # type: ignore[attr-defined]
    world.meta.set_clock(world.clock())
