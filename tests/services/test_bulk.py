"""Ordered work: every item once, counted, cancelled, resumed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, event, select

from core import clock
from core.errors import Conflict
from core.services import bulk, rights, watch
from core.store import again, jobs, outbox
from core.store.database import reading, upsert, writing
from core.store.schema import capi_job, capi_job_item, capi_outbox, capi_pixel
from tests.world import DAY, World


def _order(world: World, kind: str, subjects: list[str]) -> int:
    with writing(world.engine) as conn:
        return jobs.order(conn, kind, subjects, dedupe_key="key", by="ann", reason="why", now=world.clock())


def _counts(world: World, job: int) -> tuple[str, int, int, int]:
    with reading(world.engine) as conn:
        row = conn.execute(select(capi_job).where(capi_job.c.id == job)).one()
    return row.state, row.done, row.failed, row.skipped


def test_a_bulk_refresh_counts_what_worked_and_what_did_not(world: World) -> None:
    good = [world.meta.create_token(expires_in=5 * 24 * 3600) for _ in range(5)]
    dead = world.meta.create_token(expires_in=-1)
    for token in [*good, dead]:
        world.an_app(token, expires_in=5 * DAY)
    job = _order(world, "refresh_tokens", [token.fingerprint for token in [*good, dead]])
    bulk.run(world.service(), job, threads=4)
    assert _counts(world, job) == ("done", 6, 1, 0)
    assert world.meta.count("exchange") == 6
    assert {row.trigger for row in world.refreshes()} == {"bulk"}
    assert {row.by for row in world.refreshes()} == {"ann"}
    said = _words(world, job)
    assert {said[token.fingerprint] for token in good} == {"extended"}, "what came of it is said once"
    assert said[dead.fingerprint].startswith("needs_reconnect: ")


def _dead_event(world: World, **more: object) -> int:
    app = world.an_app(world.meta.create_token())
    dead = world.event(world.an_event(app, **more))  # type: ignore[arg-type]
    with writing(world.engine) as conn:
        outbox.move(conn, "bury", [dead.id], failure="invalid_event")
    return int(dead.id)


def test_a_retry_makes_dead_events_due_and_skips_the_hopeless_with_a_reason(world: World) -> None:
    fresh, late = _dead_event(world), _dead_event(world, age=7 * DAY)
    job = _order(world, "retry_events", [str(fresh), str(late), "12345"])
    bulk.run(world.service(), job, threads=2)
    assert _counts(world, job) == ("done", 3, 0, 2)
    assert world.states() == {"due": 1, "dead": 1}
    with reading(world.engine) as conn:
        assert jobs.results(conn, job) == {"ok": 1, "skipped": 2}


def test_a_cancelled_job_goes_no_further(world: World) -> None:
    ids = [_dead_event(world) for _ in range(3)]
    job = _order(world, "retry_events", [str(one) for one in ids])
    with writing(world.engine) as conn:
        jobs.end(conn, job, now=world.clock(), state="cancelled")
    bulk.run(world.service(), job, threads=2)
    assert _counts(world, job)[:2] == ("cancelled", 0)
    assert world.states() == {"dead": 3}


def test_a_job_that_must_stop_is_finished_by_the_next_worker(world: World) -> None:
    ids = [_dead_event(world) for _ in range(3)]
    job = _order(world, "retry_events", [str(one) for one in ids])
    bulk.run(world.service("first"), job, threads=1, stop=lambda: True)
    assert _counts(world, job)[:2] == ("running", 0)
    bulk.run(world.service("second"), job, threads=1)
    assert _counts(world, job) == ("done", 3, 0, 0)


def test_every_kind_of_job_has_its_work() -> None:
    with pytest.raises(KeyError):
        bulk.KINDS["something else"]
    ordered = {"refresh_tokens", "retry_events", "customer_data", "redact_customer", "redact_shop"}
    assert set(bulk.KINDS) == ordered


def test_a_person_may_have_a_barred_token_tried_at_once(world: World) -> None:
    app = world.an_app(world.meta.create_token(pixels=["1"]))
    event = world.event(world.an_event(app))
    world.deliver(app)
    assert watch.release_replaced(world.engine, now=world.clock()) == 0
    job = _order(world, "retry_events", [str(event.id)])
    bulk.run(world.service(), job, threads=1)
    assert watch.release_replaced(world.engine, now=world.clock()) == 1
    assert _counts(world, job) == ("done", 1, 0, 0)


def test_events_of_many_shops_are_made_due_together_and_each_once(world: World) -> None:
    fresh = [_dead_event(world) for _ in range(2 * bulk.KINDS["retry_events"].size + 3)]
    late = [_dead_event(world, age=7 * DAY) for _ in range(4)]
    order = [str(one) for one in [*late, *fresh]]
    job = _order(world, "retry_events", order)
    commits: list[Connection] = []
    event.listen(world.engine, "commit", commits.append)
    bulk.run(world.service(), job, threads=2)
    assert _counts(world, job) == ("done", len(order), 0, len(late))
    assert world.states() == {"due": len(fresh), "dead": len(late)}
    assert len(commits) < len(order) / 2, "what an event costs is not a commit"


def test_a_pixel_that_waits_for_nothing_is_left_to_whoever_delivers_for_it(world: World) -> None:
    """To lock it would make a job of many and the deliveries that it brings about wait for each other."""
    free, waiting = _dead_event(world), _dead_event(world)
    p, until = capi_pixel.c, world.clock() + DAY
    with writing(world.engine) as conn:
        pixel = {
            id_: conn.scalar(select(capi_outbox.c.pixel_id).where(capi_outbox.c.id == id_)) for id_ in (free, waiting)
        }
        for id_, end in ((free, None), (waiting, until)):
            upsert(conn, capi_pixel, {"pixel_id": pixel[id_]}, {"wait_until": end})
    locked: list[object] = []

    def note(_conn: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("UPDATE capi_pixel"):
            locked.append(parameters)

    event.listen(world.engine, "before_cursor_execute", note)
    bulk.run(world.service(), _order(world, "retry_events", [str(free), str(waiting)]), threads=1)
    assert world.states() == {"due": 2}
    assert [str(pixel[waiting]) in str(one) for one in locked] == [True]
    with reading(world.engine) as conn:
        assert conn.scalars(select(p.wait_until)).all() == [None, None]


def test_a_piece_of_a_job_that_is_cancelled_meanwhile_changes_nothing(world: World, monkeypatch: Any) -> None:
    ids = [_dead_event(world) for _ in range(5)]
    job = _order(world, "retry_events", [str(one) for one in ids])

    first = jobs.next_items

    def and_then_somebody_cancels(*args: Any, **named: Any) -> list[str]:
        monkeypatch.undo()
        with writing(world.engine) as conn:
            jobs.end(conn, job, now=world.clock(), state="cancelled")
        return first(*args, **named)

    monkeypatch.setattr(jobs, "next_items", and_then_somebody_cancels)
    bulk.run(world.service(), job, threads=1)
    assert _counts(world, job)[:2] == ("cancelled", 0)
    assert world.states() == {"dead": 5}


def _meanwhile(world: World, monkeypatch: pytest.MonkeyPatch, change: Callable[[Connection], object]) -> None:
    """Somebody else changes something after an event was looked at and before it is held; SQLite has one writer, there
    they come right before."""
    place, name = (again, "hold") if world.engine.dialect.name == "postgresql" else (jobs, "next_items")
    then = getattr(place, name)

    def first(*args: Any, **named: Any) -> Any:
        monkeypatch.undo()
        found = then(*args, **named) if name == "next_items" else None
        with writing(world.engine) as conn:
            change(conn)
        return found if name == "next_items" else then(*args, **named)

    monkeypatch.setattr(place, name, first)


def _words(world: World, job: int) -> dict[str, str]:
    i = capi_job_item.c
    with reading(world.engine) as conn:
        return {row.subject: row.words for row in conn.execute(select(i.subject, i.words).where(i.job_id == job))}


def test_an_event_that_is_emptied_meanwhile_is_not_sent_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, other = _dead_event(world), _dead_event(world)
    job = _order(world, "retry_events", [str(gone), str(other)])
    _meanwhile(world, monkeypatch, lambda conn: outbox.redact(conn, [gone], due=False))
    bulk.run(world.service(), job, threads=1)
    assert _counts(world, job) == ("done", 2, 0, 1)
    assert "emptied for privacy" in _words(world, job)[str(gone)]
    assert world.states() == {"dead": 1, "due": 1}


def test_an_event_that_somebody_else_sends_again_meanwhile_goes_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = _dead_event(world), _dead_event(world)
    job = _order(world, "retry_events", [str(theirs), str(ours)])
    past = world.clock() - DAY
    _meanwhile(world, monkeypatch, lambda conn: outbox.move(conn, "retry", [theirs], next_attempt_at=past, attempts=0))
    bulk.run(world.service(), job, threads=1)
    assert _counts(world, job) == ("done", 2, 0, 0), "what is due is hurried"
    assert world.states() == {"due": 2}


def test_one_event_that_does_not_go_leaves_its_neighbours_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    odd, *others = (_dead_event(world) for _ in range(5))
    job = _order(world, "retry_events", [str(one) for one in (odd, *others)])
    move = outbox.move

    def refused(conn: Connection, verb: str, ids: Sequence[int], **changes: Any) -> None:
        if odd in ids:
            raise Conflict()
        move(conn, verb, ids, **changes)

    monkeypatch.setattr(outbox, "move", refused)
    bulk.run(world.service(), job, threads=2)
    assert _counts(world, job) == ("done", 5, 1, 0)
    assert _words(world, job)[str(odd)] == "was changed by somebody else meanwhile"
    assert world.states() == {"dead": 1, "due": 4}


def test_a_piece_may_hold_events_of_every_kind(world: World) -> None:
    dead = _dead_event(world)
    app = world.an_app(world.meta.create_token())
    waits, stands, mate = (world.event(world.an_event(app)).id for _ in range(3))
    later = world.clock() + DAY
    with writing(world.engine) as conn:
        outbox.refused(conn, [waits], failure="transient", attempt_id=None, next_at=later)
        outbox.move(conn, "park", [stands, mate], failure="permission", parked_by="fp_1", next_attempt_at=later)
    job = _order(world, "retry_events", [str(one) for one in (dead, waits, stands)])
    bulk.run(world.service(), job, threads=1)
    assert _counts(world, job) == ("done", 3, 0, 0)
    assert world.states() == {"due": 2, "parked": 2}
    o = capi_outbox.c
    with reading(world.engine) as conn:
        times = {row.id: row.next_attempt_at for row in conn.execute(select(o.id, o.next_attempt_at))}
    assert all(at <= clock.now() for at in times.values()), "those that wait for the same token, too"


def test_between_two_looks_at_who_ordered_it_each_thread_makes_one_piece(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = bulk.KINDS["retry_events"].size
    ids = [_dead_event(world) for _ in range(2 * size + 1)]
    job = _order(world, "retry_events", [str(one) for one in ids])
    asked: list[int] = []
    withdrawn = rights.withdrawn

    def told(*args: Any, **named: Any) -> bool:
        asked.append(_counts(world, job)[1])
        return withdrawn(*args, **named)

    monkeypatch.setattr(rights, "withdrawn", told)
    bulk.run(world.service(), job, threads=1)
    assert asked == [0, size, 2 * size, 2 * size + 1]


def test_no_thread_waits_for_the_slowest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One item takes as long as all the others together: these are done meanwhile, however many looks it takes."""
    slow, *others = [f"{n:02}" for n in range(12)]
    done: list[str] = []

    def work(_service: Any, job: Any, piece: Sequence[str]) -> bool:
        if piece[0] == slow:
            assert ended.wait(20), "it is waited for"
        with writing(world.engine) as conn:
            jobs.record(conn, job.id, {piece[0]: ("ok", "")}, by="worker-1", now=world.clock())
        done.append(piece[0])
        if len(done) == len(others):
            ended.set()
        return True

    ended = threading.Event()
    monkeypatch.setattr(bulk, "_EACH", 2)
    monkeypatch.setitem(bulk.KINDS, "refresh_tokens", bulk.Kind(work))
    job = _order(world, "refresh_tokens", [slow, *others])
    bulk.run(world.service(), job, threads=2)
    assert (done[-1], len(done)) == (slow, 12)
    assert _counts(world, job) == ("done", 12, 0, 0)


def test_a_job_goes_on_beside_an_item_that_cannot(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to come back says that somebody else has what it needs; the others went on all the same."""
    held, *others = [str(n) for n in range(4)]
    tries: list[str] = []

    def work(_service: Any, job: Any, piece: Sequence[str]) -> bool:
        tries.append(piece[0])
        if piece[0] == held and tries.count(held) == 1:
            return False
        with writing(world.engine) as conn:
            jobs.record(conn, job.id, {piece[0]: ("ok", "")}, by="worker-1", now=world.clock())
        return True

    monkeypatch.setitem(bulk.KINDS, "refresh_tokens", bulk.Kind(work))
    job = _order(world, "refresh_tokens", [held, *others])
    bulk.run(world.service(), job, threads=8)
    assert sorted(tries) == sorted([held, held, *others])
    assert _counts(world, job) == ("done", 4, 0, 0)
