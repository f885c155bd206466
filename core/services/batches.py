"""What is sent in one request, and the one that is let through to see whether Meta is back."""

from __future__ import annotations

from dataclasses import dataclass

from core.meta.graph import GraphError, Sent
from core.secret import Secret
from core.store.outbox import Payload
from core.store.pixels import Lease


@dataclass(slots=True)
class Probe:
    """A delivery that is let through while an incident is open: what Meta answered, once it did."""

    answer: Sent | GraphError | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one pixel that go with one token; `ours`: our Meta app made the token, `foreign`: another did."""

    lease: Lease
    token: Secret | None
    test_event_code: str | None
    ours: bool
    events: tuple[Payload, ...]
    foreign: bool = False
    probe: Probe | None = None

    @property
    def ids(self) -> list[int]:
        return [event.id for event in self.events]
