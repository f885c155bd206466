"""Bulk work asks once more who ordered it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from core.desk import commands, people
from core.desk.operators import NEEDS, Operator
from core.inbound.shopify import COMPLIANCE
from core.services import bulk, rights
from core.services.sign_in import LOCAL
from core.store import jobs
from core.store.database import reading, writing
from core.store.schema import capi_audit
from tests.world import DAY, World

pytestmark = pytest.mark.usefixtures("quick_passwords")


@pytest.fixture
def ordered(world: World) -> int:
    """A job of three refreshes that Bob, who is support, has ordered."""
    for name, role in (("ada", "admin"), ("bob", "support")):
        people.add_operator(world.engine, name, role=role, password="correct horse", by=LOCAL, now=world.clock())
    tokens = [world.meta.create_token(expires_in=5 * 24 * 3600) for _ in range(3)]
    for token in tokens:
        world.an_app(token, expires_in=5 * DAY)
    chosen = [token.fingerprint for token in tokens]
    return commands.order_refresh(world.engine, chosen, by=Operator("bob", "support"), now=world.clock())


def _demoted(world: World) -> None:
    people.set_operator_role(world.engine, "bob", role="viewer", by=LOCAL, now=world.clock())


def _disabled(world: World) -> None:
    people.disable_operator(world.engine, "bob", by=LOCAL, now=world.clock())


@pytest.mark.parametrize(("change", "why"), [(_demoted, "bob is viewer by now"), (_disabled, "bob was disabled since")])
def test_a_job_whose_orderer_lost_the_right_is_cancelled_and_costs_no_call(
    world: World, ordered: int, change: Callable[[World], None], why: str
) -> None:
    change(world)
    bulk.run(world.service(), ordered, threads=2)
    a = capi_audit.c
    with reading(world.engine) as conn:
        job = jobs.progress(conn, ordered)
        last = conn.execute(select(a.action, a.subject, a.count, a.reason).order_by(a.id.desc())).first()
    assert job is not None
    assert (job.state, job.done, job.lease_by) == ("cancelled", 0, None)
    assert last == ("cancel_job", f"job {ordered}", 3, why)
    assert world.meta.count("exchange") == 0


def test_a_right_that_goes_while_the_job_runs_ends_it_after_the_round_under_way(
    world: World, ordered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = world.service()
    refresh = service.refresh

    def once(*what: Any, **more: Any) -> Any:
        _demoted(world)
        return refresh(*what, **more)

    monkeypatch.setattr(bulk, "_EACH", 1)
    monkeypatch.setattr(service, "refresh", once)
    bulk.run(service, ordered, threads=1)
    with reading(world.engine) as conn:
        job = jobs.progress(conn, ordered)
    assert job is not None
    assert (job.state, job.done) == ("cancelled", 1)
    assert world.meta.count("exchange") == 1


def test_what_is_under_way_when_the_right_goes_is_written_down(
    world: World, ordered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = world.service()
    refresh, first, asked_again = service.refresh, threading.Event(), threading.Event()
    why_not = rights.why_not

    def one_takes_longer(*what: Any, **more: Any) -> Any:
        if not first.is_set():
            first.set()
            assert asked_again.wait(20)
        else:
            _demoted(world)
        return refresh(*what, **more)

    def ask(*what: Any) -> str | None:
        if (reason := why_not(*what)) is not None:
            asked_again.set()
        return reason

    monkeypatch.setattr(bulk, "_EACH", 1)
    monkeypatch.setattr(service, "refresh", one_takes_longer)
    monkeypatch.setattr(rights, "why_not", ask)
    bulk.run(service, ordered, threads=2)
    with reading(world.engine) as conn:
        job = jobs.progress(conn, ordered)
    assert job is not None
    assert (job.state, job.done, job.failed) == ("cancelled", 2, 0)
    assert world.meta.count("exchange") == 2


def test_every_kind_of_job_is_an_order_of_somebodys_or_shopifys() -> None:
    """A kind that stands in neither table would need no right."""
    assert set(bulk.KINDS) - set(COMPLIANCE.values()) == set(bulk.KINDS) & set(NEEDS)
    assert len(set(bulk.KINDS) & set(NEEDS)) == 2


def test_who_still_may_is_served(world: World, ordered: int) -> None:
    bulk.run(world.service(), ordered, threads=2)
    with reading(world.engine) as conn:
        job = jobs.progress(conn, ordered)
    assert job is not None
    assert (job.state, job.done, job.failed) == ("done", 3, 0)


def test_what_no_operator_has_ordered_needs_none(world: World, ordered: int) -> None:
    with writing(world.engine) as conn:
        assert rights.why_not(conn, "root (shell)", "refresh_tokens") is None
        assert rights.why_not(conn, "shopify", "redact_shop") is None
        assert rights.why_not(conn, "bob", "redact_shop") is None
        assert rights.why_not(conn, "bob", "rotate_keys") == "bob is support by now"
