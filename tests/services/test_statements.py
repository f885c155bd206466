"""What one refresh asks of the database: each statement is a round trip, and they are most of what it takes beyond
Meta's own time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, event

from core.doors.worker import Worker
from core.services import bulk
from core.store import jobs, tokens
from core.store.database import writing
from tests.world import DAY, World

# SQLite's own: we say BEGIN ourselves there, and wipe what a token leaves behind. Nothing of it goes over a wire.
_LOCAL = ("BEGIN", "PRAGMA")


@dataclass
class Asked:
    """Statements in their order, and how many transactions of which kind they were made in."""

    statements: list[str] = field(default_factory=list)
    committed: int = 0
    looked: int = 0

    def __str__(self) -> str:
        return "\n".join(" ".join(one.split())[:110] for one in self.statements)


@contextmanager
def asked(engine: Engine) -> Iterator[Asked]:
    seen = Asked()

    def statement(_conn: Any, _cursor: Any, text: str, *_: Any) -> None:
        if not text.startswith(_LOCAL):
            seen.statements.append(text)

    def commit(_: Any) -> None:
        seen.committed += 1

    def rollback(_: Any) -> None:
        seen.looked += 1

    listeners: dict[str, Callable[..., None]] = {
        "before_cursor_execute": statement,
        "commit": commit,
        "rollback": rollback,
    }
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    yield seen
    for name, listener in listeners.items():
        event.remove(engine, name, listener)


def _ending(world: World, count: int) -> list[str]:
    """Tokens of different people that end in five days, each looked at and refreshed by the schedule in its time."""
    found = []
    for n in range(count):
        token = world.meta.create_token(expires_in=5 * 86_400)
        app = world.an_app(token, expires_in=5 * DAY, email=f"shop{n}@example.com")
        facts, now = world.graph().debug_token(token), world.clock()
        with writing(world.engine) as conn:
            tokens.see(conn, token.fingerprint, user_id=app.user_id, now=now, next_refresh_at=now)
            tokens.learn(conn, token.fingerprint, facts, now=now)
            tokens.plan(conn, token.fingerprint, now)
        found.append(token.fingerprint)
    return found


def test_a_scheduled_refresh_asks_little_of_the_database(world: World) -> None:
    first, second = _ending(world, 2)
    worker = Worker(world.engine, world.service(), threads=1)
    worker._refresh(first)  # what is asked once a process, or once ever
    with asked(world.engine) as seen:
        worker._refresh(second)
    assert [row.outcome for row in world.refreshes()] == ["extended", "extended"]
    assert (len(seen.statements), seen.committed, seen.looked) == (19, 4, 1), seen


def test_a_refresh_of_a_bulk_job_asks_little_of_the_database(world: World) -> None:
    first, second = found = _ending(world, 2)
    service, now = world.service(), world.clock()
    with writing(world.engine) as conn:
        job_id = jobs.order(conn, "refresh_tokens", found, dedupe_key="key", by="ann", reason=None, now=now)
        job = jobs.take(conn, job_id, by=service.worker, now=now)
    assert job is not None
    bulk.KINDS[job.kind].work(service, job, [first])
    with asked(world.engine) as seen:
        bulk.KINDS[job.kind].work(service, job, [second])
    assert [row.outcome for row in world.refreshes()] == ["extended", "extended"]
    assert (len(seen.statements), seen.committed, seen.looked) == (20, 4, 2), seen
