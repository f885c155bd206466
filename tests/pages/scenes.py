"""Every way in which a page is looked at: which rows are ticked, what its address asks, what was pressed last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Engine, text

from core.desk.explain import OUTCOMES
from core.store.database import reading
from tests.desk import trouble
from tests.pages.crowded import NO_TOKEN, PAUSED, SAME_ORDER, SILENT, STAFF
from tests.pages.screen import Screen


@dataclass(frozen=True, slots=True)
class Scene:
    """`ticks`: table → SQL that finds the ids of its ticked rows; `chooses`, `presses`: what is done then, where the
    role may; `paged`: so few rows a page that there are several; `sandbox`: beside a stand-in for Meta; `sets`:
    settings."""

    page: str
    asks: Mapping[str, str] = field(default_factory=dict)
    ticks: Mapping[str, str] = field(default_factory=dict)
    chooses: Mapping[str, str] = field(default_factory=dict)
    presses: str = ""
    paged: bool = False
    sandbox: bool = False
    sets: Mapping[str, str] = field(default_factory=dict)

    def open(self, engine: Engine) -> Screen:
        with reading(engine) as conn:
            ticked = {table: list(conn.scalars(text(sql))) for table, sql in self.ticks.items()}
        assert all(ticked.values()), f"{self}: no row is found"
        screen = Screen(self.page, asks=self.asks, ticked=ticked)
        for name, value in self.chooses.items():
            if not screen.is_closed(name):
                screen.choose(name, value)
        return screen.press(self.presses) if self.presses and not screen.is_closed(self.presses) else screen


# Whose token is in which health: reconnect, valid, renewing, soon over, over, of unknown end, without one.
_HOLDERS = (0, 4, 5, 6, 8, 9, 10)
_EVENT = "SELECT id FROM capi_event WHERE state = '{}' AND failure IS NOT NULL ORDER BY id LIMIT {}"
_JOB = {
    "done": "state = 'done'",
    "queued": "state = 'queued' AND paused_at IS NULL",
    "running": "state = 'running' AND paused_at IS NULL",
    "paused": "paused_at IS NOT NULL",
    "cancelled": "state = 'cancelled'",
}

ELSEWHERE = {
    "CAPI_OIDC_ISSUER": "https://accounts.example",
    "CAPI_OIDC_CLIENT_ID": "console",
    "CAPI_OIDC_CLIENT_SECRET": "hush",
    "CAPI_CONSOLE_URL": "https://console.example",
}

SCENES: tuple[Scene, ...] = (
    Scene("overview"),
    Scene("find"),
    Scene("find", {"q": SAME_ORDER}),
    Scene("find", {"q": SAME_ORDER}, {"found": "SELECT 'event:' || id FROM capi_event WHERE order_id = '#7' LIMIT 1"}),
    Scene("find", {"q": "evt-12"}),
    Scene("find", {"q": "nothing is called so"}),
    Scene("tokens"),
    Scene("tokens", paged=True),
    *(Scene("tokens", ticks={"tokens": f"SELECT 'app-{3 * holder:05d}'"}) for holder in _HOLDERS),
    Scene("tokens", ticks={"tokens": f"SELECT '{NO_TOKEN}'"}),
    Scene("tokens", ticks={"tokens": "SELECT 'app-00030' UNION SELECT 'app-00033'"}, presses="refresh"),
    Scene("tokens", presses="refresh_due"),
    Scene("refresh_history"),
    Scene("refresh_history", paged=True),
    Scene("refresh_history", presses="refreshes.on", paged=True),
    *(
        Scene(
            "refresh_history",
            {"period": "400 days"},
            {"refreshes": f"SELECT id FROM capi_refresh WHERE outcome = '{outcome}' LIMIT 1"},
        )
        for outcome in ("extended", "needs_reconnect", "unreachable")
        if outcome in OUTCOMES
    ),
    Scene("failed_events"),
    Scene("failed_events", paged=True),
    Scene("failed_events", presses="events.on", paged=True),
    Scene("failed_events", {"show": "dead"}, {"events": _EVENT.format("dead", 1)}),
    Scene("failed_events", {"show": "waiting"}, {"events": _EVENT.format("parked", 1)}),
    Scene("failed_events", {"show": "retrying"}, {"events": _EVENT.format("due", 1)}),
    Scene("failed_events", {"show": "dead"}, {"events": _EVENT.format("dead", 3)}, presses="retry"),
    Scene("failed_events", {"show": "dead", "cause": "Not permitted"}, presses="retry_all"),
    Scene("reconnect"),
    *(
        Scene("reconnect", {"show": "all"}, {"cases": f"SELECT id FROM capi_case WHERE state = '{state}'"})
        for state in trouble.CASES
    ),
    Scene("reconnect", {}, {"cases": "SELECT id FROM capi_case WHERE state = 'sent'"}, presses="make_new"),
    Scene("reconnect", {}, {"cases": "SELECT id FROM capi_case WHERE state = 'opened'"}, presses="accept"),
    Scene("jobs"),
    Scene("jobs", paged=True),
    Scene("jobs", presses="jobs.on", paged=True),
    *(Scene("jobs", ticks={"jobs": f"SELECT id FROM capi_job WHERE {which} LIMIT 1"}) for which in _JOB.values()),
    *(
        Scene("jobs", ticks={"jobs": f"SELECT id FROM capi_job WHERE {_JOB['running']}"}, presses=asks)
        for asks in ("pause", "Cancel this job")
    ),
    Scene("apps"),
    Scene("apps", paged=True),
    *(Scene("apps", ticks={"apps": f"SELECT '{app_id}'"}) for app_id in ("app-00000", NO_TOKEN, PAUSED, SILENT)),
    Scene("apps", ticks={"apps": "SELECT 'app-00000'"}, presses="pause"),
    Scene("system"),
    Scene("system", sets={"CAPI_ALERT_URLS": "json://ops.example/hook"}),
    Scene("people"),
    Scene("people", paged=True),
    Scene("people", presses="trail.on", paged=True),
    *(Scene("people", ticks={"operators": f"SELECT '{name}'"}) for name in STAFF),
    Scene("people", sets=ELSEWHERE),
    Scene("people", ticks={"operators": "SELECT 'bob'"}, chooses={"role.*": "viewer"}, presses="change.role"),
    Scene("people", ticks={"operators": "SELECT 'bob'"}, presses="disable"),
    Scene("people", ticks={"operators": "SELECT 'eve'"}, presses="enable"),
    Scene("sandbox"),
    Scene("sandbox", sandbox=True),
    Scene("sandbox", presses="trouble.0", sandbox=True),
)
