"""What operators see of cases, and what they send to merchants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select

from core.desk import case_words
from core.desk import cases as desk
from core.desk.explain_tokens import CASES
from core.desk.operators import Operator
from core.errors import Conflict, Forbidden, NotFound, Refused
from core.secret import Secret
from core.services.links import Links
from core.services.verification import Word
from core.settings import Settings
from core.store import audit, cases, outbox
from core.store.apps import App
from core.store.database import reading, writing
from core.store.schema import capi_audit, capi_case, capi_event
from tests.world import APP_ID, APP_SECRET, DAY, World

ADA, VERA = Operator("ada", "support"), Operator("vera", "viewer")
SETTINGS = Settings(FACEBOOK_APP_ID=APP_ID, FACEBOOK_APP_SECRET=Secret(APP_SECRET))


def a_case(world: World, app: App, *, now: datetime, failure: str = "token_dead") -> int:
    """The app's token is lost, and its events wait."""
    fingerprint = str(app.fingerprint)
    with writing(world.engine) as conn:
        cases.open_(conn, fingerprint, user_id=app.user_id, failure=failure, words="Meta's words", now=now)
        mine = select(capi_event.c.id).where(capi_event.c.app_id == app.id, capi_event.c.state == "due")
        outbox.move(conn, "park", list(conn.scalars(mine)), parked_by=fingerprint, next_attempt_at=now)
        return int(conn.scalar(select(capi_case.c.id).where(capi_case.c.fingerprint == fingerprint)) or 0)


def test_a_case_names_shops_events_and_the_first_loss(world: World) -> None:
    now = world.clock()
    token = world.meta.create_token()
    one = world.an_app(token, email="owner@example.com")
    two = world.an_app(token, email="owner@example.com")
    stranger = world.an_app(token, email="else@example.com")
    for app, age in ((one, DAY), (one, 2 * DAY), (two, timedelta(0)), (stranger, 3 * DAY)):
        world.an_event(app, age=age)
    a_case(world, two, now=now)
    for app in (one, stranger):
        a_case(world, app, now=now)
    with reading(world.engine) as conn:
        theirs, row = desk.cases(conn, now=now)
        assert desk.case_of_app(conn, stranger.id, now=now).id == theirs.id, "each user of a token has a case"
    assert (theirs.email, theirs.shops, theirs.apps, theirs.waiting) == ("else@example.com", (stranger.name,), 1, 1)
    assert (row.email, row.shops, row.apps, row.waiting) == ("owner@example.com", (one.name, two.name), 2, 3)
    assert row.first_lost_at is not None
    assert abs(row.first_lost_at - (now + 5 * DAY)) < timedelta(minutes=1)
    assert (row.state, row.failure, row.words) == ("made", "token_dead", "Meta's words")


def test_cases_whose_events_are_lost_first_come_first_and_done_ones_last(world: World) -> None:
    now = world.clock()
    made = {}
    for name, age in (("none", None), ("late", timedelta(0)), ("soon", 5 * DAY), ("done", 6 * DAY)):
        app = world.an_app(world.meta.create_token())
        if age is not None:
            world.an_event(app, age=age)
        made[a_case(world, app, now=now)] = name
        if name == "done":
            with writing(world.engine) as conn:
                cases.close(conn, str(app.fingerprint), now=now)
    with reading(world.engine) as conn:
        assert [made[row.id] for row in desk.cases(conn, now=now)] == ["soon", "late", "none"]
        assert [made[row.id] for row in desk.cases(conn, now=now, open_only=False)] == ["soon", "late", "none", "done"]
        assert len(desk.cases(conn, now=now, limit=1)) == 1
        assert desk.case_counts(conn) == {"made": 3, "sent": 0, "opened": 0, "expired": 0, "done": 1}


def test_a_case_is_found_by_shop_mail_fingerprint_and_number(world: World) -> None:
    now = world.clock()
    app, other = (world.an_app(world.meta.create_token()) for _ in range(2))
    case = a_case(world, app, now=now)
    a_case(world, other, now=now)
    with reading(world.engine) as conn:
        for text in (app.name, str(app.shop_domain), app.email, str(app.fingerprint), app.public_id):
            assert [row.id for row in desk.cases(conn, now=now, search=f" {text} ")] == [case], text
        assert case in [row.id for row in desk.cases(conn, now=now, search=str(case))]
        assert desk.cases(conn, now=now, search="100%") == []
        assert desk.case_of_app(conn, app.id, now=now).id == case
    with pytest.raises(NotFound), reading(world.engine) as conn:
        desk.case_of_app(conn, "nobody", now=now)


def test_a_merchant_who_is_gone_leaves_a_case_that_can_still_be_read(sqlite_world: World) -> None:
    with writing(sqlite_world.engine) as conn:
        cases.open_(conn, "fp_gone", user_id="u-gone", failure="token_dead", words="", now=sqlite_world.clock())
    with reading(sqlite_world.engine) as conn:
        row = desk.cases(conn, now=sqlite_world.clock())[0]
    assert (row.email, row.shops, row.apps, row.waiting, row.first_lost_at) == ("", (), 0, 0, None)


def test_a_link_comes_with_a_message_that_says_nothing_internal(world: World) -> None:
    now = world.clock()
    app = world.an_app(world.meta.create_token())
    world.an_event(app, age=DAY)
    case = a_case(world, app, now=now)
    made = desk.make_link(world.engine, SETTINGS, case, by=ADA, now=now, reason="asked by phone")
    text = made.link.removeprefix("http://127.0.0.1:8000/reconnect/")
    link = Links(Secret(APP_SECRET)).read(text)
    assert link is not None
    assert (link.case_id, link.ends_at, made.ends_at) == (case, made.ends_at, (now + 7 * DAY).replace(microsecond=0))
    assert made.subject == f"Please connect Facebook again for {app.name}"
    for piece in (app.name, made.link, "password was changed", f"{made.ends_at:%B %Y, %H:%M} UTC", "is lost after"):
        assert piece in made.message
    for piece in ("fp_", "token", "parked", "pixel", "Meta's words", "token_dead", app.user_id, APP_ID, "case"):
        assert piece not in made.message.replace(made.link, "")
    assert text not in repr(made)
    row = stored(world.engine, case)
    assert (row.state, row.sent_at, row.sent_by, row.remind_at) == ("sent", now, "ada", now + 3 * DAY)
    line = audit_lines(world.engine)[-1]
    assert (line.action, line.by, line.reason) == ("make_link", "ada", "asked by phone")
    assert link.nonce not in str(line)


def test_who_presses_twice_gets_the_link_of_the_first_press(world: World) -> None:
    now = world.clock()
    app = world.an_app(world.meta.create_token())
    number = a_case(world, app, now=now)

    def shown() -> desk.CaseRow:
        with reading(world.engine) as conn:
            return desk.case(conn, number, now=now)

    ways = ((desk.make_link, "make_link"), (desk.remind, "remind"), (desk.make_link, "make_link"))
    links = []
    for second, (order, _) in enumerate(ways):
        before = shown()
        at = now + timedelta(seconds=second)
        made = [order(world.engine, SETTINGS, number, by=ADA, now=at, shown=before) for _ in range(2)]
        assert made[0].link == made[1].link
        links.append(made[0].link)
    assert links[0] == links[1] != links[2], "a reminder is about the same link, and who saw it may make a new one"
    with reading(world.engine) as conn:
        assert list(conn.scalars(select(capi_audit.c.action))) == [action for _, action in ways]


def test_a_merchant_is_asked_again_after_three_days_and_three_more(world: World) -> None:
    now = world.clock()
    case = a_case(world, world.an_app(world.meta.create_token()), now=now)
    first = desk.make_link(world.engine, SETTINGS, case, by=ADA, now=now)

    def due(at: datetime) -> bool:
        with reading(world.engine) as conn:
            return desk.case(conn, case, now=at).remind_due

    assert (due(now + 3 * DAY - timedelta(seconds=1)), due(now + 3 * DAY)) == (False, True)
    again = desk.remind(world.engine, SETTINGS, case, by=ADA, now=now + 3 * DAY)
    assert again.link == first.link
    assert again.subject.startswith("Reminder: ")
    assert (due(now + 4 * DAY), due(now + 6 * DAY)) == (False, True)
    desk.remind(world.engine, SETTINGS, case, by=ADA, now=now + 6 * DAY)
    row = stored(world.engine, case)
    assert (row.reminders, row.remind_at, row.state) == (2, None, "sent")
    with pytest.raises(Refused, match="new one"):
        desk.remind(world.engine, SETTINGS, case, by=ADA, now=now + 7 * DAY)


def test_without_an_address_that_merchants_reach_there_is_no_link(sqlite_world: World) -> None:
    now = sqlite_world.clock()
    case = a_case(sqlite_world, sqlite_world.an_app(sqlite_world.meta.create_token()), now=now)
    everywhere = SETTINGS.model_copy(update={"endpoint_host": "0.0.0.0"})
    with pytest.raises(Refused, match="CAPI_PUBLIC_URL"):
        desk.make_link(sqlite_world.engine, everywhere, case, by=ADA, now=now)
    public = everywhere.model_copy(update={"public_url": "https://events.example.com"})
    made = desk.make_link(sqlite_world.engine, public, case, by=ADA, now=now)
    assert made.link.startswith("https://events.example.com/reconnect/")


def test_only_support_takes_links_and_lets_others_connect(sqlite_world: World) -> None:
    world, now = sqlite_world, sqlite_world.clock()
    app = world.an_app(world.meta.create_token())
    case = a_case(world, app, now=now)
    with writing(world.engine) as conn:
        cases.refuse(conn, case, word="other_user", words="before: 7001; now: 8002", user="8002", now=now)
    orders: list[Any] = [
        lambda by: desk.make_link(world.engine, SETTINGS, case, by=by, now=now),
        lambda by: desk.remind(world.engine, SETTINGS, case, by=by, now=now),
        lambda by: desk.accept_other_user(world.engine, case, user="8002", by=by, now=now),
    ]
    for order in orders:
        with pytest.raises(Forbidden):
            order(VERA)
    for order in orders:
        order(ADA)
    assert stored(world.engine, case).accepted_user == "8002"
    lines = audit_lines(world.engine)
    assert [line.action for line in lines] == ["make_link", "remind", "accept_other_user"]
    assert "Meta user 8002 (before: 7001; now: 8002)" in lines[-1].subject
    with writing(world.engine) as conn:
        cases.close(conn, str(app.fingerprint), now=now)
    for order in orders:
        with pytest.raises(Conflict):
            order(ADA)
    with pytest.raises(NotFound):
        desk.make_link(world.engine, SETTINGS, 999, by=ADA, now=now)


def test_another_user_than_the_one_who_was_looked_at_is_not_accepted(sqlite_world: World) -> None:
    world, now = sqlite_world, sqlite_world.clock()
    case = a_case(world, world.an_app(world.meta.create_token()), now=now)
    with pytest.raises(Conflict, match="no other user's was"):
        desk.accept_other_user(world.engine, case, user="8002", by=ADA, now=now)
    for user in ("8002", "9009"):
        with writing(world.engine) as conn:
            cases.refuse(conn, case, word="other_user", words=None, user=user, now=now)
    with pytest.raises(Conflict, match="the last one was Meta user 9009"):
        desk.accept_other_user(world.engine, case, user="8002", by=ADA, now=now)
    assert audit_lines(world.engine) == []
    desk.accept_other_user(world.engine, case, user="9009", by=ADA, now=now)
    with reading(world.engine) as conn:
        row = desk.case(conn, case, now=now)
    assert (row.refused_user, row.accepted_user, row.other_user_ok) == ("9009", "9009", True)
    with writing(world.engine) as conn:
        cases.refuse(conn, case, word="other_user", words=None, user="8002", now=now)
    with reading(world.engine) as conn:
        assert not desk.case(conn, case, now=now).other_user_ok


def test_every_state_and_every_refused_login_is_explained() -> None:
    assert set(CASES) == {*cases.STATES, *map(str, Word)}
    assert all(said.what and said.whose and said.do for said in CASES.values())


def test_shops_are_listed_as_people_do() -> None:
    assert case_words.listed([]) == "your shop"
    assert case_words.listed(["A"]) == "A"
    assert case_words.listed(["A", "B"]) == "A and B"
    assert case_words.listed(["A", "B", "C"]) == "A, B and C"
    assert case_words.listed(list("ABCDEFG")) == "A, B, C, D and 3 more"
    assert "\n" not in case_words.subject(["Tea\r\nBcc: all@example.com"], again=False)


def test_a_shops_name_steers_no_terminal_and_turns_no_line_round() -> None:
    steering = "Tea\x1b]0;pwned\x07\x9b2J\u202egnp\u200b"
    moment = datetime(2026, 12, 3, tzinfo=UTC)
    letter = case_words.message(["\x00", steering], failure="", link="L", ends_at=moment, waiting=0, lost_at=None)
    assert "Tea]0;pwned2Jgnp can no longer" in letter
    for text in (letter.replace("\n", ""), case_words.subject([steering], again=True)):
        assert text.isprintable()
    assert case_words.listed(["\x1b", "\u202e"]) == "your shop"
    assert "\u202e" not in case_words.refused("pixel_unreachable", steering)


def stored(engine: Engine, case: int) -> Any:
    with reading(engine) as conn:
        return conn.execute(select(capi_case).where(capi_case.c.id == case)).one()


def audit_lines(engine: Engine) -> list[Any]:
    with reading(engine) as conn:
        assert audit.first_broken(conn) is None
        return list(conn.execute(select(capi_audit).order_by(capi_audit.c.id)))
