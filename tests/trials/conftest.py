"""After every trial the account must balance: whatever came in was accepted, skipped, waits or died."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core import clock
from core.desk.ledger import imbalances
from core.store.database import open_engine, reading

# Whichever of them a trial uses, by itself or through `world`, `engine` and their like.
DATABASES = ("database_url", "postgres_url", "sqlite_url")


@pytest.fixture(autouse=True)
def _balanced(request: pytest.FixtureRequest) -> Iterator[None]:
    urls = [request.getfixturevalue(name) for name in DATABASES if name in request.fixturenames]
    yield
    for url in urls:
        engine = open_engine(url, pool_size=1)
        try:
            with reading(engine) as conn:
                assert imbalances(conn, clock.now()) == []
        finally:
            engine.dispose()
