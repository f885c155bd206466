"""Endpoint and worker with their metrics shown: loaded only where a port for them is set."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from starlette.routing import Route
from starlette.types import ASGIApp

from core import clock
from core.doors import endpoint, metrics, wiring
from core.doors.counting import CountingApp, CountingGraph, CountingIntake
from core.meta.graph import Graph
from core.settings import Settings


def watch_endpoint(settings: Settings, engine: Engine, parts: dict[str, Any]) -> ASGIApp:
    """The endpoint's app, counted. SettingsError when the port is taken."""
    shown = metrics.EndpointMetrics()
    intake = CountingIntake(engine, shown, clock=clock.now)
    served = endpoint.create_app(engine, settings, intake=intake, **parts)
    routes = frozenset(route.path for route in served.routes if isinstance(route, Route) and "{" not in route.path)
    _serve(shown, settings, settings.endpoint_metrics_port, "CAPI_ENDPOINT_METRICS_PORT")
    return CountingApp(served, shown, routes)


def watch_worker(settings: Settings, engine: Engine) -> Graph:
    """Meta for a worker, counted. SettingsError when the port is taken."""
    shown = metrics.WorkerMetrics(engine)
    _serve(shown, settings, settings.worker_metrics_port, "CAPI_WORKER_METRICS_PORT")
    return CountingGraph(shown, **wiring.graph_settings(settings))


def _serve(shown: metrics.Metrics, settings: Settings, port: int | None, setting: str) -> None:
    assert port is not None
    metrics.serve(shown, host=settings.metrics_host, port=port, setting=setting)
