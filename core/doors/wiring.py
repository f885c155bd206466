"""How the parts are put together from settings, once for every door."""

from __future__ import annotations

import os
import secrets
import socket

from sqlalchemy import Engine

from core import logs
from core.meta.graph import Graph
from core.services.policy import Policy
from core.services.refresh import TokenRefreshService
from core.settings import Settings
from core.store import database, migrate


def start_logs(settings: Settings) -> None:
    logs.keep_out(settings.secrets())
    logs.setup(settings.log_level)


def open_store(settings: Settings, *, pool_size: int = 8) -> Engine:
    """The database, migrated (embedded default) or checked; StoreError says what to do."""
    engine = database.open_engine(settings.database_url, pool_size=pool_size)
    migrate.prepare(engine)
    return engine


def make_graph(settings: Settings) -> Graph:
    return Graph(
        base_url=settings.graph_url,
        version=settings.graph_version,
        app_id=settings.facebook_app_id,
        app_secret=settings.facebook_app_secret,
    )


def process_name(kind: str) -> str:
    """A name that no other process has, on any machine: leases and heartbeats carry it."""
    return f"{kind}@{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(2)}"


def make_service(settings: Settings, engine: Engine, *, kind: str) -> TokenRefreshService:
    policy = Policy.of(settings)
    return TokenRefreshService(engine, make_graph(settings), policy, worker=process_name(kind))
