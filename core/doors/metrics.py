"""`/metrics` for Prometheus, on an address of its own: what this process did, and the last snapshot of the database.

Names and units as https://prometheus.io/docs/practices/naming/ has them. Labels come from our own tables of words:
no shop, app, pixel, user or token is among them. Counters belong to one process, and are summed over all; what the
snapshot tells is the same in every worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from core import __version__
from core.errors import CoreError, SettingsError
from core.store import snapshots
from core.store.database import reading

log = logging.getLogger("metrics")

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the snapshot: what it says, and the name of its label where it has one."""

    words: str
    label: str | None = None


SNAPSHOT = {
    "capi_events_waiting": Figure("Events that have not arrived, counted up to 100,000 of each state", "state"),
    "capi_oldest_due_timestamp_seconds": Figure("When the due event came in that must go first; none: nothing is due"),
    "capi_first_deadline_timestamp_seconds": Figure("When the first event is lost that waits for its token"),
    "capi_apps": Figure("Apps by the health of their token", "health"),
    "capi_tokens_broken": Figure("Tokens that Meta refuses"),
    "capi_refreshes_last_day": Figure("Refreshes of the last 24 hours by what they came to", "outcome"),
    "capi_incidents_open": Figure("Incidents that are open", "kind"),
    "capi_alerts_open": Figure("Alerts that are open", "kind"),
    "capi_jobs_open": Figure("Jobs that are not done yet"),
    "capi_ledger_off": Figure("Events that came in and stand in no account, or the reverse, day by day and app by app"),
    "capi_workers_alive": Figure("Workers that were heard of in the last half minute"),
    "capi_task_due_timestamp_seconds": Figure("When a task is due next; long past: nobody does it", "task"),
}
SNAPSHOT_AT = "capi_snapshot_timestamp_seconds"
SNAPSHOT_AT_WORDS = "When the figures of the database were taken"


class Metrics:
    """The figures of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        Gauge("capi_build_info", "This program's version", ["version"], registry=self.registry).labels(__version__).set(
            1
        )


class EndpointMetrics(Metrics):
    def __init__(self) -> None:
        super().__init__()
        words = "Requests answered; paths that are none of ours are `other`"
        self.responses = Counter("capi_http_responses", words, ["route", "status"], registry=self.registry)
        words = "Events taken in: new, or repeated (known already)"
        self.events = Counter("capi_events_received", words, ["source", "result"], registry=self.registry)
        words = "From a request's turn to its commit"
        self.intake = Histogram("capi_intake_seconds", words, buckets=_SECONDS, registry=self.registry)
        words = "Requests that wait for their commit"
        self.waiting = Gauge("capi_intake_waiting", words, registry=self.registry)


class WorkerMetrics(Metrics):
    def __init__(self, engine: Engine) -> None:
        super().__init__()
        words = "Calls to Meta by what they came to: ok, or the failure"
        self.calls = Counter("capi_meta_requests", words, ["call", "outcome"], registry=self.registry)
        words = "How long calls to Meta took"
        self.seconds = Histogram("capi_meta_request_seconds", words, ["call"], buckets=_SECONDS, registry=self.registry)
        words = "Events in requests to Meta by what became of the request: ok, or the failure"
        self.events = Counter("capi_events_sent", words, ["outcome"], registry=self.registry)
        self.registry.register(_Snapshot(engine))


class _Snapshot:
    """The database's figures at each scrape: one small read; nothing while the database is away."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Named beforehand, so that nothing is read when the collector is registered."""
        yield GaugeMetricFamily(SNAPSHOT_AT, SNAPSHOT_AT_WORDS)
        for name, figure in SNAPSHOT.items():
            yield GaugeMetricFamily(name, figure.words)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            with reading(self.engine) as conn:
                at, found = snapshots.last(conn)
        except (SQLAlchemyError, CoreError, OSError) as error:
            log.warning("the snapshot cannot be read", extra={"error": type(error).__name__})
            return
        if at is None:
            return
        yield GaugeMetricFamily(SNAPSHOT_AT, SNAPSHOT_AT_WORDS, at.timestamp())
        for name, figure in SNAPSHOT.items():
            family = GaugeMetricFamily(name, figure.words, labels=[figure.label] if figure.label else [])
            for (known, label), value in sorted(found.items()):
                if known == name:
                    family.add_metric([label] if figure.label else [], value)
            yield family


def serve(metrics: Metrics, *, host: str, port: int, setting: str) -> Callable[[], None]:
    """Answer scrapes from a thread of its own; what ends it. SettingsError when the port is taken."""
    try:
        server: tuple[WSGIServer, Thread] = start_http_server(port, host.strip("[]"), metrics.registry)
    except OSError as error:
        words = error.strerror or "the address cannot be used"
        raise SettingsError(
            f"{setting}: cannot listen on {host} port {port} ({words}): put a free port there"
        ) from None
    log.info("metrics are shown", extra={"host": host, "port": port})

    def stop() -> None:
        server[0].shutdown()
        server[0].server_close()

    return stop
