"""A token given by an admin: what is checked before it is stored, for whom it is stored, and what it sets free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from core.desk.give_token import Given, set_token
from core.desk.operators import Operator
from core.errors import Forbidden, NotFound, Refused
from core.secret import Secret
from core.services import checkup
from core.services.policy import Policy
from core.store import cases, outbox
from core.store.database import reading, writing
from core.store.schema import capi_audit
from tests.world import APP_ID, DAY, World

ADMIN, SUPPORT = Operator("ada", "admin"), Operator("sam", "support")
Give = Callable[..., Given]
OWNER = "owner@example.com"


@pytest.fixture
def give(world: World) -> Give:
    def give(app: Any, token: Secret, **more: Any) -> Given:
        return set_token(world.service("console"), app.public_id, token, **({"by": ADMIN, "now": world.clock()} | more))

    return give


def _trail(world: World) -> list[Any]:
    with reading(world.engine) as conn:
        return list(conn.execute(capi_audit.select()))


def test_it_is_stored_for_every_app_that_held_the_one_before(world: World, give: Give) -> None:
    old, new = world.meta.create_token(), world.meta.create_token()
    app, sibling = (world.an_app(old, email=OWNER) for _ in range(2))
    other = world.an_app(world.meta.create_token(), email=OWNER)
    given = give(app, new, reason="came by mail")
    assert (given.apps_updated, given.warnings) == (2, ())
    assert world.app(app).token == world.app(sibling).token == new
    assert world.app(other).token != new
    (line,) = _trail(world)
    assert (line.by, line.action, line.count, line.reason) == ("ada", "set_token", 2, "came by mail")
    assert new.fingerprint in line.subject
    assert world.token(new.fingerprint).scopes.split()[0] == "ads_management"


def test_only_this_app_gets_it_when_that_is_said(world: World, give: Give) -> None:
    old, new = world.meta.create_token(), world.meta.create_token()
    app, sibling = (world.an_app(old, email=OWNER) for _ in range(2))
    assert give(app, new, only_this=True).apps_updated == 1
    assert (world.app(app).token, world.app(sibling).token) == (new, old)


def test_events_that_wait_for_the_dead_one_go_out_and_the_case_is_closed(world: World, give: Give) -> None:
    old, new = world.meta.create_token(), world.meta.create_token()
    app = world.an_app(old)
    world.meta.kill(old, 460)
    sent = world.an_event(app)
    world.deliver(app)
    world.service().refresh(old.fingerprint, trigger="on_error", by="test")
    with reading(world.engine) as conn:
        assert cases.open_of(conn, old.fingerprint, app.user_id) is not None
    assert world.state_of(sent) == "parked"
    assert give(app, new).events_released == 1
    world.deliver(world.app(app))
    assert world.state_of(sent) == "delivered"
    with reading(world.engine) as conn:
        assert cases.open_of(conn, old.fingerprint, app.user_id) is None


def test_an_app_that_had_no_token_gets_its_events_out(world: World, give: Give) -> None:
    app = world.an_app()
    sent = world.an_event(app)
    world.deliver(app)
    with reading(world.engine) as conn:
        assert [group[:2] for group in outbox.parked_by(conn)] == [(app.id, outbox.NO_TOKEN)]
    assert give(app, world.meta.create_token()).events_released == 1
    world.deliver(world.app(app))
    assert world.state_of(sent) == "delivered"


def test_the_same_token_once_more_mends_it(world: World, give: Give) -> None:
    token = world.meta.create_token()
    app = world.an_app(token)
    service = world.service()
    service.broke(app, "token_soft", "a doubt")  # type: ignore[arg-type]
    assert world.token(token.fingerprint).broken_since is not None
    give(app, token)
    assert world.token(token.fingerprint).broken_since is None


@pytest.mark.parametrize("missing", ["before", "not before"])
def test_a_short_lived_token_of_ours_is_exchanged_first(world: World, give: Give, missing: str) -> None:
    app = world.an_app(world.meta.create_token() if missing == "not before" else None)
    short = world.meta.create_token(expires_in=3600, long_lived=False)
    given = give(app, short)
    assert given.app.token != short
    assert given.app.expires_at is not None
    assert given.app.expires_at > world.clock() + 50 * DAY
    assert "long-lived" in given.warnings[0]
    assert world.token(short.fingerprint) is None


def test_a_short_lived_token_that_meta_does_not_exchange_is_refused(world: World, give: Give) -> None:
    app = world.an_app()
    world.meta.fault("exchange", "error", error={"code": 190, "subcode": 463, "message": "It ended"})
    with pytest.raises(Refused, match=r"did not exchange it.*It ended.*nothing was stored"):
        give(app, world.meta.create_token(expires_in=3600, long_lived=False))
    assert world.app(app).token is None


def test_a_foreign_token_that_reaches_the_pixel_is_taken_with_a_warning(world: World, give: Give) -> None:
    old, foreign = world.meta.create_token(), world.meta.create_token(app_id="999", never=True)
    app = world.an_app(old)
    given = give(app, foreign)
    assert "another Meta app" in given.warnings[0]
    assert world.app(app).token == foreign
    known = world.token(foreign.fingerprint)
    assert (known.foreign_app, known.scopes, known.broken_since) == (True, None, None)
    sent = world.an_event(world.app(app))
    world.deliver(world.app(app))
    assert world.state_of(sent) == "delivered"


def test_a_foreign_token_that_nothing_can_be_asked_of_is_refused(world: World, give: Give) -> None:
    app = world.an_app()
    with writing(world.engine) as conn:
        conn.execute(text('UPDATE "AppSettings" SET "metaPixelId" = NULL'))
    with pytest.raises(Refused, match="no pixel"):
        give(app, world.meta.create_token(app_id="999"))
    assert give(app, world.meta.create_token()).warnings[0].endswith("its events are skipped until it has")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"expires_in": -60}, r"does not take this token \(.*expired.*reconnect link"),
    ({"scopes": ["ads_read"]}, "lacks the permission ads_management"),
    ({"pixels": ["1"]}, "does not reach pixel 900001.*Events Manager"),
    ({"pixels": ["1"], "app_id": "999"}, "does not reach pixel 900001"),
    ({"expires_in": -60, "app_id": "999"}, "does not take this token"),
    ({"user": "2002"}, "belongs to Meta user 2002, the one before to 1001.*--accept-other-user"),
]


@pytest.mark.parametrize(("made", "words"), REFUSED)
def test_what_meta_does_not_bear_out_is_refused(world: World, give: Give, made: dict[str, Any], words: str) -> None:
    old = world.meta.create_token()
    app = world.an_app(old)
    checkup.check(world.engine, world.graph(), Policy(app_id=APP_ID), *_seen(world, old), now=world.clock())
    new = world.meta.create_token(**made)
    with pytest.raises(Refused, match=words) as refused:
        give(app, new)
    assert "nothing was stored" in str(refused.value)
    assert new.reveal() not in str(refused.value)
    assert world.app(app).token == old
    assert _trail(world) == []


def _seen(world: World, token: Secret) -> tuple[str]:
    with writing(world.engine) as conn:
        from core.store import tokens

        tokens.see(conn, token.fingerprint, user_id="u", now=world.clock(), next_refresh_at=None)
    return (token.fingerprint,)


def test_another_user_is_taken_when_somebody_says_so(world: World, give: Give) -> None:
    old = world.meta.create_token()
    app = world.an_app(old)
    checkup.check(world.engine, world.graph(), Policy(app_id=APP_ID), *_seen(world, old), now=world.clock())
    new = world.meta.create_token(user="2002")
    assert give(app, new, accept_other_user=True).app.token == new


def test_an_operators_yes_to_another_user_counts_here_too_and_for_that_user_only(world: World, give: Give) -> None:
    old = world.meta.create_token()
    app = world.an_app(old)
    checkup.check(world.engine, world.graph(), Policy(app_id=APP_ID), *_seen(world, old), now=world.clock())
    with writing(world.engine) as conn:
        cases.open_(conn, old.fingerprint, user_id=app.user_id, failure="token_dead", words="", now=world.clock())
        case = cases.open_of(conn, old.fingerprint, app.user_id)
        assert case is not None
        cases.refuse(conn, case.id, word="other_user", words=None, user="2002", now=world.clock())
        cases.accept_other(conn, case.id, "2002")
    with pytest.raises(Refused, match="belongs to Meta user 3003"):
        give(app, world.meta.create_token(user="3003"))
    new = world.meta.create_token(user="2002")
    assert give(app, new).app.token == new


def test_a_siblings_pixel_out_of_reach_is_said_and_only_this_helps(world: World, give: Give) -> None:
    old = world.meta.create_token()
    app, sibling = (world.an_app(old, email=OWNER) for _ in range(2))
    new = world.meta.create_token(pixels=[app.pixel_id or ""])
    with pytest.raises(Refused, match=f"pixel {sibling.pixel_id} of app {sibling.public_id}.*--only-this"):
        give(app, new)
    assert give(app, new, only_this=True).app.token == new
    assert world.app(sibling).token == old


def test_meta_away_or_a_wrong_secret_says_which(world: World, give: Give) -> None:
    app, new = world.an_app(), world.meta.create_token()
    world.meta.fault("debug", "transient_2", count=1)
    with pytest.raises(Refused, match="try again in a few minutes"):
        give(app, new)
    wrong = world.service("console", secret="wrong-secret-value")
    with pytest.raises(Refused, match="FACEBOOK_APP_SECRET"):
        set_token(wrong, app.public_id, new, by=ADMIN, now=world.clock())


def test_in_an_emergency_it_is_stored_unasked(world: World, give: Give) -> None:
    app, new = world.an_app(world.meta.create_token()), world.meta.create_token()
    world.meta.fault("any", "transient_2")
    asked = world.meta.stats()["calls"]
    assert give(app, new, check=False).app.token == new
    assert world.meta.stats()["calls"] == asked
    assert _trail(world)[0].subject.endswith("unverified")


def test_only_an_admin_may(world: World, give: Give) -> None:
    app = world.an_app()
    with pytest.raises(Forbidden):
        give(app, world.meta.create_token(), by=SUPPORT)
    with pytest.raises(NotFound):
        set_token(world.service(), "app_none", world.meta.create_token(), by=ADMIN, now=world.clock())
