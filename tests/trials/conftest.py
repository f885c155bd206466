"""After every trial the account must balance: whatever came in was accepted, skipped, waits or died."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core import clock
from core.desk.ledger import imbalances
from core.store.database import reading


@pytest.fixture(autouse=True)
def _balanced(request: pytest.FixtureRequest) -> Iterator[None]:
    engine = request.getfixturevalue("engine") if "engine" in request.fixturenames else None
    yield
    if engine is not None:
        with reading(engine) as conn:
            assert imbalances(conn, clock.now()) == []
