"""Cases at the shell, and the worker's timetable that ends links."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from core.doors import timetable
from core.doors.cli import app
from core.secret import Secret
from core.services.links import Links
from core.store import cases
from core.store.apps import App
from core.store.database import reading, writing
from core.store.platform_tables import app as app_table
from core.store.schema import capi_case
from tests.world import APP_ID, APP_SECRET, DAY, World

Run = Callable[..., Result]


@pytest.fixture
def run(world: World, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    given = {"DATABASE_URL": database_url, "FACEBOOK_APP_ID": APP_ID, "FACEBOOK_APP_SECRET": APP_SECRET}
    for name, value in (given | {"CAPI_GRAPH_URL": world.meta.url}).items():
        monkeypatch.setenv(name, value)
    return lambda *args, **more: CliRunner().invoke(app, args, **more)


@pytest.fixture
def lost(world: World) -> App:
    found = world.an_app(world.meta.create_token())
    with writing(world.engine) as conn:
        said = {"user_id": found.user_id, "failure": "token_dead", "words": "w"}
        cases.open_(conn, str(found.fingerprint), **said, now=world.clock())
    return found


def test_a_link_is_printed_with_its_message(run: Run, lost: App) -> None:
    listed = json.loads(run("cases", "--json").stdout)
    assert [(row["state"], row["shops"]) for row in listed] == [("made", lost.name)]
    number = str(listed[0]["case"])
    printed = run("case", "link", "--case", number).stdout
    link = printed.splitlines()[0]
    assert link in printed.split("\n\n", 2)[2]
    assert f"Subject: Please connect Facebook again for {lost.name}" in printed
    assert Links(Secret(APP_SECRET)).read(link.rsplit("/", 1)[1]) is not None
    by_app = json.loads(run("case", "link", "--app", lost.public_id, "--json").stdout)
    assert set(by_app) == {"case", "link", "ends", "subject", "message"}
    assert by_app["link"] != link
    again = json.loads(run("case", "remind", "--case", number, "--json").stdout)
    assert (again["link"], again["subject"][:9]) == (by_app["link"], "Reminder:")
    assert "sent" in run("cases").stdout


def test_another_user_is_accepted_by_id_or_after_a_question(run: Run, world: World, lost: App) -> None:
    accept = ("case", "accept-other-user", "--app", lost.public_id, "--reason", "new owner")
    for nobody in (run(*accept), run(*accept, "--user", "8002")):
        assert nobody.exit_code == 1
        assert nobody.output.strip().count("\n") == 0
    _refuse(world, "8002")
    asked = run(*accept, input="n\n")
    assert f"Meta user 8002 may connect for {lost.name}?" in asked.output
    assert (asked.exit_code, _accepted(world)) == (1, None)
    assert run(*accept, input="y\n").exit_code == 0
    assert _accepted(world) == "8002"
    _refuse(world, "9009")
    late = run(*accept, "--user", "8002")
    assert (late.exit_code, "9009" in late.output) == (1, True)
    done = run(*accept, "--user", "9009")
    assert (done.exit_code, "Meta user 9009 may connect" in done.output) == (0, True)
    assert _accepted(world) == "9009"


def _refuse(world: World, user: str) -> None:
    with writing(world.engine) as conn:
        case = int(conn.scalar(select(capi_case.c.id)) or 0)
        cases.refuse(conn, case, word="other_user", words=f"now: {user}", user=user, now=world.clock())


def _accepted(world: World) -> str | None:
    with reading(world.engine) as conn:
        return conn.scalar(select(capi_case.c.accepted_user))


def test_a_shops_name_steers_no_terminal(run: Run, world: World, lost: App) -> None:
    with writing(world.engine) as conn:
        conn.execute(app_table.update().values(name="Tea\x1b]0;pwned\x07 House"))
    printed = run("case", "link", "--app", lost.public_id).stdout
    assert "Tea]0;pwned House can no longer" in printed
    assert not {"\x1b", "\x07"} & set(printed)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "exactly one of --case, --app"),
        (("--case", "1", "--app", "x"), "exactly one of --case, --app"),
        (("--case", "77"), "there is no case 77"),
        (("--app", "nobody"), "there is no app nobody"),
    ],
)
def test_an_order_that_names_no_case_is_one_line(run: Run, args: tuple[str, ...], words: str) -> None:
    refused = run("case", "link", *args)
    assert refused.exit_code == 1
    assert refused.output.strip().count("\n") == 0
    assert words in refused.output


def test_the_timetable_ends_links_that_are_over(world: World, lost: App) -> None:
    now = world.clock()
    with writing(world.engine) as conn:
        case = int(conn.scalar(select(capi_case.c.id)) or 0)
        cases.send(conn, case, nonce="0" * 32, ends_at=now + 7 * DAY, remind_at=now, by="ada", now=now)
    task = next(task for task in timetable.TASKS if task.name == "reconnect links")
    assert task.every <= timedelta(minutes=5)
    for at, state in ((now + 6 * DAY, "sent"), (now + 7 * DAY, "expired")):
        task.run(world.service(), at)
        with reading(world.engine) as conn:
            assert conn.scalar(select(capi_case.c.state)) == state
