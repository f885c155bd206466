"""What the desk says of requests not taken and events not sent, and how the way an app is treated is changed."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, select

from core.desk import app_options, queries
from core.desk.operators import Operator
from core.errors import BadInput, Forbidden, NotFound
from core.store import acceptance, apps, audit, receipts
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.database import reading, writing
from core.store.schema import capi_app, capi_audit

HOUR, WEEK = timedelta(hours=1), timedelta(days=7)
SUPPORT, ADMIN = Operator("Sue", "support"), Operator("Ada", "admin")


@pytest.fixture
def twins(engine: Engine) -> list[App]:
    """Two shops of one name."""
    with writing(engine) as conn:
        return [apps.add(conn, name="Tea", email=f"{n}@x.example", shop_domain=None, pixel_id=str(n)) for n in range(2)]


def _refuse(engine: Engine, app: App | None, reason: str, at: datetime) -> None:
    with writing(engine) as conn:
        receipts.record(conn, source="track", reason=reason, status=403, now=at, app_id=app.id if app else None)


def _skip(engine: Engine, app: App, event_id: str, at: datetime) -> None:
    new = NewEvent(app.id, "1", "Lead", event_id, "track", at, at + WEEK, b"{}", skipped="bot")
    with writing(engine) as conn:
        acceptance.accept(conn, [new], now=at)


def test_receipts_of_a_window_by_app_even_where_two_have_one_name(
    engine: Engine, twins: list[App], now: datetime
) -> None:
    for app, ago in ((twins[0], 1), (twins[0], 3), (twins[1], 2), (twins[1], 9), (None, 2)):
        _refuse(engine, app, "other_origin", now - ago * HOUR)
    with reading(engine) as conn:
        counted = queries.receipt_counts(conn, since=now - 5 * HOUR)
        one = queries.receipts(conn, since=now - 5 * HOUR, app=twins[1].public_id)
        with pytest.raises(NotFound):
            queries.receipts(conn, since=now, app="nobody")
    assert {(row.public_id, row.count) for row in counted} == {
        (twins[0].public_id, 2),
        (twins[1].public_id, 1),
        (None, 1),
    }
    assert (counted[0].first_at, counted[0].last_at) == (now - 3 * HOUR, now - HOUR)
    assert [(row.public_id, row.at) for row in one] == [(twins[1].public_id, now - 2 * HOUR)]


def test_events_of_a_window_by_app_even_where_two_have_one_name(
    engine: Engine, twins: list[App], now: datetime
) -> None:
    for number, (app, ago) in enumerate(((twins[0], 1), (twins[0], 5), (twins[1], 2), (twins[1], 6))):
        _skip(engine, app, f"e{number}", now - ago * HOUR)
    with reading(engine) as conn:
        counted = queries.event_counts(conn, since=now - 5 * HOUR, state="skipped")
        assert queries.event_counts(conn, since=now - 9 * HOUR, state="due") == []
    assert [(row.public_id, row.failure, row.count) for row in counted] == [
        (twins[0].public_id, "bot", 2),
        (twins[1].public_id, "bot", 1),
    ]


def test_the_trail_says_what_was_set_to_what(engine: Engine, twins: list[App], now: datetime) -> None:
    options = {"consent_policy": "limit", "allowed_origins": "Tea.example"}
    changed = app_options.set_app(engine, twins[0].public_id, options, by=ADMIN, now=now, reason="asked for it")
    assert (changed.consent_policy, changed.allowed_origins) == ("limit", ("tea.example",))
    app_options.set_app(engine, twins[0].id, {"allowed_origins": ""}, by=ADMIN, now=now, paused=True)
    with reading(engine) as conn:
        assert audit.first_broken(conn) is None
        subjects = conn.scalars(select(capi_audit.c.subject).order_by(capi_audit.c.id)).all()
    assert subjects == [
        f"{twins[0].public_id}: consent_policy=limit; allowed_origins=tea.example",
        f"{twins[0].public_id}: allowed_origins=; paused=True",
    ]


def test_a_second_pause_keeps_the_first_reason(engine: Engine, twins: list[App], now: datetime) -> None:
    with writing(engine) as conn:
        apps.configure(conn, twins[0].id, paused_at=now - HOUR, paused_reason="app/uninstalled")

    def pause(paused: bool) -> tuple[datetime | None, str | None]:
        app_options.set_app(engine, twins[0].id, {}, by=ADMIN, now=now, paused=paused)
        with reading(engine) as conn:
            c = capi_app.c
            return tuple(conn.execute(select(c.paused_at, c.paused_reason).where(c.app_id == twins[0].id)).one())

    assert pause(True) == (now - HOUR, "app/uninstalled")
    assert pause(False) == (None, None)
    assert pause(True) == (now, "Ada")


def test_a_wrong_value_changes_nothing_and_support_may_not_set(engine: Engine, twins: list[App], now: datetime) -> None:
    with pytest.raises(BadInput, match="content id: 'name' is none of"):
        app_options.set_app(engine, twins[0].id, {"consent_policy": "limit", "content_id": "name"}, by=ADMIN, now=now)
    with pytest.raises(Forbidden):
        app_options.set_app(engine, twins[0].id, {"consent_policy": "limit"}, by=SUPPORT, now=now)
    with reading(engine) as conn:
        assert apps.get(conn, twins[0].id).consent_policy == "send"
        assert conn.execute(select(capi_audit)).first() is None
