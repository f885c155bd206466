"""A watch over every transaction of a test: rows must be locked in the order that `core.store.database` promises.

What a transaction has locked already may be touched again; a lock it has not yet must not stand before one it has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, event

from core.store.database import LOCK_ORDER

RANKS = {table: rank for rank, table in enumerate(LOCK_ORDER)}
# A ledger line and its payload are new when they are inserted: nobody waits for them in another order.
_LOCKS = re.compile(
    r'^\s*(?:UPDATE|DELETE FROM|INSERT INTO(?! capi_event| capi_outbox)|SELECT .*?\bFROM) "?(\w+)"?', re.S
)
_KEYS = ("fingerprint", "fingerprint_1", "appId_1", "app_id", "pixel_id", "pixel_id_1", "id_1_1")


@dataclass
class LockOrder:
    """What each open transaction has locked so far, and where one broke the order."""

    broken: list[str] = field(default_factory=list)
    _held: dict[int, list[tuple[int, str]]] = field(default_factory=dict)

    def watch(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", self._see)
        for end in ("commit", "rollback"):
            event.listen(engine, end, self._forget)

    def _forget(self, conn: Connection) -> None:
        self._held.pop(id(conn.connection.dbapi_connection), None)

    def _see(self, conn: Connection, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool) -> None:
        found = _LOCKS.match(statement)
        if found is None or found[1] not in RANKS or context.compiled is None:
            return
        # SQLite's compiler leaves FOR UPDATE out: the statement itself tells.
        if statement.lstrip().startswith("SELECT") and not _is_locking(context.compiled.statement):
            return
        rank, values = RANKS[found[1]], (context.compiled_parameters or [{}])[0]
        key = next((str(values[name]) for name in _KEYS if values.get(name) is not None), "?")
        held = self._held.setdefault(id(conn.connection.dbapi_connection), [])
        if (rank, key) not in held:
            if held and max(held)[0] > rank and rank < RANKS["capi_outbox"]:
                self.broken.append(f"{found[1]} {key} after {LOCK_ORDER[max(held)[0]]}: {statement[:120]}")
            held.append((rank, key))


def _is_locking(statement: Any) -> bool:
    return getattr(statement, "_for_update_arg", None) is not None
