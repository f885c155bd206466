"""An app on its page: connected, set up, paused. What was typed for one app never stands in another's form."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from core import clock
from core.desk import app_options, commands
from core.desk.app_list import AppRow
from core.desk.operators import Operator
from core.doors import console, console_account, console_drawers, console_paste
from core.doors import console_orders as orders
from core.doors import console_times as times
from core.errors import CoreError
from core.store import apps
from core.store.apps import App

# option → its label, and what stands below it
_TEXTS = {
    "shop_domain": ("Shop domain", "Its webhooks are known by it: tea.myshopify.com"),
    "allowed_origins": ("Allowed origins", "Hosts whose pages may report, comma separated; empty: any page"),
    "forwarded_names": ("Events of its own", "Names that Meta shall hear, comma separated"),
    "order_channels": ("Sales channels beside web", "Shopify's source names, such as pos, comma separated"),
}
_CHOICES = {
    "content_id": ("Content id", app_options.CONTENT_IDS, "What the product catalogue at Meta is keyed by"),
    "purchase_topic": ("A purchase is", app_options.PURCHASE_TOPICS, "The webhook that reports it"),
    "value_of": ("Its value is the", app_options.VALUES, "Total with shipping and tax, or without, or as shown"),
    "consent_policy": ("Without consent asked", app_options.CONSENT, "Send, limit (LDU), or keep back"),
}


def connect(operator: Operator) -> None:
    """A new app: who, which shop, which pixel. Its token comes next, in the app's own form."""
    with st.expander("Connect an app", icon=":material/add_link:"), st.form("connect", border=False):
        left, right = st.columns(2)
        left.text_input("Name", key="new.name", max_chars=200, placeholder="Tea House")
        right.text_input("Merchant's e-mail", key="new.email", max_chars=200, placeholder="anna@tea.example")
        left.text_input("Shop domain", key="new.shop_domain", max_chars=253, placeholder="tea.myshopify.com")
        right.text_input("Pixel", key="new.pixel", max_chars=40, placeholder="Its id, a number, from Events Manager")
        st.form_submit_button(
            "Connect", type="primary", disabled=not operator.may("add_app"), on_click=_connect, args=(operator,)
        )
        st.caption("Its token is asked for once it stands in the list. On a platform, apps come from there.")


def _connect(operator: Operator) -> None:
    state = st.session_state
    given = {name: str(state.get(f"new.{name}") or "").strip() for name in ("name", "email", "shop_domain", "pixel")}
    try:
        added = commands.add_app(
            console.engine(),
            name=given["name"],
            email=given["email"],
            shop_domain=given["shop_domain"],
            pixel_id=given["pixel"],
            by=operator,
            now=clock.now(),
        )
    except CoreError as error:
        state["notice"] = ("refused", str(error))
        return
    for name in given:
        state[f"new.{name}"] = ""
    state["app"] = added.public_id
    state["notice"] = ("ordered", f"{added.name} is connected as {added.public_id}: give it a token next")


def drawer(row: AppRow, operator: Operator) -> None:
    """How its events are taken, and what can be done about it."""
    with console.looking() as conn:
        app = apps.get(conn, row.app_id)
    with st.container(border=True, key="drawer"):
        st.subheader("Paused" if app.paused else "Events are taken")
        console_drawers.find(row.public_id)
        st.code("\n".join(_facts(row, app)), language=None, wrap_lines=True)
        if row.paused_at is not None:
            times.caption(f"Paused since {times.when(row.paused_at)}")
        if app.test_event_code:
            st.warning(
                "A test event code is set on the platform: Meta shows this app's events under Test events, and "
                "counts them all the same. Take it away when the test is over.",
                icon=":material/science:",
            )
        with st.container(horizontal=True, vertical_alignment="center"):
            _pause(app, operator)
            st.page_link(
                console.page("tokens"),
                label="Its token, and a diagnosis",
                icon=":material/key:",
                query_params={"token": app.public_id},
            )
        console_account.orders(row)
        _settings(app, operator)
        console_paste.form(row, operator)


def _facts(row: AppRow, app: App) -> list[str]:
    lines = [
        f"App      {app.name}",
        f"appId    {app.public_id}",
        f"Owner    {app.email}",
        f"Pixel    {app.pixel_id or 'none: nothing can be sent'}{'' if app.pixel_enabled else ', switched off'}",
        f"Token    {app.fingerprint or 'none'}",
    ]
    if row.paused_at is not None:
        lines.append(f"Paused   {row.paused_reason or 'no reason given'}")
    return lines


def _pause(app: App, operator: Operator) -> None:
    verb = "Resume" if app.paused else "Pause"
    if not st.button(verb, key="pause", disabled=not operator.may("set_app")):
        return
    means = "Its events are taken again from now on." if app.paused else "Its events are skipped until you resume it."
    orders.confirm(
        f"{verb} this app?",
        [f"{means} What was taken before goes its way."],
        _order(app, operator, paused=not app.paused),
        done="The app is paused" if not app.paused else "The app is resumed",
        plain=app.name,
        yes=f"Yes, {verb.lower()} it",
    )


def _order(app: App, operator: Operator, *, paused: bool) -> Callable[[str], object]:
    def order(why: str) -> object:
        return app_options.set_app(
            console.engine(), app.id, {}, paused=paused, reason=why or None, by=operator, now=clock.now()
        )

    return order


def _settings(app: App, operator: Operator) -> None:
    may = operator.may("set_app")
    with (
        st.expander("How its events are taken", icon=":material/tune:"),
        st.form(f"settings.{app.id}", border=False),
    ):
        columns = st.columns(2)
        for number, (name, (label, hint)) in enumerate(_TEXTS.items()):
            columns[number % 2].text_input(
                label, _text(app, name), key=_key(app, name), placeholder=hint, help=hint, disabled=not may
            )
        for number, (name, (label, words, hint)) in enumerate(_CHOICES.items()):
            at = words.index(_text(app, name))
            columns[number % 2].selectbox(label, words, at, key=_key(app, name), help=hint, disabled=not may)
        st.checkbox(
            "Take calls of sandboxed pages (Origin: null), as Shopify's web pixels send them",
            app.allow_null_origin,
            key=_key(app, "allow_null_origin"),
            disabled=not may,
        )
        st.text_input("Reason", key=_key(app, "reason"), placeholder="Stands in the audit trail", max_chars=200)
        st.form_submit_button("Save", type="primary", disabled=not may, on_click=_save, args=(app, operator))


def _key(app: App, name: str) -> str:
    return f"set_{name}.{app.id}"


def _text(app: App, name: str) -> str:
    value = getattr(app, name)
    return ", ".join(value) if isinstance(value, tuple) else value or ""


def _save(app: App, operator: Operator) -> None:
    """Only what was changed is written, so that two operators do not undo each other's work."""
    state = st.session_state
    typed = {name: str(state.get(_key(app, name)) or "") for name in (*_TEXTS, *_CHOICES)}
    changed = {name: text for name, text in typed.items() if text != _text(app, name)}
    null = bool(state.get(_key(app, "allow_null_origin")))
    try:
        app_options.set_app(
            console.engine(),
            app.id,
            changed,
            allow_null_origin=null if null != app.allow_null_origin else None,
            reason=state.get(_key(app, "reason")) or None,
            by=operator,
            now=clock.now(),
        )
    except CoreError as error:
        state["notice"] = ("refused", str(error))
        return
    state["notice"] = ("ordered", "Saved: it holds for events that come in from now on, within a minute")
