"""What may be ordered, by whom, and what is written down about it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, select

from core.desk import commands, queries
from core.desk.commands import Operator
from core.errors import Conflict, Forbidden, NotFound, Refused
from core.store import api_keys, audit
from core.store.database import reading, writing
from core.store.schema import capi_audit, capi_job, capi_job_item
from tests.desk.rows import seed

WINDOW = timedelta(days=30)
VIEWER, SUPPORT, ADMIN = Operator("Vi", "viewer"), Operator("Sue", "support"), Operator("Ada", "admin")


@pytest.fixture
def world(engine: Engine, now: datetime) -> Engine:
    seed(engine, now=now, apps=36)
    return engine


def _held(engine: Engine) -> list[str]:
    with reading(engine) as conn:
        return queries.held_fingerprints(conn)


def _view(engine: Engine, view: str, now: datetime) -> list[int]:
    with reading(engine) as conn:
        return [row.id for row in queries.failed_events(conn, queries.Filters(view=view), now=now)]


def _trail(engine: Engine) -> list[tuple[str, str, int, str | None]]:
    a = capi_audit.c
    with reading(engine) as conn:
        assert audit.first_broken(conn) is None
        return [tuple(row) for row in conn.execute(select(a.by, a.action, a.count, a.reason).order_by(a.id))]


def test_a_refresh_is_a_job_with_frozen_rows_and_an_audit_line(world: Engine, now: datetime) -> None:
    chosen = _held(world)[:3]
    job_id = commands.order_refresh(world, [*chosen, chosen[0]], by=SUPPORT, reason=" ends soon ", now=now)
    with reading(world) as conn:
        job = queries.job_progress(conn, job_id)
        assert [item.subject for item in queries.job_items(conn, job_id)] == sorted(chosen)
    assert (job.kind, job.state, job.total, job.by, job.reason) == ("refresh_tokens", "queued", 3, "Sue", "ends soon")
    assert _trail(world) == [("Sue", "refresh_tokens", 3, "ends soon")]


def test_a_double_click_is_one_job_and_one_line(world: Engine, now: datetime) -> None:
    chosen = _held(world)[:2]
    first = commands.order_refresh(world, chosen, by=SUPPORT, now=now)
    again = commands.order_refresh(world, chosen[::-1], by=SUPPORT, now=now + timedelta(seconds=1))
    assert first == again
    assert len(_trail(world)) == 1


def test_refresh_due_and_all(world: Engine, now: datetime) -> None:
    due = commands.order_refresh_due(world, by=SUPPORT, now=now, window=WINDOW)
    everything = commands.order_refresh_all(world, by=SUPPORT, now=now)
    with reading(world) as conn:
        assert queries.job_progress(conn, due).total == len(queries.due_fingerprints(conn, now=now, window=WINDOW))
        assert queries.job_progress(conn, everything).total == len(queries.held_fingerprints(conn)) == 12


def test_nothing_to_do_is_refused(engine: Engine, now: datetime) -> None:
    for order in (
        lambda: commands.order_refresh(engine, [], by=SUPPORT, now=now),
        lambda: commands.order_refresh(engine, ["fp_0"], by=SUPPORT, now=now),
        lambda: commands.order_refresh_due(engine, by=SUPPORT, now=now, window=WINDOW),
        lambda: commands.order_refresh_all(engine, by=SUPPORT, now=now),
        lambda: commands.order_retry(engine, [], by=SUPPORT, now=now),
    ):
        with pytest.raises(Refused):
            order()
    with reading(engine) as conn:
        assert conn.execute(select(capi_job)).first() is None
        assert conn.execute(select(capi_audit)).first() is None


def test_a_retry_is_ordered_for_what_it_may_help(world: Engine, now: datetime) -> None:
    dead, waiting = _view(world, "dead", now)[:4], _view(world, "waiting", now)[:2]
    job_id = commands.order_retry(world, [*dead, *waiting], by=SUPPORT, reason="shop fixed", now=now)
    with reading(world) as conn:
        subjects = set(conn.scalars(select(capi_job_item.c.subject).where(capi_job_item.c.job_id == job_id)))
    assert subjects == {str(id_) for id_ in (*dead, *waiting)}


def test_a_hopeless_retry_is_refused_with_the_reason(world: Engine, now: datetime) -> None:
    with pytest.raises(Refused, match="waits for its token"):
        commands.order_retry(world, _view(world, "waiting", now)[:2], by=SUPPORT, now=now)
    with pytest.raises(Refused, match="deadline has passed"):
        commands.order_retry(world, _view(world, "dead", now)[:2], by=SUPPORT, now=now + timedelta(days=30))


def test_a_viewer_orders_nothing(world: Engine, now: datetime) -> None:
    for order in (
        lambda: commands.order_refresh(world, _held(world), by=VIEWER, now=now),
        lambda: commands.order_refresh_due(world, by=VIEWER, now=now, window=WINDOW),
        lambda: commands.order_refresh_all(world, by=VIEWER, now=now),
        lambda: commands.order_retry(world, _view(world, "dead", now), by=VIEWER, now=now),
        lambda: commands.cancel_job(world, 1, by=VIEWER, now=now),
        lambda: commands.add_api_key(world, title="t", scope="refresh", by=SUPPORT, now=now),
    ):
        with pytest.raises(Forbidden):
            order()
    assert _trail(world) == []


def test_cancel(world: Engine, now: datetime) -> None:
    job_id = commands.order_refresh(world, _held(world)[:2], by=SUPPORT, now=now)
    commands.cancel_job(world, job_id, by=SUPPORT, now=now)
    with reading(world) as conn:
        assert queries.job_progress(conn, job_id).state == "cancelled"
    with pytest.raises(Conflict):
        commands.cancel_job(world, job_id, by=SUPPORT, now=now)
    with pytest.raises(NotFound):
        commands.cancel_job(world, 999, by=SUPPORT, now=now)
    assert [line[1] for line in _trail(world)] == ["refresh_tokens", "cancel_job"]


def test_apps_and_api_keys(engine: Engine, now: datetime) -> None:
    app = commands.add_app(
        engine, name="New", email="n@x.example", shop_domain="N.myshopify.com", pixel_id="1", by=ADMIN, now=now
    )
    key = commands.add_api_key(engine, title="cron", scope="refresh", by=ADMIN, now=now)
    with writing(engine) as conn:
        assert api_keys.check(conn, key, "refresh") == "cron"
    commands.revoke_api_key(engine, "cron", by=ADMIN, now=now)
    with writing(engine) as conn:
        assert api_keys.check(conn, key, "refresh") is None
    with pytest.raises(Refused):
        commands.add_api_key(engine, title="x", scope="everything", by=ADMIN, now=now)
    assert app.shop_domain == "n.myshopify.com"
    assert [line[1] for line in _trail(engine)] == ["add_app", "add_api_key", "revoke_api_key"]
