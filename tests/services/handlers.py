"""Handlers of refused tokens in a process of their own: `python -m tests.services.handlers DATABASE GRAPH [LEASE]`.

Every line on stdin is an order: `{"threads": 125, "calls": [[app_id, fingerprint], …]}`; the answer is one line of JSON
with the moments at which each call began and ended, and whether a usable token was stored.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from core.meta.failures import Failure
from core.meta.graph import Graph, GraphError
from core.secret import Secret
from core.services.policy import Policy
from core.services.refresh import TokenRefreshService
from core.store import database, migrate, tokens


def main() -> None:
    database_url, graph_url, *lease = sys.argv[1:]
    if lease:
        tokens.LEASE = timedelta(seconds=float(lease[0]))
    logging.disable(logging.CRITICAL)
    engine = database.open_engine(database_url, pool_size=12)
    migrate.prepare(engine)
    app_id, secret = os.environ["FACEBOOK_APP_ID"], Secret(os.environ["FACEBOOK_APP_SECRET"])
    graph = Graph(base_url=graph_url, version="v24.0", app_id=app_id, app_secret=secret)
    service = TokenRefreshService(engine, graph, Policy(app_id=app_id), worker=f"handlers-{time.monotonic_ns()}")

    def handle(call: list[str]) -> tuple[float, float, bool]:
        error = GraphError(Failure.TOKEN_EXPIRED, code=190, subcode=463, fingerprint=call[1])
        began = time.monotonic()
        usable = service.handle_facebook_api_error(error, call[0])
        return began, time.monotonic(), usable

    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        with ThreadPoolExecutor(order["threads"]) as pool:
            print(json.dumps(list(pool.map(handle, order["calls"]))), flush=True)


if __name__ == "__main__":
    main()
