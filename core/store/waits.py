"""How a wait that Meta asked for is written down: a shorter one never ends a longer one."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Table, and_, case

# No wait is longer; one that ends later than this after another was taken by a clock that has been put back since.
LONGEST = timedelta(days=1)


def until(table: Table, moment: datetime, failure: str) -> dict[str, Any]:
    """Values for `wait_until` and `wait_failure` of a table that has both: the later end stays, and its reason."""
    longer = and_(table.c.wait_until > moment, table.c.wait_until <= moment + LONGEST)
    return {
        "wait_until": case((longer, table.c.wait_until), else_=moment),
        "wait_failure": case((longer, table.c.wait_failure), else_=failure),
    }
