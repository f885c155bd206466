"""The doctor: one diagnosis of everything that events need, from settings to Meta's answer. It mends nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from core.desk import diagnosis_store as store
from core.desk.operators import Operator
from core.errors import CoreError, NotFound, Refused
from core.logs import redact
from core.meta.graph import Graph
from core.secret import Secret
from core.services import doctor
from core.services.doctor import Check
from core.services.policy import Policy
from core.settings import Settings
from core.store import apps, audit
from core.store.apps import App
from core.store.database import reading, writing

__all__ = ["Check", "check_settings", "diagnose", "failed"]

T = TypeVar("T")
_UNREADABLE = "the database cannot be asked, see above"


def diagnose(
    engine: Engine | None,
    settings: Settings,
    graph: Graph,
    *,
    app: str | None = None,
    test_event_code: str | None = None,
    by: Operator,
    now: datetime,
) -> list[Check]:
    """Every check in the order in which one should look; with `app` (public `appId` or `App.id`) that app's too.

    What cannot be checked says so: nothing is raised but Forbidden, and Refused for a test event without an app or
    with a code that is none. A test event is sent only with a `test_event_code`; it counts like any other event.
    """
    by.must("diagnose")
    if test_event_code is not None:
        doctor.check_test_code(test_event_code)
        if app is None:
            raise Refused("a test event is sent for one app: say which (--app)")
    checks = check_settings(settings)
    checks += [*doctor.meta_app(graph, now=now), doctor.graph_version(settings.graph_version, now=now)]
    usable = False
    if engine is None:
        checks.append(Check("database", None, "it was not opened"))
    else:
        database = store.check_database(engine, now)
        usable = all(check.ok for check in database)
        checks += database
    if engine is not None and usable:
        checks += _inside(engine, settings, now)
    if app is not None:
        checks += _of_app(engine if usable else None, settings, graph, app, test_event_code, by, now)
    return checks


def failed(checks: list[Check]) -> bool:
    return any(check.ok is False for check in checks)


def check_settings(settings: Settings) -> list[Check]:
    """What is set and what is missing. Missing secrets fail; what one can live without warns."""
    needed = {"FACEBOOK_APP_ID": settings.facebook_app_id, "FACEBOOK_APP_SECRET": settings.facebook_app_secret}
    missing = [name for name, value in needed.items() if not value]
    checks = [
        Check("settings", False, f"{' and '.join(missing)} not set", "Put them into the environment or .env")
        if missing
        else Check("settings", True, "app id and app secret are set")
    ]
    optional = (
        ("Shopify's secret", settings.shopify_api_secret, "webhooks are refused", "SHOPIFY_API_SECRET"),
        ("public address", settings.public_url, "reconnect links reach nobody outside", "CAPI_PUBLIC_URL"),
        ("alert addresses", settings.alert_urls, "nobody is told of trouble", "CAPI_ALERT_URLS"),
        ("heartbeat", settings.heartbeat_url, "no monitor notices when everything stops", "CAPI_HEARTBEAT_URL"),
    )
    for name, value, without, setting in optional:
        words = f"{setting} is set" if value else f"{setting} is not set: {without}"
        checks.append(Check(name, True, words, "" if value else f"Set {setting}", warning=not value))
    return checks


def _inside(engine: Engine, settings: Settings, now: datetime) -> list[Check]:
    """What only a database that works can tell."""
    looks: tuple[tuple[str, Callable[[Connection], list[Check]]], ...] = (
        ("encryption", store.check_encryption),
        ("workers", lambda conn: store.check_workers(conn, now)),
        ("due work", lambda conn: store.check_due(conn, now)),
        ("incidents", lambda conn: store.check_incidents(conn, now)),
        ("alert channels", lambda conn: store.check_channels(conn, settings)),
    )
    return [check for name, look in looks for check in _safely(engine, name, look)]


def _safely(engine: Engine, name: str, look: Callable[[Connection], list[Check]]) -> list[Check]:
    try:
        with reading(engine) as conn:
            return look(conn)
    except (SQLAlchemyError, CoreError, OSError) as error:
        return [Check(name, None, f"it could not be checked: {redact(store.first_line(error))}")]


def _of_app(
    engine: Engine | None,
    settings: Settings,
    graph: Graph,
    name: str,
    test_event_code: str | None,
    by: Operator,
    now: datetime,
) -> list[Check]:
    if engine is None:
        return [Check("app", None, _UNREADABLE)]
    policy = Policy.of(settings)
    try:
        with reading(engine) as conn:
            app = apps.find(conn, name)
            checks = store.check_app(conn, app, policy=policy, now=now)
    except NotFound as error:
        return [Check("app", False, str(error), "`capi-console app list` names them all")]
    except (SQLAlchemyError, CoreError) as error:
        return [Check("app", None, f"it could not be read: {redact(store.first_line(error))}")]
    if app.token is None:
        return [*checks, Check("token at Meta", None, "there is none"), Check("pixel", None, "there is no token")]
    asked = doctor.token(graph, app.token, policy)
    checks += asked.checks
    if asked.facts is not None and not asked.facts.is_valid:
        return [*checks, Check("pixel", None, "Meta does not take the token")]
    checks.append(doctor.pixel(graph, app.pixel_id, app.token, ours=asked.ours))
    if test_event_code is not None:
        checks.append(_test_event(engine, graph, app, app.token, test_event_code, ours=asked.ours, by=by, now=now))
    return checks


def _test_event(
    engine: Engine, graph: Graph, app: App, token: Secret, code: str, *, ours: bool, by: Operator, now: datetime
) -> Check:
    if app.pixel_id is None:
        return Check("test event", None, "the app has no pixel")
    with writing(engine) as conn:
        subject = f"test event for {app.public_id}, pixel {app.pixel_id}"
        audit.write(conn, by=by.name, action="diagnose", subject=subject, count=1, reason=code, now=now)
    return doctor.test_event(graph, app.pixel_id, token, code, ours=ours, now=now)
