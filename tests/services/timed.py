"""Time that a test moves: ours and Meta's."""

from __future__ import annotations

from datetime import timedelta

from core.drills.timelapse import Clock
from tests.world import World

__all__ = ["Clock", "tick"]


def tick(world: World, step: timedelta) -> None:
    """Forward, or back."""
    world.clock.on(step)  # type: ignore[attr-defined]
    world.meta.set_clock(world.clock())
