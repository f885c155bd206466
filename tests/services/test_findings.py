"""Findings: what is said of a token from what is stored, and that each is explained."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text, update

from core.desk.explain_tokens import FINDINGS, INCIDENTS
from core.meta.failures import Failure
from core.meta.graph import GraphError
from core.services import findings as found
from core.services.findings import Finding, findings, troubled
from core.services.policy import Policy
from core.store import reach, tokens
from core.store.database import reading, writing
from core.store.schema import capi_token
from tests.world import APP_ID, DAY, World

POLICY = Policy(app_id=APP_ID)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOW + 50 * DAY
FINE: dict[str, Any] = {
    "kind": "USER",
    "meta_app_id": APP_ID,
    "scopes": "ads_read ads_management",
    "expires_at": LATER,
    "issued_at": NOW - 10 * DAY,
    "checked_at": NOW,
    "data_access_expires_at": NOW + 80 * DAY,
}
CASES: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"scopes": "ads_read"}, ["missing_scope"]),
    ({"scopes": "ads_management_extra xads_management"}, ["missing_scope"]),
    ({"scopes": ""}, ["missing_scope"]),
    ({"scopes": None}, []),
    ({"foreign_app": True, "meta_app_id": None, "scopes": None}, ["wrong_app"]),
    ({"meta_app_id": "999"}, ["wrong_app"]),
    ({"issued_at": None, "expires_at": NOW + timedelta(hours=1)}, ["short_lived"]),
    ({"issued_at": None, "expires_at": NOW + timedelta(hours=1), "kind": "PAGE"}, []),
    ({"issued_at": None, "expires_at": None, "never_expires": True}, []),
    ({"issued_at": None}, []),
    ({"data_access_expires_at": NOW - DAY}, ["data_access_over"]),
    ({"data_access_expires_at": NOW + 10 * DAY}, ["data_access_soon"]),
    ({"data_access_expires_at": NOW + 10 * DAY, "scopes": "x"}, ["missing_scope", "data_access_soon"]),
]


def _a_token(world: World, **facts: Any) -> str:
    token = world.meta.create_token()
    app = world.an_app(token)
    with writing(world.engine) as conn:
        tokens.see(conn, token.fingerprint, user_id=app.user_id, now=NOW, next_refresh_at=None)
        mine = update(capi_token).where(capi_token.c.fingerprint == token.fingerprint)
        conn.execute(mine.values(**(FINE | facts)))
    return token.fingerprint


def _of(world: World, fingerprint: str) -> list[Finding]:
    with reading(world.engine) as conn:
        return findings(conn, fingerprint, policy=POLICY, now=NOW)


@pytest.mark.parametrize(("facts", "words"), CASES)
def test_what_is_found(world: World, facts: dict[str, Any], words: list[str]) -> None:
    fingerprint = _a_token(world, **facts)
    _a_token(world)
    assert [one.word for one in _of(world, fingerprint)] == words
    with reading(world.engine) as conn:
        assert list(troubled(conn, policy=POLICY, now=NOW)) == ([fingerprint] if words else [])


def test_an_app_without_a_pixel_is_found_through_its_token(world: World) -> None:
    fingerprint = _a_token(world)
    with writing(world.engine) as conn:
        conn.execute(text('UPDATE "AppSettings" SET "metaPixelId" = \' \''))
    assert [(one.word, one.warning) for one in _of(world, fingerprint)] == [("no_pixel", False)]
    with reading(world.engine) as conn:
        assert list(troubled(conn, policy=POLICY, now=NOW)) == [fingerprint]


def test_a_pixel_that_nobody_sends_to_any_more_is_no_finding(world: World) -> None:
    fingerprint = _a_token(world)
    error = GraphError(Failure.PERMISSION, "(#200) no", code=200, trace_id="Atrace")
    with writing(world.engine) as conn:
        reach.note(conn, fingerprint, "42", reached=False, now=NOW, error=error)
        reach.note(conn, fingerprint, "900001", reached=False, now=NOW, error=error)
    (one,) = _of(world, fingerprint)
    assert (one.pixel_id, one.words, one.code, one.trace_id) == ("900001", "(#200) no", 200, "Atrace")
    assert one.since == NOW


def test_since_when_permissions_are_missing_is_since_they_changed(world: World) -> None:
    fingerprint = _a_token(world, scopes_since=NOW - 3 * DAY, scopes="ads_read")
    (one,) = _of(world, fingerprint)
    assert one.since == NOW - 3 * DAY
    assert one.words == "missing: ads_management"


def test_a_token_nobody_holds_is_not_listed(world: World) -> None:
    with writing(world.engine) as conn:
        tokens.see(conn, "fp_gone", user_id="u", now=NOW, next_refresh_at=None)
        conn.execute(update(capi_token).values(foreign_app=True))
    with reading(world.engine) as conn:
        assert troubled(conn, policy=POLICY, now=NOW) == {}
        assert findings(conn, "fp_unknown", policy=POLICY, now=NOW) == []


def test_every_word_is_explained_and_says_what_to_do() -> None:
    assert set(FINDINGS) == set(found.WORDS)
    assert set(INCIDENTS) == {"app_config", "rate_limited", "meta_away"}
    for word, why in (FINDINGS | INCIDENTS).items():
        assert why.whose in ("Merchant", "Us", "Meta", "Nobody"), word
        assert len(why.what) > 20, word
        assert len(why.do) > 20, word
    assert set(found.WORDS) > found.WARNINGS
