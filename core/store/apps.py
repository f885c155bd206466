"""The keeper of apps: reads the platform's tables, writes only the two token columns and `capi_app`."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Text, bindparam, column, func, literal, null, or_, select
from sqlalchemy.exc import IntegrityError

from core.errors import NotFound, Refused
from core.secret import Secret
from core.store import token_column
from core.store.database import upsert
from core.store.platform import has_column
from core.store.platform_tables import app, app_settings, user
from core.store.schema import capi_app
from core.store.sealing import Unreadable
from core.store.token_column import Held


@dataclass(frozen=True, slots=True)
class App:
    """One installation in a shop: the platform's row and how we treat it.

    `fingerprint` names what it holds, also where that cannot be opened: then `unreadable` says why, and there is no
    `token`. `seen` is the fingerprint that was last seen in its row.
    """

    id: str
    public_id: str
    name: str
    user_id: str
    email: str
    pixel_id: str | None
    pixel_enabled: bool
    token: Secret | None
    expires_at: datetime | None
    test_event_code: str | None
    shop_domain: str | None
    allowed_origins: tuple[str, ...]
    forwarded_names: tuple[str, ...]
    content_id: str
    purchase_topic: str
    value_of: str
    order_channels: tuple[str, ...]
    consent_policy: str
    allow_null_origin: bool
    paused: bool
    seen: str | None
    fingerprint: str | None = None
    unreadable: Unreadable | None = None


def get(conn: Connection, app_id: str) -> App:
    """By `App.id`; NotFound."""
    return _one(conn, app.c.id == app_id, f"app {app_id}")


def find(conn: Connection, name: str) -> App:
    """By the public `appId`, else by `App.id`; NotFound."""
    found = by_public_id(conn, name)
    return found or get(conn, name)


def by_public_id(conn: Connection, public_id: str) -> App | None:
    return next(_read(conn, _apps(conn).where(app.c.appId == public_id)), None)


def by_shop(conn: Connection, domain: str) -> App | None:
    """By our own shop domain, else the platform's `User.storeUrl`, else `User.email`, which once held it."""
    domain = domain.strip().lower()
    ways: list[ColumnElement[bool]] = [func.lower(capi_app.c.shop_domain) == domain]
    if has_column(conn, "User", "storeUrl"):
        store = func.lower(column("storeUrl", _selectable=user))
        ways.append(store.in_((domain, f"https://{domain}", f"https://{domain}/", f"http://{domain}")))
    ways.append(func.lower(user.c.email) == domain)
    for way in ways:
        found = _apps(conn).where(way).order_by(app_settings.c.metaPixelId.is_(None), app.c.id).limit(1)
        if one := next(_read(conn, found), None):
            return one
    return None


def ids_of_shop(conn: Connection, domain: str) -> list[str]:
    """`App.id` of every app of a shop, found as `by_shop` finds one.

    Those that the platform has deleted since are among them: what we hold for them must go all the same.
    """
    ways = [func.lower(user.c.email) == domain]
    if has_column(conn, "User", "storeUrl"):
        store = func.lower(column("storeUrl", _selectable=user))
        ways.append(store.in_((domain, f"https://{domain}", f"https://{domain}/", f"http://{domain}")))
    ours = select(capi_app.c.app_id).where(func.lower(capi_app.c.shop_domain) == domain)
    theirs = (
        select(app.c.id)
        .join(user, user.c.id == app.c.userId)
        .join(capi_app, capi_app.c.app_id == app.c.id, isouter=True)
        .where(capi_app.c.shop_domain.is_(None), or_(*ways))
    )
    return sorted({*conn.scalars(ours), *conn.scalars(theirs)})


def of_ids(conn: Connection, ids: Iterable[str]) -> list[App]:
    return list(_read(conn, _of_ids(_apps(conn)), {"ids": list(ids)}))


def of_user(conn: Connection, user_id: str | None) -> list[App]:
    return list(_read(conn, _apps(conn).where(app.c.userId == user_id).order_by(app.c.id)))


def of_pixel(conn: Connection, pixel_id: str) -> list[App]:
    return list(_read(conn, _apps(conn).where(app_settings.c.metaPixelId == pixel_id)))


def every(conn: Connection) -> list[App]:
    """All apps, for the shell and for the watch over tokens written by others."""
    return list(_read(conn, _apps(conn).order_by(app.c.id)))


def stored_tokens(conn: Connection) -> list[tuple[str, str, Held | None, datetime | None, str | None]]:
    """(App.id, user, what it holds, expiry, fingerprint last seen) of every app: the watch over foreign writes."""
    columns = (app_settings.c.appId, app.c.userId, app_settings.c.metaAccessToken, app_settings.c.metaTokenExpiresAt)
    rows = (
        select(*columns, capi_app.c.fingerprint)
        .join(app, app.c.id == app_settings.c.appId)
        .join(capi_app, capi_app.c.app_id == app_settings.c.appId, isouter=True)
    )
    opened = token_column.Opener(conn)
    return [(row[0], row[1], opened(row[2], row[0], seen=row[4]), row[3], row[4]) for row in conn.execute(rows).all()]


def holders(conn: Connection, fingerprint: str) -> list[App]:
    """Apps that hold this token now; the mirror in `capi_app` finds them, AppSettings decides."""
    mirrored = _apps(conn).where(capi_app.c.fingerprint == fingerprint).order_by(app.c.id)
    return [found for found in _read(conn, mirrored) if found.fingerprint == fingerprint]


def around(conn: Connection, fingerprint: str, user_id: str | None) -> list[App]:
    """All apps of everybody who holds the token by the mirror in `capi_app`, and of this user."""
    holding = app.alias()
    theirs = select(holding.c.userId).join(capi_app, capi_app.c.app_id == holding.c.id)
    users = theirs.where(capi_app.c.fingerprint == fingerprint).union(select(literal(user_id, Text)))
    return list(_read(conn, _apps(conn).where(app.c.userId.in_(users)).order_by(app.c.id)))


def user_id_of(conn: Connection, name: str) -> str:
    """`User.id` by id or e-mail; NotFound."""
    found = conn.scalar(select(user.c.id).where((user.c.id == name) | (user.c.email == name)))
    if found is None:
        raise NotFound(f"there is no user {name}")
    return str(found)


def replace_token(
    conn: Connection, holding: Sequence[App], old: str, new: Secret, *, expires_at: datetime | None
) -> list[str]:
    """Store `new` for each of these apps that still holds the token with fingerprint `old`.

    Compare and swap, row by row in the caller's transaction: an app whose token somebody else
    replaced meanwhile keeps that newer one. Returns the ids of the apps that were written.
    """
    written = []
    for one in holding:
        _, held = token_column.current(conn, one.id, seen=one.seen)
        if held is None or held.fingerprint != old:
            continue
        token_column.write(conn, one.id, new, expires_at=expires_at)
        written.append(one.id)
    for app_id in written:
        mirror(conn, app_id, new.fingerprint)
    return written


def write_token(conn: Connection, app_id: str, token: Secret, *, expires_at: datetime | None) -> None:
    """Store a token for one app, whatever it held; NotFound when the app has no settings."""
    token_column.write(conn, app_id, token, expires_at=expires_at)
    mirror(conn, app_id, token.fingerprint)


def correct_expiry(conn: Connection, holding: Sequence[App], fingerprint: str, expires_at: datetime | None) -> None:
    """Write Meta's own word on the end of this token for those apps that still hold it."""
    for one in holding:
        stored, held = token_column.current(conn, one.id, seen=one.seen)
        if stored is not None and held is not None and held.token is not None and held.fingerprint == fingerprint:
            token_column.write_end(conn, one.id, stored, held.token, expires_at=expires_at)


def mirror(conn: Connection, app_id: str, fingerprint: str | None) -> None:
    """Note which token an app holds, so that its holders can be found by fingerprint."""
    configure(conn, app_id, fingerprint=fingerprint)


def configure(conn: Connection, app_id: str, **values: Any) -> None:
    """Change how we treat an app: shop_domain, allowed_origins, paused_at, …"""
    upsert(conn, capi_app, {"app_id": app_id}, values)


def add(conn: Connection, *, name: str, email: str, shop_domain: str | None, pixel_id: str | None) -> App:
    """A new app with its settings, and its user when the e-mail is new. Refused on a platform that makes its own."""
    ids = {what: uuid.uuid4().hex for what in ("user", "app", "settings", "public")}
    try:
        user_id = conn.scalar(select(user.c.id).where(user.c.email == email))
        if user_id is None:
            user_id = ids["user"]
            conn.execute(user.insert().values(id=user_id, email=email))
        conn.execute(app.insert().values(id=ids["app"], appId=f"app_{ids['public'][:16]}", name=name, userId=user_id))
        values: dict[str, Any] = {"appId": ids["app"], "metaPixelId": pixel_id}
        if has_column(conn, "AppSettings", "id"):
            values["id"] = ids["settings"]
        conn.execute(app_settings.insert().values(values))
    except IntegrityError as error:
        words = str(error.orig).splitlines()[0]
        raise Refused(f"the platform's tables take no app from here ({words}): add it on the platform") from None
    configure(conn, ids["app"], shop_domain=shop_domain.lower() if shop_domain else None)
    return get(conn, ids["app"])


def _apps(conn: Connection) -> Select[Any]:
    optional = "metaPixelEnabled", "metaTestEventCode"
    return _selected(*(has_column(conn, "AppSettings", name) for name in optional))


@cache
def _of_ids(every: Select[Any]) -> Select[Any]:
    return every.where(app.c.id.in_(bindparam("ids", expanding=True)))


@cache
def _selected(has_enabled: bool, has_test_code: bool) -> Select[Any]:
    enabled = app_settings.c.metaPixelEnabled if has_enabled else literal(True)
    test_code = app_settings.c.metaTestEventCode if has_test_code else null()
    return (
        select(
            app.c.id,
            app.c.appId,
            app.c.name,
            app.c.userId,
            user.c.email,
            app_settings.c.metaPixelId,
            app_settings.c.metaAccessToken,
            app_settings.c.metaTokenExpiresAt,
            enabled.label("enabled"),
            test_code.label("test_code"),
            *(c for c in capi_app.c if c.name not in ("app_id", "paused_reason")),
        )
        .join(user, user.c.id == app.c.userId)
        .join(app_settings, app_settings.c.appId == app.c.id, isouter=True)
        .join(capi_app, capi_app.c.app_id == app.c.id, isouter=True)
    )


def _one(conn: Connection, where: ColumnElement[bool], shown: str) -> App:
    found = next(_read(conn, _apps(conn).where(where)), None)
    if found is None:
        raise NotFound(f"there is no {shown}")
    return found


def _read(conn: Connection, wanted: Select[Any], named: dict[str, Any] | None = None) -> Iterator[App]:
    opened = token_column.Opener(conn)
    for row in conn.execute(wanted, named).all():
        yield _app(row, opened(row.metaAccessToken, row.id, seen=row.fingerprint))


def _app(row: Any, held: Held | None) -> App:
    return App(
        id=row.id,
        public_id=row.appId,
        name=row.name,
        user_id=row.userId,
        email=row.email,
        pixel_id=(row.metaPixelId or "").strip() or None,
        pixel_enabled=row.enabled is not False and row.enabled != 0,
        token=held.token if held else None,
        expires_at=row.metaTokenExpiresAt,
        test_event_code=(row.test_code or "").strip() or None,
        shop_domain=row.shop_domain,
        allowed_origins=_words(row.allowed_origins),
        forwarded_names=_words(row.forwarded_names),
        content_id=row.content_id or "variant",
        purchase_topic=row.purchase_topic or "orders/create",
        value_of=row.value_of or "total",
        order_channels=_words(row.order_channels),
        consent_policy=row.consent_policy or "send",
        allow_null_origin=row.allow_null_origin is not False,
        paused=row.paused_at is not None,
        seen=row.fingerprint,
        fingerprint=held.fingerprint if held else None,
        unreadable=held.unreadable if held else None,
    )


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())
