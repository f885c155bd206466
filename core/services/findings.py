"""Findings: what is wrong with a token that still works, told from what is stored of it. Asks nobody.

`core.desk.explain_tokens.FINDINGS` says of each word what happened, whose it is and what to do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, exists, false, func, or_, select

from core.services.policy import DAY, Policy
from core.store import reach
from core.store.database import chunks
from core.store.platform_tables import app, app_settings
from core.store.schema import capi_app, capi_reach, capi_token

# What Meta wants for POST /{pixel}/events.
# https://developers.facebook.com/docs/marketing-api/conversions-api/get-started
NEEDED_SCOPES = ("ads_management",)
# Data access ends about 90 days after the person last used the app. Whether that stops events is not documented.
# https://developers.facebook.com/documentation/facebook-login/auth-vs-data
DATA_ACCESS_SOON = timedelta(days=14)

# The most pressing first.
WORDS = (
    "missing_scope",
    "pixel_unreachable",
    "no_pixel",
    "short_lived",
    "wrong_app",
    "data_access_over",
    "data_access_soon",
)
# These hold no event back.
WARNINGS = frozenset({"wrong_app", "short_lived", "data_access_over", "data_access_soon"})
_LOOKUPS = 500


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found about a token: `words` say what exactly, in Meta's own words where there are any."""

    word: str
    pixel_id: str | None
    since: datetime
    words: str
    code: int | None = None
    subcode: int | None = None
    trace_id: str | None = None

    @property
    def warning(self) -> bool:
        """Whether events go out all the same."""
        return self.word in WARNINGS


def findings(conn: Connection, fingerprint: str, *, policy: Policy, now: datetime) -> list[Finding]:
    """What is wrong with this token, the most pressing first; nothing for one that is not known."""
    return findings_of(conn, [fingerprint], policy=policy, now=now).get(fingerprint, [])


def findings_of(
    conn: Connection, fingerprints: Sequence[str], *, policy: Policy, now: datetime
) -> dict[str, list[Finding]]:
    """The same for many tokens; those without a finding are left out."""
    found: dict[str, list[Finding]] = {}
    for part in chunks(list(fingerprints), _LOOKUPS):
        rows = conn.execute(select(capi_token).where(capi_token.c.fingerprint.in_(part))).all()
        pixels, tried = _pixels(conn, part), _tried(conn, part)
        for row in rows:
            name = row.fingerprint
            if judged := judge(row, pixels[name], tried[name], policy=policy, now=now):
                found[name] = judged
    return found


def troubled(conn: Connection, *, policy: Policy, now: datetime, limit: int = 1_000) -> dict[str, list[Finding]]:
    """Tokens in use with a finding, by fingerprint: for the list, and for alerts."""
    t, r = capi_token.c, capi_reach.c
    held = select(capi_app.c.app_id).where(capi_app.c.fingerprint == t.fingerprint)
    bare = held.join(app_settings, app_settings.c.appId == capi_app.c.app_id).where(_no_pixel())
    unreached = exists().where(r.fingerprint == t.fingerprint, r.reached.is_(False))
    scopes = " " + func.coalesce(t.scopes, " ".join(NEEDED_SCOPES)) + " "
    suspect = or_(
        t.foreign_app.is_(True),
        t.meta_app_id != policy.app_id if policy.app_id else false(),
        *(scopes.not_like(f"% {scope.replace('_', '!_')} %", escape="!") for scope in NEEDED_SCOPES),
        and_(t.issued_at.is_(None), t.expires_at.is_not(None)),
        t.data_access_expires_at < now + DATA_ACCESS_SOON,
        unreached,
        bare.exists(),
    )
    wanted = select(t.fingerprint).where(suspect, held.exists()).order_by(t.fingerprint).limit(limit)
    return findings_of(conn, list(conn.scalars(wanted)), policy=policy, now=now)


def judge(
    known: Row[Any],
    pixels: Iterable[str | None],
    tried: Iterable[Row[Any]],
    *,
    policy: Policy,
    now: datetime,
) -> list[Finding]:
    """From a token's row, its holders' pixels (None: an app without one) and what is known of its reach."""
    wanted = set(pixels)
    found = [*_about_itself(known, policy), *_about_data_access(known, now)]
    if None in wanted:
        found.append(Finding("no_pixel", None, known.first_seen_at, "an app that holds it has no pixel"))
    found += [
        Finding("pixel_unreachable", one.pixel_id, one.since, one.words or "", one.code, one.subcode, one.trace_id)
        for one in tried
        if not one.reached and one.pixel_id in wanted
    ]
    return sorted(found, key=lambda one: WORDS.index(one.word))


def _about_itself(known: Row[Any], policy: Policy) -> Iterable[Finding]:
    other = known.meta_app_id if known.meta_app_id not in (None, policy.app_id) else None
    if known.foreign_app or (other and policy.app_id):
        words = f"made by Meta app {other}" if other else "made by another Meta app"
        yield Finding("wrong_app", None, known.first_seen_at, words)
    if missing := missing_scopes(known.scopes):
        since = known.scopes_since or known.first_seen_at
        yield Finding("missing_scope", None, since, f"missing: {', '.join(missing)}")
    if known.checked_at and is_short_lived(known.kind, known.issued_at, known.expires_at, known.checked_at):
        words = f"ends {known.expires_at:%Y-%m-%d %H:%M} UTC"
        yield Finding("short_lived", None, known.first_seen_at, words)


def _about_data_access(known: Row[Any], now: datetime) -> Iterable[Finding]:
    ends = known.data_access_expires_at
    if ends is None or ends >= now + DATA_ACCESS_SOON:
        return
    words = f"data access {'ended' if ends <= now else 'ends'} {ends:%Y-%m-%d}"
    if ends <= now:
        yield Finding("data_access_over", None, ends, words)
    else:
        yield Finding("data_access_soon", None, ends - DATA_ACCESS_SOON, words)


def missing_scopes(scopes: str | None) -> list[str]:
    """What Meta wants for sending and this token lacks; nothing while its scopes are not known."""
    return [] if scopes is None else [scope for scope in NEEDED_SCOPES if scope not in scopes.split()]


def is_short_lived(kind: str | None, issued_at: datetime | None, expires_at: datetime | None, seen: datetime) -> bool:
    """A user's token of an hour or two: Meta tells `issued_at` of long-lived ones only.

    https://developers.facebook.com/docs/graph-api/reference/debug_token
    """
    return kind == "USER" and issued_at is None and expires_at is not None and expires_at <= seen + DAY


def _no_pixel() -> Any:
    return func.trim(func.coalesce(app_settings.c.metaPixelId, "")) == ""


def _pixels(conn: Connection, fingerprints: Sequence[str]) -> dict[str, list[str | None]]:
    held = (
        select(capi_app.c.fingerprint, app_settings.c.metaPixelId)
        .join(app, app.c.id == capi_app.c.app_id)
        .join(app_settings, app_settings.c.appId == app.c.id)
        .where(capi_app.c.fingerprint.in_(fingerprints))
    )
    found: dict[str, list[str | None]] = defaultdict(list)
    for fingerprint, pixel_id in conn.execute(held):
        found[fingerprint].append((pixel_id or "").strip() or None)
    return found


def _tried(conn: Connection, fingerprints: Sequence[str]) -> dict[str, list[Row[Any]]]:
    found: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in reach.of_many(conn, fingerprints):
        found[row.fingerprint].append(row)
    return found
