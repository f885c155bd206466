"""The commands about what comes in, on a real database."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select
from typer.testing import CliRunner, Result

from core.clock import now as real_now
from core.doors.cli import app
from core.store import acceptance, apps, receipts
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.database import reading, writing
from core.store.schema import capi_audit

Run = Callable[..., Result]


@pytest.fixture
def run(engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DATABASE_URL", database_url)
    return lambda *args: CliRunner().invoke(app, args)


@pytest.fixture
def shop(engine: Engine) -> App:
    with writing(engine) as conn:
        return apps.add(conn, name="Tea", email="tea@example.com", shop_domain="tea.myshopify.com", pixel_id="1001")


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def refuse(engine: Engine, shop: App | None, reason: str, *, ago: timedelta = timedelta(0)) -> None:
    with writing(engine) as conn:
        named = {"app_id": shop.id} if shop else {}
        receipts.record(conn, source="track", reason=reason, status=403, now=real_now() - ago, **named)


def test_receipts_are_counted_by_app_and_reason(run: Run, engine: Engine, shop: App) -> None:
    for reason in ("other_origin", "other_origin", "rate_limited"):
        refuse(engine, shop, reason)
    refuse(engine, None, "unknown_app")
    refuse(engine, shop, "other_origin", ago=timedelta(days=30))
    counted = rows(run("receipts", "--json"))
    assert (counted[0]["app"], counted[0]["reason"], counted[0]["count"]) == ("Tea", "other_origin", 2)
    assert {(row["app"], row["reason"], row["count"]) for row in counted[1:]} == {
        ("Tea", "rate_limited", 1),
        (None, "unknown_app", 1),
    }
    assert len(rows(run("receipts", "--json", "--app", shop.public_id, "--reason", "rate_limited"))) == 1
    assert rows(run("receipts", "--json", "--since-hours", "9000"))[0]["count"] == 3
    each = rows(run("receipts", "--each", "--json", "--limit", "2"))
    assert [row["reason"] for row in each] == ["unknown_app", "rate_limited"]


def test_without_a_receipt_it_says_so(run: Run) -> None:
    assert run("receipts").stdout == "no request was refused or set aside\n"
    assert run("receipts", "--app", "nobody").exit_code == 1


def test_skipped_events_are_counted_by_reason(run: Run, engine: Engine, shop: App) -> None:
    now = real_now()
    events = [
        NewEvent(shop.id, "1001", "PageView", f"e{n}", "track", now, now + timedelta(days=7), b"{}", skipped=reason)
        for n, reason in enumerate(("bot", "bot", "no_consent", None))
    ]
    with writing(engine) as conn:
        acceptance.accept(conn, events, now=now)
        acceptance.accept(
            conn,
            [NewEvent(shop.id, "1001", "Lead", "old", "track", now, now, b"{}", skipped="bot")],
            now=now - timedelta(days=9),
        )
    counted = rows(run("events", "--state", "skipped", "--count", "--json"))
    assert [(row["event"], row["reason"], row["count"]) for row in counted] == [
        ("PageView", "bot", 2),
        ("PageView", "no_consent", 1),
    ]
    assert {row["failure"] for row in rows(run("events", "--state", "skipped", "--json"))} == {"bot", "no_consent"}
    assert sum(row["count"] for row in rows(run("events", "--count", "--json"))) == 4
    assert run("events", "--state", "sending", "--count").exit_code == 1


def test_an_apps_options_are_set_shown_and_audited(run: Run, engine: Engine, shop: App) -> None:
    options = {
        "--shop": "NEW.myshopify.com",
        "--origins": "Tea.example, www.tea.example",
        "--forward": "Spun The Wheel",
        "--content-id": "sku",
        "--purchase-topic": "orders/paid",
        "--value-of": "subtotal",
        "--channels": "pos, 12345, Buy Button",
        "--consent": "require",
    }
    given = [word for pair in options.items() for word in pair]
    result = run("app", "set", "--app", shop.public_id, *given, "--no-null-origin", "--pause", "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(run("app", "show", "--app", shop.public_id, "--json").stdout)
    assert shown == json.loads(result.stdout)
    assert (
        shown
        | {
            "shop": "new.myshopify.com",
            "origins": "tea.example, www.tea.example",
            "forward": "Spun The Wheel",
            "content id": "sku",
            "purchase topic": "orders/paid",
            "value of": "subtotal",
            "channels": "pos, 12345, Buy Button",
            "consent": "require",
            "null origin": False,
            "paused": True,
        }
        == shown
    )
    assert run("app", "set", "--app", shop.public_id, "--origins", "", "--resume").exit_code == 0
    with reading(engine) as conn:
        found = apps.get(conn, shop.id)
        actions = conn.scalars(select(capi_audit.c.action)).all()
    assert (found.allowed_origins, found.paused, found.content_id) == ((), False, "sku")
    assert actions == ["set_app", "set_app"]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--content-id", "name", "content id: 'name' is none of: variant, product, sku"),
        ("--purchase-topic", "orders", "purchase topic: 'orders' is none of"),
        ("--value-of", "tax", "value of: 'tax' is none of"),
        ("--consent", "maybe", "consent policy: 'maybe' is none of: send, limit, require"),
        ("--origins", "https://tea.example", "'https://tea.example' cannot be used: write them as www.tea.example"),
        ("--shop", "https://tea.example/", "is no domain: write it as tea.myshopify.com"),
        ("--shop", "tea.example:443", "is no domain"),
        ("--channels", "a\tb", "'a\\tb' cannot be used"),
        ("--forward", "\udcff", "cannot be used"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(run: Run, shop: App, option: str, value: str, words: str) -> None:
    result = run("app", "set", "--app", shop.public_id, option, value)
    assert result.exit_code == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_nothing_to_change_and_nobody_to_change_are_said(run: Run, shop: App) -> None:
    assert "nothing to change" in run("app", "set", "--app", shop.public_id).stderr
    assert run("app", "set", "--app", "nobody", "--pause").exit_code == 1
