"""What is ready to be sent, how it is found when it has been sent, and what is left of it when it must go."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event, make_url, select, update

from core.store import outbox, ready
from core.store.database import reading, writing
from core.store.schema import capi_outbox
from tests.world import World

# How a database says that the ids find the ledger's lines.
BY_ID = {"sqlite": "USING INTEGER PRIMARY KEY (rowid=?)", "postgresql": "pk_capi_event"}
PLAN = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}


def test_the_earliest_deadlines_come_first_and_as_many_as_fit(world: World) -> None:
    one, other = (world.an_app(world.meta.create_token(), pixel="1") for _ in range(2))
    for app in (one, other, one, other):
        world.an_event(app)
    ids, now = _ids(world), world.clock()
    with writing(world.engine) as conn:
        for n, event_id in enumerate(reversed(ids)):
            later = now + timedelta(hours=n + 1)
            conn.execute(update(capi_outbox).where(capi_outbox.c.id == event_id).values(deadline_at=later))

        def taken(*apps: str, size: int = 10**6, count: int = 10) -> list[int]:
            found = ready.take(conn, "1", list(apps) or None, now=now, count=count, size=size)
            return [payload.id for payload in found]

        first, second = ready.take(conn, "1", now=now, count=2, size=10**6)
        room = len(first.body) + len(second.body) + 2  # and a comma for each
        assert taken() == ids[::-1]
        assert taken(count=3) == ids[:0:-1]
        assert taken(size=room) == ids[:1:-1]
        assert taken(size=room - 1) == taken(size=1) == [ids[-1]]
        mine = set(conn.scalars(select(capi_outbox.c.id).where(capi_outbox.c.app_id == one.id)))
        assert taken(one.id) == [event_id for event_id in ids[::-1] if event_id in mine]
        assert len(mine) == 2
        assert taken(one.id, other.id) == ids[::-1]


def test_what_was_sent_is_found_by_its_ids_however_much_is_due(world: World) -> None:
    app = world.an_app(world.meta.create_token())
    for _ in range(40):
        world.an_event(app)
    asked: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    ids, dialect = _ids(world), world.engine.dialect.name
    with writing(world.engine) as conn:
        event.listen(world.engine, "before_cursor_execute", note)
        outbox.move(conn, "deliver", ids, delivered_at=world.clock(), failure=None)
        event.remove(world.engine, "before_cursor_execute", note)
        (update_ledger,) = [one for one in asked if one[0].startswith("UPDATE capi_event")]
        if dialect == "postgresql":
            conn.exec_driver_sql("SET LOCAL enable_seqscan = off")  # as it is with many
        plan = conn.exec_driver_sql(PLAN[dialect] + update_ledger[0], update_ledger[1]).all()
    shown = "\n".join(str(line) for line in plan)
    assert BY_ID[dialect] in shown, shown
    assert "ix_capi_event_state" not in shown, shown


def test_a_redacted_payload_is_not_left_in_the_file(sqlite_world: World) -> None:
    """Larger than a page: what comes free with it is not written again by itself."""
    world = sqlite_world
    app = world.an_app(world.meta.create_token())
    world.an_event(app)
    file = Path(make_url(str(world.engine.url)).database or "")
    mark = b"the-browser-of-somebody-" * 400
    with writing(world.engine) as conn:
        conn.execute(update(capi_outbox).values(payload=mark, state="dead"))
    _to_file(world)
    assert mark[:240] in file.read_bytes()
    with writing(world.engine) as conn:
        assert outbox.redact(conn, _ids(world), due=False) == _ids(world)
    _to_file(world)
    assert b"the-browser-of-somebody-" not in file.read_bytes()


def _to_file(world: World) -> None:
    with world.engine.connect() as conn:
        conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()


def _ids(world: World) -> list[int]:
    with reading(world.engine) as conn:
        return list(conn.scalars(select(capi_outbox.c.id).order_by(capi_outbox.c.id)))
