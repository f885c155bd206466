"""How the parts are put together from settings, once for every door."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from typing import Any

from sqlalchemy import Engine

from core import logs
from core.meta.graph import Graph
from core.services.policy import Policy
from core.services.reconnect import Reconnect, base_url
from core.services.refresh import TokenRefreshService
from core.settings import Settings
from core.store import database, migrate

log = logging.getLogger("setup")


def start_logs(settings: Settings) -> None:
    logs.keep_out(settings.secrets())
    logs.setup(settings.log_level)


def open_store(settings: Settings, *, pool_size: int = 8) -> Engine:
    """The database, migrated (embedded default) or checked, with its keys; StoreError, SettingsError say what to do."""
    engine = database.open_engine(settings.database_url, pool_size=pool_size)
    migrate.prepare(engine, settings.encryption_keys)
    return engine


def make_graph(settings: Settings) -> Graph:
    return Graph(**graph_settings(settings))


def graph_settings(settings: Settings) -> dict[str, Any]:
    """What a `Graph` is made with."""
    return {
        "base_url": settings.graph_url,
        "version": settings.graph_version,
        "app_id": settings.facebook_app_id,
        "app_secret": settings.facebook_app_secret,
    }


def process_name(kind: str) -> str:
    """A name that no other process has, on any machine: leases and heartbeats carry it."""
    return f"{kind}@{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(2)}"


def make_service(settings: Settings, engine: Engine, *, kind: str, graph: Graph | None = None) -> TokenRefreshService:
    policy = Policy.of(settings)
    return TokenRefreshService(engine, graph or make_graph(settings), policy, worker=process_name(kind))


def make_reconnect(settings: Settings, service: TokenRefreshService) -> Reconnect | None:
    """The merchants' way back, where they can reach it."""
    if base_url(settings) is None:
        log.warning("reconnect links cannot be used: CAPI_PUBLIC_URL is not set")
        return None
    return Reconnect(service, settings)
