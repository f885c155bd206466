"""A marked token and a marked secret are found nowhere: not in logs at DEBUG, not in tables, CSV or answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from sqlalchemy import Engine, inspect, text

from core.clock import now
from core.desk import exports
from core.desk.tokens import TokenFilters
from core.meta.graph import Graph, GraphError
from core.sandbox.shop import Shop
from core.secret import Secret
from core.store import keyring
from core.store.database import is_embedded, reading
from tests.processes import environment, eventually, free_port, running
from tests.world import APP_SECRET, DAY, World

MARK = "EAAcanary" + "Q7" * 40
SHOPIFY = "canary-shopify-secret-4711"
MAIL = "canary.person@example.com"


def _tables(engine: Engine) -> str:
    """Everything stored but the platform's own token column."""
    shown = []
    with reading(engine) as conn:
        for table in inspect(engine).get_table_names():
            if table.startswith("capi_"):
                shown += [str(row) for row in conn.execute(text(f'SELECT * FROM "{table}"'))]
    return "\n".join(shown)


def _files(engine: Engine) -> str:
    """A dump of the database as it lies on the disk, where tokens are encrypted."""
    path = str(engine.url.database)
    return "".join(Path(path + ending).read_bytes().decode("latin-1") for ending in ("", "-wal"))


def test_nothing_marked_reaches_logs_tables_exports_or_answers(world: World, database_url: str, tmp_path: Path) -> None:
    token = world.meta.create_token(token=MARK, expires_in=-60)
    app = world.an_app(token, expires_in=-DAY)
    port = str(free_port())
    env = environment(
        database_url, world.meta.url, CAPI_LOG_LEVEL="DEBUG", SHOPIFY_API_SECRET=SHOPIFY, CAPI_ENDPOINT_PORT=port
    )
    url = f"http://127.0.0.1:{port}"
    shop = Shop(url, Secret(SHOPIFY))
    answers = []
    with (
        running("endpoint", env=env, log=tmp_path / "endpoint.log") as endpoint,
        running("worker", env=env, log=tmp_path / "worker.log") as worker,
    ):
        eventually(lambda: _answers(url), saying=endpoint.log.read_text)
        answers.append(shop.order(app.shop_domain or "", email=MAIL).text)
        answers.append(shop.track(app.public_id, "purchase", value=1, currency="EUR", userData={"em": MAIL}).text)
        eventually(lambda: world.states().get("parked") == 2, saying=worker.log.read_text)
        eventually(
            lambda: any(row.outcome == "needs_reconnect" for row in world.refreshes()), saying=worker.log.read_text
        )
        logs = endpoint.log.read_text() + worker.log.read_text()
    with reading(world.engine) as conn:
        report = "".join(exports.expiry_report(conn, TokenFilters(), now=now(), soon=7 * DAY, window=30 * DAY))
    everything = {"logs": logs, "tables": _tables(world.engine), "report": report, "answers": str(answers)}
    if encrypted := is_embedded(world.engine):
        everything["files"] = _files(world.engine)
        key = Path(f"{world.engine.url.database}.key").read_text().splitlines()[-1]
        assert key not in str(everything)
    assert encrypted == bool(keyring.of(world.engine))
    for place, found in everything.items():
        assert len(found) > 100, place
        for marked in (MARK, MARK[:20], SHOPIFY, APP_SECRET, MAIL):
            assert marked not in found, f"{marked[:12]}… in {place}"
    assert token.fingerprint in everything["tables"], "the name that may be shown"


@pytest.mark.parametrize("trouble", ["html_502", "truncated", "reset_after_accept", "transient_1"])
def test_no_exception_names_a_token(world: World, trouble: str) -> None:
    token = world.meta.create_token(token=MARK)
    world.meta.fault("any", trouble)
    graph, errors = world.graph(), []
    for call in (
        lambda: graph.send("1", [b"{}"], token),
        lambda: graph.exchange(token),
        lambda: graph.debug_token(token),
        lambda: graph.probe_pixel("1", token),
    ):
        try:
            call()
        except GraphError as error:
            errors.append(error)
    assert errors
    assert all(MARK not in f"{error!r} {error} {vars(error)}" and error.__cause__ is None for error in errors)


def test_meta_away_names_no_url_with_a_token() -> None:
    graph = Graph(base_url="http://127.0.0.1:9", version="v24.0", app_id="1", app_secret=Secret(APP_SECRET))
    with pytest.raises(GraphError) as error:
        graph.exchange(Secret(MARK))
    assert MARK not in f"{error.value!r} {error.value}"


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=2).ok
    except requests.ConnectionError:
        return False
