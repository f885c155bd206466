"""A wave of expiries, time-lapsed: many tokens with one end, and how they are renewed without a peak.

The schedule, the refresh and the database are the product's, Meta is the sandbox on real HTTP; only the clock is
moved: from look to look while something is due, else to the next moment at which something is. Meta is away for some
hours when the wave is at its highest.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, case, func, select

from core.drills.report import Report
from core.drills.shops import APP_ID, APP_SECRET, DAY
from core.meta.graph import Graph
from core.sandbox.background import running
from core.sandbox.state import State
from core.secret import Secret
from core.services import schedule
from core.services.policy import Policy
from core.services.probing import probe_incidents
from core.services.refresh import TokenRefreshService
from core.store import incidents as kept_incidents
from core.store.database import reading, writing
from core.store.platform_tables import app, app_settings, user
from core.store.schema import capi_app, capi_token

START = datetime(2026, 6, 1, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
ENDS = START + 33 * DAY
# Up to their end; those that were renewed come due again thereafter.
LASTS = ENDS - START - HOUR
# Meta goes away this long after the first token came due.
AWAY_AFTER = 8 * HOUR
THREADS = 4


@dataclass
class Plan:
    """`cap`: refreshes a minute, at most; `away`: hours in which Meta is."""

    tokens: int = 10_000
    cap: int = 60
    away: float = 6.0


@dataclass
class Wave:
    """What was seen: refreshes begun, and how many tokens had how long to live, hour by hour."""

    count: int
    cap: int
    away: float = 0.0
    begun: list[datetime] = field(default_factory=list)
    hours: list[tuple[datetime, int, int, int]] = field(default_factory=list)
    exchanges: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def fastest(self) -> int:
        """The most refreshes that began in any sixty seconds."""
        window: deque[datetime] = deque()
        most = 0
        for moment in sorted(self.begun):
            window.append(moment)
            while window[0] <= moment - MINUTE:
                window.popleft()
            most = max(most, len(window))
        return most

    @property
    def untouched(self) -> int:
        """The most tokens that ever had less than seven days left."""
        return max(under_seven for *_, under_seven in self.hours)

    @property
    def passed(self) -> bool:
        return self.fastest <= self.cap and self.untouched == 0 and self.exchanges == self.count

    def report(self) -> Report:
        first, last = ((moment - START) / DAY for moment in (self.begun[0], self.begun[-1]))
        more = {
            "tokens with one end": f"{self.count:,}",
            "days simulated": f"{LASTS / DAY:.0f} (first refresh on day {first:.1f}, last on day {last:.1f})",
            "Meta away": f"{self.away:g} hours",
            "refreshes in one minute, at most": f"{self.fastest} (cap {self.cap})",
            "tokens below 7 days, at most": f"{self.untouched}",
            "exchanges": f"{self.exchanges:,} that gave a token",
            "outcomes": ", ".join(f"{count:,} {name}" for name, count in sorted(self.outcomes.items())),
            "duration": f"{self.seconds:,.0f} s",
        }
        figures = {"tokens": self.count, "exchanges": self.exchanges, "fastest": self.fastest, "cap": self.cap}
        figures |= {"below_seven_days": self.untouched}
        return Report(self.passed, form="time-lapsed, in one process", more=more, figures=figures)

    def table(self) -> str:
        return self.report().table()


def simulate(engine: Engine, count: int, *, cap: int, away: float) -> Wave:
    """The wave on this migrated, empty database."""
    started = time.monotonic()
    wave = Wave(count, cap, away)
    state = State(app_id=APP_ID, app_secret=Secret(APP_SECRET))
    policy = Policy(app_id=APP_ID, refreshes_a_minute=cap)
    with running(state) as meta, ThreadPoolExecutor(THREADS) as pool:
        state.set_clock(START.timestamp())
        _fill(engine, state, policy, count)
        graph = Graph(base_url=meta.url, version="v24.0", app_id=APP_ID, app_secret=Secret(APP_SECRET))
        clock = [START]
        service = TokenRefreshService(engine, graph, policy, worker="wave", clock=lambda: clock[0])
        gone = ENDS - policy.window + AWAY_AFTER
        for at in _moments(engine, wave):
            clock[0] = at
            state.set_clock(at.timestamp())
            is_away = away > 0 and gone <= at < gone + timedelta(hours=away)
            if is_away is not bool(state.faults):
                meta.fault("any", "transient_2") if is_away else meta.clear_faults()
            probe_incidents(engine, graph, policy, by="wave", clock=lambda: clock[0])
            due = schedule.due_refreshes(engine, policy, now=at)
            begun = [one for one in due if schedule.may_begin(engine, policy, now=at)]
            done = pool.map(lambda one: service.refresh(one, trigger="scheduled", by="wave"), begun)
            wave.outcomes.update(str(one.outcome) for one in done)
            wave.begun += [at] * len(begun)
        wave.exchanges = sum(call["status"] == 200 for call in meta.calls("exchange"))
        graph.close()
    wave.seconds = time.monotonic() - started
    return wave


def _fill(engine: Engine, state: State, policy: Policy, count: int) -> None:
    """Shops, and tokens that the daily checkup has looked at already."""
    ids = [f"{n:05d}" for n in range(count)]
    made = [state.add_token(None, expires_at=ENDS.timestamp(), issued_at=(ENDS - 60 * DAY).timestamp()) for _ in ids]
    said = {"kind": "USER", "meta_app_id": APP_ID, "meta_user_id": "1001", "scopes": " ".join(made[0].scopes)}
    known = [
        {
            "fingerprint": token.fingerprint,
            "user_id": f"user-{n}",
            "first_seen_at": START,
            "expires_at": ENDS,
            "checked_at": START,
            "next_refresh_at": policy.first_refresh(token.fingerprint, ENDS, START),
            **said,
        }
        for n, token in zip(ids, made, strict=True)
    ]
    with writing(engine) as conn:
        conn.execute(user.insert(), [{"id": f"user-{n}", "email": f"owner{n}@example.com"} for n in ids])
        shops = [{"id": f"app-{n}", "appId": f"key-{n}", "name": f"Shop {n}", "userId": f"user-{n}"} for n in ids]
        conn.execute(app.insert(), shops)
        conn.execute(
            app_settings.insert(),
            [
                {
                    "id": f"settings-{n}",
                    "appId": f"app-{n}",
                    "metaPixelId": f"9{n}",
                    "metaAccessToken": Secret(token.value),
                    "metaTokenExpiresAt": ENDS,
                }
                for n, token in zip(ids, made, strict=True)
            ],
        )
        held = [{"app_id": f"app-{n}", "fingerprint": token.fingerprint} for n, token in zip(ids, made, strict=True)]
        conn.execute(capi_app.insert(), held)
        conn.execute(capi_token.insert(), known)


def _moments(engine: Engine, wave: Wave) -> Iterator[datetime]:
    """Every look while something is due, else the next moment at which something is; what is seen, each hour."""
    at, seen = START, START
    while at < START + LASTS:
        yield at
        with reading(engine) as conn:
            t = capi_token.c
            due = conn.scalar(select(func.min(t.next_refresh_at)).where(t.broken_since.is_(None)))
            probes = [incident.probe_at for incident in kept_incidents.open_ones(conn)]
            following = at + schedule.EVERY
            then = max(following, min(probes) if probes else due or START + LASTS)
            while seen < then and seen < START + LASTS:
                wave.hours.append((seen, *_left(conn, seen)))
                seen += HOUR
        at += math.ceil((then - at) / schedule.EVERY) * schedule.EVERY


def _left(conn: Connection, at: datetime) -> tuple[int, int, int]:
    """How many tokens that apps hold have more than 30 days, 7 to 30 days, and less."""
    ends = capi_token.c.expires_at
    counted = (func.sum(case((where, 1), else_=0)) for where in (ends >= at + 30 * DAY, ends < at + 7 * DAY))
    held = select(func.count(), *counted).select_from(capi_app)
    row = conn.execute(held.join(capi_token, capi_token.c.fingerprint == capi_app.c.fingerprint)).one()
    return row[1], row[0] - row[1] - row[2], row[2]
