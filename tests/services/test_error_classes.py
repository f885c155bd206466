"""Every class of Meta's refusals as it arrives, over HTTP, and what follows from it: one table, one line each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from core.meta.failures import RULES, Failure
from core.sandbox.background import running
from core.sandbox.state import State
from core.secret import Secret
from core.store import database, incidents, tokens
from core.store.database import reading, writing
from core.store.schema import capi_attempt, capi_pixel, capi_token
from core.store.schema_recovery import capi_case, capi_reach
from tests.world import APP_ID, APP_SECRET, World

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
BUSINESS, ACCOUNT, APP = "X-Business-Use-Case-Usage", "X-Ad-Account-Usage", "X-App-Usage"


@dataclass(frozen=True)
class Then:
    """What one refusal of one event leads to; waits are the shortest and the longest in seconds."""

    state: str
    failure: str
    tries: int = 0
    broken: bool = False
    pixel_waits: tuple[float, float] | None = None
    token_waits: tuple[float, float] | None = None
    event_waits: bool = False
    incident: str | None = None
    incident_waits: tuple[float, float] | None = None
    reached: bool | None = None


PARKED = {name: Then("parked", name, broken=True) for name in (Failure.TOKEN_EXPIRED.value, Failure.TOKEN_DEAD.value)}
SOFT = Then("due", "token_soft", tries=1, pixel_waits=(19, 5 * MINUTE), event_waits=True)
BARRED = Then("parked", "permission", event_waits=True, reached=False)
TRANSIENT = Then("due", "transient", tries=1, pixel_waits=(0, 15 * MINUTE), event_waits=True)
INVALID = Then("dead", "invalid_event")
UNKNOWN = Then("due", "unknown", tries=1, pixel_waits=(59, HOUR), event_waits=True)


def of_pixel(least: float, most: float) -> Then:
    return Then("due", "rate_limited", pixel_waits=(least, most), event_waits=True)


def of_token(least: float, most: float) -> Then:
    return Then("due", "rate_limited", token_waits=(least, most), event_waits=True)


def of_app(least: float, most: float) -> Then:
    return Then("due", "rate_limited", incident="rate_limited", incident_waits=(least, most))


@dataclass(frozen=True)
class Case:
    """How a refusal arrives: Meta's numbers, words, status and headers, or a kind of trouble without them."""

    code: int | None
    subcode: int | None
    then: Then
    message: str = "as Meta says it"
    status: int = 400
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "error"
    raw: str | None = None
    is_transient: bool = False

    def __str__(self) -> str:
        return (
            f"{self.kind if self.code is None else self.code}-{self.subcode or self.message[:24]}-{self.then.failure}"
        )


def usage(minutes: int) -> dict[str, str]:
    return {BUSINESS: json.dumps({"17": [{"type": "ads_management", "estimated_time_to_regain_access": minutes}]})}


EXPIRED, DEAD = PARKED["token_expired"], PARKED["token_dead"]
ASKED = {"Retry-After": "90"}
CASES = [
    # The token.
    Case(190, 463, EXPIRED),
    Case(190, 467, EXPIRED),
    Case(190, None, EXPIRED, "Error validating access token: Session has expired on Monday"),
    Case(190, None, EXPIRED, "no subcode at all"),
    Case(190, 999, EXPIRED, status=401),
    Case(190, None, DEAD, "Invalid OAuth access token - Cannot parse access token"),
    Case(190, None, DEAD, "The access token could not be decrypted"),
    Case(190, None, DEAD, "Malformed access token"),
    *(Case(190, subcode, DEAD) for subcode in (458, 459, 460, 464, 465, 492)),
    Case(102, None, DEAD),
    Case(190, 452, SOFT),
    # The token on this pixel.
    *(Case(code, None, BARRED, status=403) for code in (3, 10, 200, 299)),
    Case(100, 33, BARRED),
    Case(100, 2804132, BARRED),
    # Limits: of our app, of the token's user, of the pixel's business; minutes, seconds, and no time at all.
    Case(4, 1504022, of_app(7 * MINUTE - 2, 7 * MINUTE + 2), status=403, headers=usage(7), is_transient=True),
    Case(4, 1504039, of_app(59, 62), status=403),
    Case(341, None, of_app(88, 92), headers=ASKED),
    Case(17, 2446079, of_token(3 * MINUTE - 2, 3 * MINUTE + 2), headers=usage(3)),
    Case(32, None, of_token(59, HOUR)),
    Case(368, None, of_token(HOUR - 2, HOUR + 2), headers=ASKED),
    Case(613, 1996, of_pixel(88, 92), headers={ACCOUNT: '{"acc_id_util_pct":100,"reset_time_duration":90}'}),
    Case(613, 1487742, of_pixel(2 * MINUTE - 2, 2 * MINUTE + 2), headers=usage(2)),
    Case(613, 5044001, of_pixel(59, HOUR)),
    Case(613, None, of_pixel(88, 92), headers=ASKED),
    *(Case(code, None, of_pixel(5 * MINUTE - 2, 5 * MINUTE + 2), headers=usage(5)) for code in (80000, 80004, 80014)),
    Case(80004, 2446079, of_pixel(DAY - 2, DAY + 2), headers=usage(100_000)),
    Case(None, None, of_pixel(88, 92), kind="raw", raw="{}", status=429, headers=ASKED),
    # Meta's own trouble, and that of the way to it.
    Case(1, None, TRANSIENT, "An unknown error occurred", status=500, is_transient=True),
    Case(2, None, TRANSIENT, status=503, is_transient=True),
    Case(5000, None, TRANSIENT),
    Case(21009, None, TRANSIENT),
    Case(-3, None, TRANSIENT),
    Case(424242, None, TRANSIENT, is_transient=True),
    *(Case(None, None, TRANSIENT, kind=kind) for kind in ("html_502", "html_200", "reset_after_accept")),
    *(Case(None, None, TRANSIENT, kind=kind) for kind in ("truncated", "short_ack")),
    Case(None, None, TRANSIENT, kind="raw", raw="", status=504),
    Case(None, None, TRANSIENT, kind="raw", raw='{"strange": true}', status=200),
    # The event.
    *(Case(100, 2804000 + n, INVALID) for n in (3, 9, 16, 50, 43, 63, 66, 72, 87, 116, 118, 1, 7, 14, 17, 19, 48)),
    Case(100, None, INVALID, "Server Side Api Parameter Error: Unexpected key on param $['data'][0]"),
    Case(105, None, INVALID),
    Case(506, None, INVALID),
    # What nobody knows.
    Case(99999, None, UNKNOWN),
    Case(80015, None, UNKNOWN),
]


@pytest.fixture(scope="module")
def one_world(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for the whole table: each line has an app, a token and a pixel of its own."""
    path = shutil.copy(sqlite_template, tmp_path_factory.mktemp("classes") / "capi.db")
    engine = database.open_engine(f"sqlite:///{path}")
    with running(State(app_id=APP_ID, app_secret=Secret(APP_SECRET))) as meta:
        yield World(engine, meta)
    engine.dispose()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_follows_from_a_refusal(one_world: World, case: Case) -> None:
    try:
        follows(one_world, case)
    finally:
        one_world.meta.clear_faults()
        _all_is_well(one_world)


def test_what_follows_from_each_refusal_on_both_databases(world: World) -> None:
    """One of each kind of consequence; the whole table runs on SQLite."""
    chosen = {case.then: case for case in reversed(CASES)}
    for case in chosen.values():
        follows(world, case)
        _all_is_well(world)


def follows(world: World, case: Case) -> None:
    token = world.meta.create_token()
    app = world.an_app(token)
    with writing(world.engine) as conn:  # Meta has said that our app made it: "the application" is ours
        tokens.see(conn, token.fingerprint, user_id=app.user_id, now=world.clock(), next_refresh_at=None)
        conn.execute(update(capi_token).values(meta_app_id=APP_ID))
    sent = world.an_event(app)
    _trouble(world, case)
    now = world.clock()
    broken = world.deliver(app)

    then, event, known = case.then, world.event(sent), world.token(token.fingerprint)
    assert (event.state, event.failure, event.attempts) == (then.state, then.failure, then.tries)
    assert broken == ([token.fingerprint] if then.broken else [])
    assert known.broken_failure == (then.failure if then.broken else None)
    pixel, attempts = _pixel(world, app.pixel_id), _attempts(world, app.pixel_id)
    assert _within(pixel.wait_until, then.pixel_waits, now), pixel.wait_until
    assert _within(known.wait_until, then.token_waits, now), known.wait_until
    assert [row.failure for row in attempts] == [then.failure], "one request, written down"
    assert (attempts[0].code, attempts[0].subcode) == (case.code, case.subcode)
    opened = _open(world)
    assert [row.kind for row in opened] == ([then.incident] if then.incident else [])
    if opened:
        assert _within(opened[0].probe_at, then.incident_waits, now), opened[0].probe_at
    with reading(world.engine) as conn:
        reached = conn.scalar(select(capi_reach.c.reached).where(capi_reach.c.fingerprint == token.fingerprint))
        assert reached is then.reached
        assert conn.execute(select(capi_case)).all() == [], "no case without a refresh that failed"
    world.deliver(app)
    assert len(_attempts(world, app.pixel_id)) == 1, "nothing is sent again at once"


def _trouble(world: World, case: Case) -> None:
    if case.kind == "error":
        error: dict[str, Any] = {"code": case.code, "message": case.message, "status": case.status}
        error |= {"transient": case.is_transient, "subcode": case.subcode}
        world.meta.fault("events", "error", error=error, headers=case.headers, count=1)
    elif case.kind == "raw":
        error = {"status": case.status, "body": case.raw}
        world.meta.fault("events", "raw", error=error, headers=case.headers, count=1)
    else:
        world.meta.fault("events", case.kind, count=1)


def _within(moment: Any, span: tuple[float, float] | None, now: Any) -> bool:
    if span is None or moment is None:
        return span is None and moment is None
    return timedelta(seconds=span[0]) <= moment - now <= timedelta(seconds=span[1] + 2)


def _pixel(world: World, pixel_id: str | None) -> Any:
    with reading(world.engine) as conn:
        return conn.execute(select(capi_pixel).where(capi_pixel.c.pixel_id == pixel_id)).one()


def _attempts(world: World, pixel_id: str | None) -> list[Any]:
    with reading(world.engine) as conn:
        return list(conn.execute(select(capi_attempt).where(capi_attempt.c.pixel_id == pixel_id)))


def _open(world: World) -> list[Any]:
    with reading(world.engine) as conn:
        return incidents.open_ones(conn)


def _all_is_well(world: World) -> None:
    with writing(world.engine) as conn:
        for row in incidents.open_ones(conn):
            incidents.close(conn, row.id, now=world.clock(), waited=0)


def test_the_table_reaches_every_rule_for_events() -> None:
    """A new line in the table of failures wants a line here."""
    of_others = {"app id or app secret is wrong", "token belongs to another app", "app secret is wrong"}
    proofs = {"incorrect signature", "app secret proof refused", "app cannot be validated"}
    reached = set()
    for case in CASES:
        if case.code is not None:
            said = (case.code, case.subcode, case.message.lower(), "1/events")
            reached.add(next((rule.name for rule in RULES if rule.fits(*said)), "unknown"))
    assert {rule.name for rule in RULES} - of_others - proofs - reached == set()
