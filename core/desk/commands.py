"""Everything a person may order. Each checks the role, writes the audit line and the order in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, select

from core.desk import app_options, queries
from core.desk.give_token import Given, set_token
from core.desk.operators import NEEDS, ROLES, Operator
from core.errors import BadInput, NotFound, Refused
from core.store import api_keys, apps, audit, jobs
from core.store.apps import App
from core.store.database import writing
from core.store.schema import capi_job

__all__ = [
    "NEEDS",
    "ROLES",
    "Given",
    "Operator",
    "add_api_key",
    "add_app",
    "cancel_job",
    "order_refresh",
    "order_refresh_all",
    "order_refresh_due",
    "order_retry",
    "pause_job",
    "resume_job",
    "revoke_api_key",
    "set_token",
]


def order_refresh(
    engine: Engine, fingerprints: Sequence[str], *, by: Operator, reason: str | None = None, now: datetime
) -> int:
    """Have these tokens refreshed; the job's id. Refused when none is given or one is held by no app."""
    by.must("refresh_tokens")
    wanted = sorted(set(fingerprints))
    if not wanted:
        raise Refused("nothing is selected: choose at least one token")
    with writing(engine) as conn:
        unknown = set(wanted) - set(queries.held_fingerprints(conn, wanted))
        if unknown:
            raise Refused(f"{len(unknown)} of these tokens are held by no app any more: look again")
        return _order(conn, "refresh_tokens", wanted, by=by, reason=reason, now=now)


def order_refresh_due(
    engine: Engine, *, by: Operator, reason: str | None = None, now: datetime, window: timedelta
) -> int:
    """Have every token refreshed that is broken, over or inside the window, and can be; Refused when none is."""
    by.must("refresh_tokens")
    with writing(engine) as conn:
        due = queries.due_fingerprints(conn, now=now, window=window)
        if not due:
            raise Refused("no token is due for a refresh")
        return _order(conn, "refresh_tokens", due, by=by, reason=reason, now=now)


def order_refresh_all(engine: Engine, *, by: Operator, reason: str | None = None, now: datetime) -> int:
    """Have every token in use refreshed; Refused when there is none."""
    by.must("refresh_tokens")
    with writing(engine) as conn:
        held = queries.held_fingerprints(conn)
        if not held:
            raise Refused("no app holds a token")
        return _order(conn, "refresh_tokens", held, by=by, reason=reason, now=now)


def order_retry(
    engine: Engine, event_ids: Sequence[int], *, by: Operator, reason: str | None = None, now: datetime
) -> int:
    """Have these events sent again; the job's id. Refused when none is given or no retry can help any of them."""
    by.must("retry_events")
    wanted = sorted(set(event_ids))
    if not wanted:
        raise Refused("nothing is selected: choose at least one event")
    with writing(engine) as conn:
        preview = queries.retry_preview(conn, wanted, now=now)
        if preview.retried == 0:
            why = "; ".join(f"{count}: {words}" for words, count in preview.skipped.items())
            raise Refused(f"retrying helps none of these events ({why})")
        return _order(conn, "retry_events", [str(id_) for id_ in wanted], by=by, reason=reason, now=now)


def cancel_job(engine: Engine, job_id: int, *, by: Operator, reason: str | None = None, now: datetime) -> None:
    """Stop a job; what is done stays done. NotFound; Conflict when it has ended already."""
    by.must("cancel_job")
    with writing(engine) as conn:
        job = queries.job_progress(conn, job_id)
        jobs.end(conn, job_id, now=now, state="cancelled")
        _audit(conn, "cancel_job", f"job {job_id}", job.total - job.done, by=by, reason=reason, now=now)


def pause_job(engine: Engine, job_id: int, *, by: Operator, reason: str | None = None, now: datetime) -> None:
    """Have nobody go on with a job until it is resumed. NotFound; Conflict when it has ended or is paused already."""
    by.must("pause_job")
    with writing(engine) as conn:
        job = queries.job_progress(conn, job_id)
        jobs.pause(conn, job_id, now=now)
        _audit(conn, "pause_job", f"job {job_id}", job.total - job.done, by=by, reason=reason, now=now)


def resume_job(engine: Engine, job_id: int, *, by: Operator, now: datetime) -> None:
    """Go on with a paused job where it stood. NotFound; Conflict when it has ended or is not paused."""
    by.must("resume_job")
    with writing(engine) as conn:
        job = queries.job_progress(conn, job_id)
        jobs.resume(conn, job_id)
        _audit(conn, "resume_job", f"job {job_id}", job.total - job.done, by=by, reason=None, now=now)


def add_app(
    engine: Engine,
    *,
    name: str,
    email: str,
    shop_domain: str | None,
    pixel_id: str | None,
    by: Operator,
    now: datetime,
) -> App:
    """A new app, its settings, and its user when the e-mail is new; Refused where the platform makes its own,
    BadInput."""
    by.must("add_app")
    name, email, pixel_id = name.strip(), email.strip(), (pixel_id or "").strip() or None
    if not name:
        raise BadInput("the name is missing: an app needs one")
    if "@" not in email.strip("@ "):
        raise BadInput("the e-mail is missing: put the merchant's address there")
    if pixel_id is not None and not (pixel_id.isascii() and pixel_id.isdigit()):
        raise BadInput("the pixel is no number: its id is one, as Events Manager shows it")
    shop_domain = app_options.OPTIONS["shop_domain"](shop_domain or "")
    with writing(engine) as conn:
        app = apps.add(conn, name=name, email=email, shop_domain=shop_domain, pixel_id=pixel_id)
        _audit(conn, "add_app", app.public_id, 1, by=by, reason=None, now=now)
        return app


def add_api_key(engine: Engine, *, title: str, scope: str, by: Operator, now: datetime) -> str:
    """A new API key in the clear, for its only showing; Refused for an unknown scope or an empty title."""
    by.must("add_api_key")
    if scope not in api_keys.SCOPES or not title.strip():
        raise Refused(f"an API key needs a title and a scope out of: {', '.join(api_keys.SCOPES)}")
    with writing(engine) as conn:
        key = api_keys.add(conn, title=title, scope=scope, now=now)
        _audit(conn, "add_api_key", f"{title} ({scope})", 1, by=by, reason=None, now=now)
        return key


def revoke_api_key(engine: Engine, title: str, *, by: Operator, now: datetime) -> None:
    """End a key at once; NotFound."""
    by.must("revoke_api_key")
    with writing(engine) as conn:
        api_keys.revoke(conn, title, now=now)
        _audit(conn, "revoke_api_key", title, 1, by=by, reason=None, now=now)


def _order(
    conn: Connection, kind: str, subjects: Sequence[str], *, by: Operator, reason: str | None, now: datetime
) -> int:
    """The job's id; a second click on the same subjects finds the open job and writes nothing."""
    digest = hashlib.sha256("\n".join(subjects).encode()).hexdigest()
    key = f"{kind}:{digest}"
    known = conn.scalar(select(capi_job.c.id).where(capi_job.c.dedupe_key == key))
    if known is not None:
        return int(known)
    reason = (reason or "").strip() or None
    job_id = jobs.order(conn, kind, subjects, dedupe_key=key, by=by.name, reason=reason, now=now)
    if jobs.progress(conn, job_id).created_at == now:  # type: ignore[union-attr]
        _audit(conn, kind, f"job {job_id}", len(subjects), by=by, reason=reason, now=now)
    return job_id


def _audit(
    conn: Connection, action: str, subject: str, count: int, *, by: Operator, reason: str | None, now: datetime
) -> None:
    if action not in NEEDS:
        raise NotFound(f"there is no order {action}")
    audit.write(conn, by=by.name, action=action, subject=subject, count=count, reason=reason, now=now)
