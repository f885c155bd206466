"""What README says about the code, compared with the code."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import Engine, create_engine, text

from core.clock import now as real_now
from core.desk.explain import FAILURES, OUTCOMES, REASONS, RECEIPTS, Explanation
from core.desk.explain_shops import SILENCES
from core.desk.explain_sign_in import SIGN_INS
from core.desk.explain_tokens import ALERTS, CASES, FINDINGS, INCIDENTS
from core.doors import endpoint_track, endpoint_webhooks
from core.doors.cli import app as cli
from core.doors.endpoint import create_app
from core.drills.table import DRILLS
from core.failpoints import PLACES
from core.inbound import shopify
from core.meta.failures import Failure
from core.services.outcome import Outcome
from core.settings import Settings, load, names
from core.store import apps, cases, database, migrate, outbox, retention
from core.store.database import reading, writing
from core.store.health import Health
from core.store.platform_tables import platform
from tests.world import World

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, back-quotes taken off."""
    section = README.split(f"# {heading}\n", 1)[1]
    lines = section[section.index("\n|") + 1 :].split("\n\n", 1)[0].splitlines()
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_settings() -> None:
    fields = {name: Settings.model_fields[field] for name, field in names().items()}
    shown = [[_default(info.default), info.description] for info in fields.values()]
    assert table("Settings") == [[name, *rest] for name, rest in zip(fields, shown, strict=True)]


def _default(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else str(value)


def test_commands() -> None:
    known = [
        [name, " ".join(f"`{option}`" for option in _options(command)).strip("`"), str(command.help).splitlines()[0]]
        for name, command in _commands(typer.main.get_command(cli))
    ]
    assert table("Commands") == known


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def _options(command: Any) -> list[str]:
    given = [option for param in command.params for option in (*param.opts, *param.secondary_opts)]
    return [option for option in given if option.startswith("--")]


def test_every_command_line_in_the_text_is_a_command() -> None:
    known = [name for name, _ in _commands(typer.main.get_command(cli))]
    named = re.findall(r"(?:`|/|\| )capi-console ([a-z][a-z -]*[a-z])", README)
    assert len(named) > 10
    assert all(any(line.startswith(name) for name in known) for line in named), named


def test_routes(sqlite_engine: Engine) -> None:
    served = create_app(sqlite_engine, load({})).routes
    methods = {route.path: set(route.methods) - {"HEAD"} for route in served}  # type: ignore[attr-defined]
    assert {path: set(shown.split(", ")) for path, shown, _ in table("Routes of the endpoint")} == methods


def test_what_is_kept() -> None:
    settings = {"payload": "PAYLOAD", "events": "EVENT", "history": "HISTORY"}
    known = [[one.what, one.from_, f"CAPI_KEEP_{settings[one.kept]}_DAYS"] for one in retention.CLASSES]
    assert table("What is kept, and for how long") == known


def test_drills_and_failpoints() -> None:
    assert table("Drills") == [[name, drill.shows] for name, drill in DRILLS.items()]
    assert table("Failpoints") == [[place, words] for place, words in PLACES.items()]


def test_event_states() -> None:
    assert [state for state, _ in table("States of an event")] == [*outbox.STATES]


def test_failures() -> None:
    known = [[str(failure), said.what, said.whose, said.do] for failure, said in FAILURES.items()]
    assert table("Failures") == known
    assert {row[0] for row in known} == {str(failure) for failure in Failure}


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        ("Why an event is not sent", REASONS),
        ("Receipts", RECEIPTS),
        ("Findings", FINDINGS),
        ("When it is not one token's fault: incidents", INCIDENTS),
        ("Kinds of alerts", ALERTS),
        ("Silent shops", SILENCES),
        ("With an account kept elsewhere", SIGN_INS),
        ("Logins that are not taken", {word: said for word, said in CASES.items() if word not in cases.STATES}),
    ],
)
def test_reasons(heading: str, words: dict[str, Explanation]) -> None:
    assert table(heading) == [[word, said.what, said.whose, said.do] for word, said in words.items()]


def test_every_way_to_be_refused_is_explained() -> None:
    known = {one.reason for one in endpoint_track.REFUSALS if one.reason} | set(endpoint_webhooks._REASONS.values())
    known |= {
        shopify.why_not(topic, route)
        for topic in ("new/topic", "carts/update", "orders/create")
        for route in ("shopify", "carts/create")
    } - {None}
    known |= {"bad_signature", "no_secret", "broken_json"}
    assert known == set(RECEIPTS)


def test_outcomes_and_states_of_a_case() -> None:
    assert {word for word, *_ in table("Outcomes of a refresh")} == {str(outcome) for outcome in Outcome}
    assert [word for word, _ in table("States of a case")] == [*cases.STATES]
    assert {str(outcome) for outcome in Outcome} == set(OUTCOMES)
    assert set(cases.STATES) <= set(CASES)


def test_every_refusal_has_its_line() -> None:
    named = [word.strip().strip("`") for word, *_ in table("What each refusal does") for word in word.split(",")]
    assert set(named) == {str(failure) for failure in Failure}


def test_health_words() -> None:
    assert {word for word, _ in table("Health of a token")} == {str(word) for word in Health}


def test_the_first_two_commands_work_on_this_project() -> None:
    first, second = re.findall(r"```sh\n(python3 -m venv .*)\n```", README)
    assert first == "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/capi-console up --sandbox"
    assert second == "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "capi-console" in project["scripts"]
    assert "test" in project["optional-dependencies"]
    ran = [name for name, _ in _commands(typer.main.get_command(cli))]
    assert shlex.split(first)[-2] in ran


def test_every_picture_is_in_docs_and_docs_holds_nothing_else() -> None:
    named = set(re.findall(r'"docs/([^"]+)"', README))
    assert {path.name for path in (ROOT / "docs").iterdir()} == named


@pytest.fixture
def platform_owner(postgres: str) -> Iterator[str]:
    """A database in which the platform's tables belong to somebody else."""
    name = "readme_rights"
    admin = create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.execute(text(f"CREATE DATABASE {name}"))
    yield postgres.replace("/postgres?", f"/{name}?")
    with admin.connect() as conn:
        conn.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        conn.execute(text("DROP ROLE IF EXISTS capi"))
    admin.dispose()


def test_the_rights_are_enough(platform_owner: str, meta: Any) -> None:
    """Migrate, receive, refresh and deliver as the role that README makes."""
    owner = database.open_engine(platform_owner)
    platform.create_all(owner)
    with writing(owner) as conn:
        conn.execute(text("INSERT INTO \"User\" VALUES ('u1', 'a@example.com')"))
        conn.execute(text("INSERT INTO \"App\" VALUES ('a1', 'app_1', 'Shop', 'u1')"))
        conn.execute(
            text('INSERT INTO "AppSettings" ("id", "appId", "metaPixelId") VALUES (\'s1\', \'a1\', \'900001\')')
        )
        for statement in re.search(r"```sql\n(.*?)```", README, re.DOTALL)[1].split(";"):  # type: ignore[index]
            if statement.strip():
                conn.exec_driver_sql(statement)
    owner.dispose()
    as_capi = owner.url.set(drivername="postgresql", username="capi").render_as_string(hide_password=False)
    engine = database.open_engine(as_capi)
    migrate.migrate(engine)
    world = World(engine, meta)
    with writing(engine) as conn:
        apps.write_token(conn, "a1", meta.create_token(), expires_at=real_now())
    with reading(engine) as conn:
        assert conn.scalar(text("SELECT current_user")) == "capi"
        found = apps.get(conn, "a1")
    sent = world.an_event(found)
    assert world.deliver(found) == [found.fingerprint]
    assert world.service().refresh(str(found.fingerprint), trigger="on_error", by="test").usable
    world.deliver(world.app(found))
    assert world.state_of(sent) == "delivered"
    engine.dispose()
