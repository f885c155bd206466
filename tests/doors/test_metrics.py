"""What Prometheus is shown: right figures of bounded labels, apart from the public door, database or not."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, create_engine, event
from typer.testing import CliRunner

from core.desk import snapshot
from core.doors import metrics
from core.doors.cli import app as cli
from core.doors.timetable import TASKS
from core.meta.failures import Failure
from core.store import snapshots
from core.store.database import reading, writing
from tests.desk.rows import MARK, seed
from tests.processes import environment, eventually, free_port, running
from tests.test_readme import README, table
from tests.trials.test_story import BROWSER
from tests.world import World

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def scrape(port: int) -> Samples:
    answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5)
    assert answer.status_code == 200
    return parsed(answer.text)


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, tuple(sorted(labels.items()))), 0)


def ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


def test_figures_of_real_processes(database_url: str, world: World, tmp_path: Path) -> None:
    lives, dies = world.meta.create_token(), world.meta.create_token(user="4004")
    shop, other = world.an_app(lives), world.an_app(dies, email="zoe@tea.example")
    world.meta.kill(dies, 460)
    door, at_endpoint, *at_workers = ports(4)
    env = environment(database_url, world.meta.url, CAPI_ENDPOINT_PORT=str(door))
    env["CAPI_ENDPOINT_METRICS_PORT"] = str(at_endpoint)
    with (
        running("endpoint", env=env, log=tmp_path / "endpoint.log") as endpoint,
        running("worker", env=env | {"CAPI_WORKER_METRICS_PORT": str(at_workers[0])}, log=tmp_path / "one.log"),
        running("worker", env=env | {"CAPI_WORKER_METRICS_PORT": str(at_workers[1])}, log=tmp_path / "two.log"),
    ):
        url = f"http://127.0.0.1:{door}"
        eventually(lambda: _up(f"{url}/readyz"), within=60, saying=endpoint.log.read_text)
        for number, app in enumerate((shop, shop, shop, other)):
            _track(url, app.public_id, f"visit-{number}")
        _track(url, shop.public_id, "visit-0")
        assert requests.post(f"{url}/api/track", data=b"{", timeout=5).status_code == 400
        assert requests.get(f"{url}/metrics", timeout=5).status_code == 404
        eventually(
            lambda: world.states() == {"delivered": 3, "parked": 1}, within=30, saying=lambda: str(world.states())
        )
        for port in at_workers:
            eventually(lambda port=port: _up(f"http://127.0.0.1:{port}/metrics"), within=40)
        seen = eventually(lambda: _with_snapshot(at_workers[0]), within=40)
        workers = [scrape(port) for port in at_workers]
        own = scrape(at_endpoint)

    assert value(own, "capi_events_received_total", source="track", result="new") == 4
    assert value(own, "capi_events_received_total", source="track", result="repeated") == 1
    assert value(own, "capi_http_responses_total", route="/api/track", status="200") == 5
    assert value(own, "capi_http_responses_total", route="/api/track", status="400") == 1
    assert value(own, "capi_http_responses_total", route="other", status="404") == 1
    assert value(own, "capi_intake_seconds_count") == 6, "the refused call left a receipt"

    def sums(name: str, **labels: str) -> float:
        return sum(value(one, name, **labels) for one in workers)

    assert sums("capi_events_sent_total", outcome="ok") == world.meta.stats()["events"] == 3
    assert sums("capi_events_sent_total", outcome=str(Failure.TOKEN_DEAD)) == 1
    calls = world.meta.stats()["calls"]
    refused = sums("capi_meta_requests_total", call="events", outcome=str(Failure.TOKEN_DEAD))
    assert sums("capi_meta_requests_total", call="events", outcome="ok") + refused == calls["events"]
    assert sums("capi_meta_request_seconds_count", call="events") == calls["events"]

    assert value(seen, "capi_workers_alive") == 2
    assert value(seen, "capi_events_waiting", state="parked") == 1
    assert value(seen, "capi_apps", health="Needs reconnect") == 1
    assert value(seen, "capi_snapshot_timestamp_seconds") == pytest.approx(time.time(), abs=60)
    tasks = {dict(labels)["task"] for name, labels in seen if name == "capi_task_due_timestamp_seconds"}
    assert tasks <= {task.name for task in TASKS}
    assert len(tasks) > 5


def _with_snapshot(port: int) -> Samples | None:
    """Once it was taken after the token was found dead."""
    seen = scrape(port)
    return seen if value(seen, "capi_apps", health="Needs reconnect") else None


def _up(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


def _track(url: str, public_id: str, event_id: str) -> None:
    body = {"appId": public_id, "eventName": "pageview", "url": "https://tea.example/", "event_id": event_id}
    body["visitorId"] = f"visitor-{event_id}"
    headers = {"User-Agent": BROWSER}
    assert requests.post(f"{url}/api/track", json=body, headers=headers, timeout=10).status_code == 200


def _figures(engine: Engine, now: datetime) -> dict[snapshots.Key, float]:
    days = timedelta(days=1)
    with reading(engine) as conn:
        return snapshot.figures(conn, now=now, soon=7 * days, window=30 * days, tasks=[task.name for task in TASKS])


def test_the_snapshot_tells_nothing_of_shops_and_tokens(engine: Engine, now: datetime) -> None:
    seed(engine, now=now, apps=36, events=200)
    found = _figures(engine, now)
    assert found["capi_events_waiting", "parked"] > 0
    with writing(engine) as conn:
        snapshots.put(conn, found, now=now)
    shown = generate_latest(metrics.WorkerMetrics(engine).registry).decode()
    assert value(parsed(shown), "capi_events_waiting", state="parked") == found["capi_events_waiting", "parked"]
    assert {name for name, _ in found} <= set(metrics.SNAPSHOT)
    for secret in (MARK, "fp_", "myshopify", "owner", "@", "app-0", "app_", "10000000000"):
        assert secret not in shown
    assert len(shown.splitlines()) < 200


def test_a_snapshot_takes_the_place_of_the_one_before(engine: Engine, now: datetime) -> None:
    first, second = {("capi_jobs_open", ""): 3.0, ("capi_alerts_open", "deadline"): 1.0}, {("capi_jobs_open", ""): 0.0}
    for figures in (first, second):
        with writing(engine) as conn:
            snapshots.put(conn, figures, now=now)
    with reading(engine) as conn:
        assert snapshots.last(conn) == (now, second)


def test_a_scrape_reads_one_small_table_and_a_snapshot_no_event_that_arrived(
    sqlite_engine: Engine, now: datetime
) -> None:
    seed(sqlite_engine, now=now, apps=12, events=100)
    said: list[tuple[str, Any]] = []

    @event.listens_for(sqlite_engine, "before_cursor_execute")
    def hear(conn: Any, cursor: Any, statement: str, parameters: Any, *more: Any) -> None:
        said.append((statement, parameters))

    generate_latest(metrics.WorkerMetrics(sqlite_engine).registry)
    assert [statement for statement, _ in said if "capi_snapshot" not in statement and statement != "BEGIN"] == []
    said.clear()
    _figures(sqlite_engine, now)
    event.remove(sqlite_engine, "before_cursor_execute", hear)
    with reading(sqlite_engine) as conn:
        plans = [
            row[3]
            for one in said
            if one[0] != "BEGIN"
            for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {one[0]}", one[1]).all()
        ]
    assert len(plans) > 10
    assert [line for line in plans if line in ("SCAN capi_event", "SCAN capi_attempt", "SCAN capi_refresh")] == []


def test_without_the_database_a_scrape_tells_of_the_process() -> None:
    away = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=1")
    shown = metrics.WorkerMetrics(away)
    shown.calls.labels("events", "ok").inc()
    found = parsed(generate_latest(shown.registry).decode())
    assert value(found, "capi_meta_requests_total", call="events", outcome="ok") == 1
    assert not [name for name, _ in found if name in metrics.SNAPSHOT]


@pytest.mark.parametrize(("command", "setting"), [("endpoint", "ENDPOINT"), ("worker", "WORKER")])
def test_a_port_that_is_taken_is_named(
    sqlite_world: World, monkeypatch: pytest.MonkeyPatch, command: str, setting: str
) -> None:
    env = environment(sqlite_world.engine.url.render_as_string(), sqlite_world.meta.url)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for name, text in (env | {f"CAPI_{setting}_METRICS_PORT": port}).items():
            monkeypatch.setenv(name, text)
        done = CliRunner().invoke(cli, [command])
    assert done.exit_code == 2
    assert f"CAPI_{setting}_METRICS_PORT: cannot listen on 127.0.0.1 port {port}" in done.stderr


def _known(engine: Engine) -> dict[str, tuple[str, ...]]:
    """Metric as Prometheus knows it → its labels."""
    found: dict[str, tuple[str, ...]] = {}
    for one in (metrics.EndpointMetrics(), metrics.WorkerMetrics(engine)):
        for collector in list(one.registry._collector_to_names):
            if not isinstance(collector, metrics._Snapshot):
                counter = type(collector).__name__ == "Counter"
                found[f"{collector._name}{'_total' if counter else ''}"] = tuple(collector._labelnames)  # type: ignore[attr-defined]
    found[metrics.SNAPSHOT_AT] = ()
    return found | {name: (one.label,) if one.label else () for name, one in metrics.SNAPSHOT.items()}


def test_readme_lists_every_metric_with_its_labels(sqlite_engine: Engine) -> None:
    listed = {name: tuple(re.findall(r"\w+", labels)) for name, labels, _ in table("Metrics")}
    assert listed == _known(sqlite_engine)


def test_dashboard_and_rules_ask_for_what_is_there(sqlite_engine: Engine) -> None:
    known = _known(sqlite_engine)
    dashboard = json.loads(CliRunner().invoke(cli, ["monitoring", "dashboard"]).stdout)
    rules = yaml.safe_load(CliRunner().invoke(cli, ["monitoring", "rules"]).stdout)
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    asked += [rule["expr"] for rule in alerts]
    assert len(asked) > 25
    named = {name for expression in asked for name in re.findall(r"\bcapi_\w+", expression)}
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in named} <= set(known)
    assert set(known) - named - {"capi_intake_seconds", "capi_meta_request_seconds"} == set()
    for expression in asked:
        for name, labels in re.findall(r"\b(capi_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)(?:!?=|=~)", labels)) <= set(known[name])
    assert {rule["labels"]["severity"] for rule in alerts} == {"warning", "critical"}
    assert all(rule["annotations"]["summary"] and rule["annotations"]["description"] for rule in alerts)


def test_the_scrape_configuration_in_readme_is_yaml() -> None:
    text = re.search(r"```yaml\n(scrape_configs:.*?)```", README, re.S)
    assert text is not None
    assert [job["job_name"] for job in yaml.safe_load(text[1])["scrape_configs"]] == ["capi-endpoint", "capi-worker"]


def test_what_counts_is_not_loaded_where_nobody_asks() -> None:
    code = (
        "import sys, core.doors.endpoint, core.doors.worker, core.doors.cli; print('prometheus_client' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
