"""What is sent in one request, and the one that is let through to see whether Meta is back."""

from __future__ import annotations

from dataclasses import dataclass

from core.meta.graph import GraphError, Sent
from core.secret import Secret
from core.store.pixels import Lease
from core.store.ready import Payload


@dataclass(slots=True)
class Probe:
    """A delivery that is let through while an incident is open: what Meta answered, once it did.

    `foreign`: nobody knows that our Meta app made the token, so the answer says nothing about a limit of our app.
    """

    answer: Sent | GraphError | None = None
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one pixel that go with one token; `ours`: our Meta app made the token, as far as anybody knows."""

    lease: Lease
    token: Secret | None
    test_event_code: str | None
    ours: bool
    events: tuple[Payload, ...]
    probe: Probe | None = None

    @property
    def foreign(self) -> bool:
        """Whether limits of "the application" are another's: nobody is stopped for a token of unknown maker."""
        return not self.ours

    @property
    def ids(self) -> list[int]:
        return [event.id for event in self.events]
