"""The schedule: which healthy tokens are refreshed now, and how many of them in a minute, by all workers together."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from sqlalchemy import Engine

from core.services import incidents
from core.services.policy import Policy
from core.store import tokens, workers
from core.store.database import reading, writing

# How often the schedule is looked at.
EVERY = timedelta(seconds=5)
_TURN = "refresh turn"


def due_refreshes(engine: Engine, policy: Policy, *, now: datetime) -> list[str]:
    """Fingerprints of healthy tokens whose refresh has come, no more than may begin until the next look.

    Those inside the alarm window come first. None while an incident is open: whatever is due then waits for its end.
    """
    with reading(engine) as conn:
        if incidents.gate(conn, now=now) is not None:
            return []
        soon = now + policy.soon
        return tokens.due_for_refresh(conn, now=now, limit=_burst(policy), broken=False, soon=soon)


def may_begin(engine: Engine, policy: Policy, *, now: datetime) -> bool:
    """Whether one more scheduled refresh may begin now; whoever may not is found due again at the next look."""
    with writing(engine) as conn:
        return workers.take_turn(conn, _TURN, a_minute=policy.refreshes_a_minute, burst=_burst(policy), now=now)


def _burst(policy: Policy) -> int:
    """What one look may set off at once."""
    return max(1, math.ceil(policy.refreshes_a_minute * (EVERY / timedelta(minutes=1))))
