"""Trouble in the made-up world: reconnect cases in every state, incidents, alerts, channels that fail, findings."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, select, update

from core.store.database import writing
from core.store.schema import capi_alert, capi_app, capi_case, capi_channel, capi_incident, capi_reach, capi_token
from tests.desk.rows import DAY, HOUR

EVIL = "![x](http://evil.example/x.png)"
# state → what else stands in the row, as hours from now
CASES: dict[str, dict[str, float]] = {
    "made": {"made_at": -5},
    "sent": {"made_at": -60, "sent_at": -48, "link_ends_at": 120, "remind_at": 24},
    "opened": {"made_at": -100, "sent_at": -96, "link_ends_at": 72, "remind_at": -2, "opened_at": -3, "refused_at": -2},
    "expired": {"made_at": -220, "sent_at": -200, "link_ends_at": -32},
    "done": {"made_at": -90, "sent_at": -80, "link_ends_at": 88, "opened_at": -44, "done_at": -44},
}


def open_cases(engine: Engine, *, now: datetime, states: tuple[str, ...] = tuple(CASES)) -> dict[str, int]:
    """One case in each of `states`, for the first tokens by user; state → its id."""
    found = {}
    with writing(engine) as conn:
        rows = conn.execute(select(capi_token.c.fingerprint, capi_token.c.user_id).order_by(capi_token.c.user_id)).all()
        for state, row in zip(states, rows, strict=False):
            found[state] = _case(conn, state, row.fingerprint, row.user_id, now)
            lost = update(capi_token).where(capi_token.c.fingerprint == row.fingerprint)
            conn.execute(lost.values(needs_reconnect=state != "done"))
    return found


def _case(conn: Any, state: str, fingerprint: str, user_id: str, now: datetime) -> int:
    moments = {name: now + timedelta(hours=hours) for name, hours in CASES[state].items()}
    words = f"before: 1001; now: 2002 {EVIL}"
    refused = {"refused": "other_user", "refused_words": words, "refused_user": "2002"}
    other = refused if state == "opened" else {}
    row = {"user_id": user_id, "fingerprint": fingerprint, "state": state, "failure": "token_dead"}
    more = {"words": f"The session has been invalidated {EVIL}", "nonce": "00" * 16}
    by = {"sent_by": "Ada"} if "sent_at" in moments else {}
    return int(conn.execute(capi_case.insert().values(**row, **more, **moments, **by, **other)).inserted_primary_key[0])


def incident(engine: Engine, *, now: datetime, kind: str = "app_config") -> None:
    with writing(engine) as conn:
        times = {"opened_at": now - HOUR, "seen_at": now, "probe_at": now + timedelta(minutes=2)}
        said = {"code": 1, "words": f"Error validating client secret. {EVIL}", "trace_id": "TrAcEoFiNcIdEnT"}
        conn.execute(capi_incident.insert().values(kind=kind, refusals=17, **said, **times))


def alerts(engine: Engine, *, now: datetime, count: int = 3) -> None:
    kinds = ("needs_reconnect", "deadline", "expiring")
    with writing(engine) as conn:
        for number in range(count):
            row = {"kind": kinds[number % 3], "subject": f"subject-{number}", "title": f"Shop {number} {EVIL}"}
            times = {"opened_at": now - HOUR * number, "seen_at": now}
            conn.execute(capi_alert.insert().values(stage=number % 2, **row, **times))


def failing_channel(engine: Engine, *, now: datetime) -> None:
    with writing(engine) as conn:
        row = {"channel": "fp_1", "title": "mail to ops.example", "told_up_to": 0, "failures": 4}
        times = {"next_attempt_at": now + HOUR, "sent_at": now - DAY}
        conn.execute(capi_channel.insert().values(error=f"connection refused {EVIL}", **row, **times))


def unreached(engine: Engine, app_id: str, *, now: datetime) -> str:
    """A pixel that this app's token may not use; the token's fingerprint."""
    with writing(engine) as conn:
        fingerprint = conn.scalar(select(capi_app.c.fingerprint).where(capi_app.c.app_id == app_id))
        row = {"pixel_id": str(10**14 + int(app_id[4:])), "reached": False, "since": now - HOUR, "checked_at": now}
        said = {"code": 100, "subcode": 33, "words": f"Object does not exist {EVIL}", "trace_id": "TrAcEoFrEaCh"}
        conn.execute(capi_reach.insert().values(fingerprint=fingerprint, **row, **said))
    return str(fingerprint)


def everything(engine: Engine, *, now: datetime) -> None:
    """All that may show foreign text: cases, an incident, alerts, a channel that fails, a pixel out of reach."""
    open_cases(engine, now=now)
    incident(engine, now=now)
    alerts(engine, now=now)
    failing_channel(engine, now=now)
    unreached(engine, "app-00000", now=now)
