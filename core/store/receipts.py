"""The keeper of refused inbound requests: a reason, and no more of the body than explains it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, update

from core.store.schema import capi_receipt


def record(
    conn: Connection,
    *,
    source: str,
    reason: str,
    status: int,
    now: datetime,
    app_id: str | None = None,
    shop_domain: str | None = None,
    detail: str | None = None,
) -> None:
    """Append one refusal; `detail` holds no personal data and is cut at 500 characters."""
    row = {"source": source, "reason": reason, "status": status, "at": now, "app_id": app_id}
    conn.execute(capi_receipt.insert().values(**row, shop_domain=shop_domain, detail=detail[:500] if detail else None))


def empty(conn: Connection, ids: Sequence[int]) -> int:
    """Forget the shop and the detail of these; how many."""
    emptied = update(capi_receipt).where(capi_receipt.c.id.in_(ids))
    return conn.execute(emptied.values(shop_domain=None, detail=None)).rowcount
