"""Find on the page: the box, what was found, and a thing's story. What others wrote is escaped, never Markdown."""

from __future__ import annotations

from datetime import datetime, timedelta
from html import escape
from typing import Any

import streamlit as st

from core import clock
from core.desk import find, find_shape, find_story
from core.desk.explain import NOBODY
from core.desk.frames import frame_of, said
from core.doors import console
from core.doors import console_rows as paging
from core.doors import console_tables as tables
from core.doors import console_times as times
from core.errors import NotFound

_STATES = {
    "delivered": "#2f9568",
    "accepted": "#2f9568",
    "parked": "#d9a017",
    "due": "#3f82dc",
    "dead": "#c0392b",
    "refused": "#c0392b",
    "skipped": "#8a94a3",
    "paused": "#8a94a3",
}
# what can be typed → an example
_KNOWN = {
    "An order": "#1001, or Shopify's long order id",
    "One shop's order": "#1001 tea.myshopify.com",
    "An event": "its event_id, as the storefront or Events Manager shows it",
    "A request to Meta": "its trace id (fbtrace_id)",
    "A shop": "tea.myshopify.com, or just tea",
    "An app": "its app id, app_…",
    "A pixel": "its id, a number",
}
_SEARCHED = "order numbers and ids, checkouts and carts, event ids, trace ids, pixels, shops and app ids"
_SIGNS = {find_shape.GOOD: "✓", find_shape.BAD: "✕", find_shape.WAIT: "…", find_shape.PLAIN: "·"}
_STYLE = """<style>
.story { width: 100%; border-collapse: collapse; font-size: .93rem }
.story th { text-align: left; font-weight: 600; padding: .2rem .6rem .35rem 0; opacity: .8 }
.story td { vertical-align: top; padding: .5rem .6rem .5rem 0; border-top: 1px solid rgba(128, 136, 150, .28) }
.story td:first-child { white-space: nowrap; width: 10.5rem; font-variant-numeric: tabular-nums }
.story td:last-child { white-space: nowrap; width: 6rem }
.story .what { display: flex; gap: .55rem; overflow-wrap: anywhere }
.story .sign { flex: none; width: 1.15rem; height: 1.15rem; border-radius: 50%; margin-top: .12rem; color: #fff;
  font-size: .72rem; line-height: 1.15rem; text-align: center; font-weight: 700; background: #6b7686 }
.story .good .sign { background: #23794f } .story .bad .sign { background: #c0392b }
.story .wait .sign { background: #9a6f00 }
.story .more { display: block; opacity: .78; font-size: .86rem; margin-top: .12rem }
.story .planned td { font-style: italic }
.story-title { font-size: 1.35rem; font-weight: 650; margin: 0; overflow-wrap: anywhere }
.st-key-stands-good, .st-key-stands-bad, .st-key-stands-wait, .st-key-stands-plain { border-left: 4px solid #8a94a3;
  padding-left: 1rem; margin-bottom: .4rem }
.st-key-stands-good { border-color: #2f9568 } .st-key-stands-bad { border-color: #c0392b }
.st-key-stands-wait { border-color: #d9a017 }
</style>"""


def box() -> str:
    """What was typed. An e-mail address does not stay in the page's address."""
    hint = "Order number, event id, trace id, shop, app id or pixel"
    look: dict[str, Any] = {"type": "search", "placeholder": hint, "width": 640, "label_visibility": "collapsed"}
    typed = st.text_input("Find", key="q", bind="query-params", on_change=_no_people, **look)
    if st.session_state.pop("find.people", False):
        return "@"
    return typed or ""


def _no_people() -> None:
    if "@" in (st.session_state.get("q") or ""):
        st.session_state["q"], st.session_state["find.people"] = "", True


def nothing(found: find.Found) -> None:
    """Why there is nothing to see, and what to do."""
    if found.problem == find.EMAIL:
        st.info(
            "People are not searched here: what is typed stands in the page's address. An owner's address can be"
            " searched on Token health and Apps.",
            icon=":material/person_off:",
        )
    elif found.problem == find.TOO_LONG:
        st.info(f"Nothing is called by more than {find.LONGEST} characters: paste one name or number.")
    elif not found.typed:
        _examples()
    else:
        _not_found(found.typed)


def _examples() -> None:
    st.info("Type or paste what you have in hand: what it is, is found out.", icon=":material/search:")
    width = max(map(len, _KNOWN)) + 2
    st.code("\n".join(f"{what:<{width}}{example}" for what, example in _KNOWN.items()), language=None)
    st.caption("It is looked up exactly. A token's fingerprint or an owner's address: search on Token health.")


def _not_found(typed: str) -> None:
    st.warning("Nothing is called exactly so:", icon=":material/search_off:")
    st.code(typed, language=None, wrap_lines=True)
    kept = console.settings()
    st.markdown(
        f"Searched were {_SEARCHED}.\n\n"
        "What to check next:\n\n"
        "1. Is it spelled as the shop shows it? An order's number, `#1001`, is known only where its webhook or the"
        f" thank-you page told it; events are kept for {kept.keep_event_days} days.\n"
        "2. Type the shop's domain: its story shows requests that came to nothing, and since when it is silent.\n"
        "3. A shop that is not found is not connected, or its domain is missing: see Apps.\n"
        "4. Requests that named no shop we know: `capi-console receipts`."
    )
    with st.container(horizontal=True):
        st.page_link(console.page("apps"), label="See the apps", icon=":material/storefront:")
        st.page_link(console.page("failed-events"), label="See failed events", icon=":material/outbox:")


def choose(found: find.Found) -> find.Hit | None:
    """The one hit, or the one that is chosen among several."""
    if len(found.hits) == 1:
        return found.hits[0]
    more = f", {find.MOST} of each kind at most: add the shop to the number" if found.more else ""
    st.caption(f"{len(found.hits)} things are called so{more}. Choose one to see its story.")
    columns = {
        "What": st.column_config.TextColumn(width=330),
        "Found by": st.column_config.TextColumn(width=110),
        "Shop": st.column_config.TextColumn(width=230),
        "App": st.column_config.TextColumn(width=160),
        "State": tables.badges("State", _STATES, width=100),
        "When": tables.at("When"),
    }
    look = tables.table(len(found.hits), "What was found", columns, most=330)
    hits = {f"{hit.kind}:{hit.key}": hit for hit in found.hits}
    chosen = paging.select_rows("found", _hits(found), list(hits), mode="single-row", **look)
    return hits[chosen[0]] if chosen else None


def _hits(found: find.Found) -> Any:
    return frame_of(
        "What, Found by, Shop, App, State, When",
        (
            (hit.name, said(hit.by), hit.shop or "", hit.app_name or "", [hit.state] if hit.state else [], hit.at)
            for hit in found.hits
        ),
        moments=("When",),
    )


def story(hit: find.Hit) -> None:
    """Where the thing stands and whose move it is, its timeline, its facts, and a text for the merchant."""
    now = clock.now()
    with console.looking() as conn:
        try:
            seen = find_story.story(conn, hit.kind, hit.key, now=now)
        except NotFound as error:
            st.info(str(error), icon=":material/info:")
            return
    st.html(f'{_STYLE}<h2 class="story-title">{escape(seen.title)}</h2>')
    with st.container(key=f"stands-{seen.tone}"):
        st.subheader(seen.now.what)
        calm = seen.now.whose == NOBODY and seen.now.do == "Nothing"
        st.caption("Nothing is to be done." if calm else f"{seen.now.whose}: {seen.now.do}.")
        _links(seen)
    left, right = st.columns([8, 5], gap="large")
    with left:
        st.html(_timeline(seen.lines, now))
    with right:
        width = max(map(len, seen.facts)) + 2
        facts = "\n".join(f"{label:<{width}}{value}" for label, value in seen.facts.items())
        st.code(facts, language=None, wrap_lines=True)
        if seen.merchant:
            st.subheader("Copy for the merchant")
            st.code(seen.merchant, language=None, wrap_lines=True)
            st.caption("Without a person, a token or our insides in it. Times are UTC.")


def _links(seen: find_shape.Story) -> None:
    """Where something can be done about it."""
    with st.container(horizontal=True):
        if seen.view:
            there = {"event": seen.facts["Event id"], "show": seen.view}
            label = "Act on it in Failed events"
            st.page_link(console.page("failed-events"), label=label, icon=":material/outbox:", query_params=there)
        known = seen.facts.get("App id") or seen.facts.get("Token", "").split(" ")[0]
        if known and known != "–":
            where, icon = console.page("tokens"), ":material/key:"
            st.page_link(where, label="See its token", icon=icon, query_params={"token": known})


def _timeline(lines: tuple[find_shape.Line, ...], now: datetime) -> str:
    if not lines:
        return "<p>Nothing happened in this time.</p>"
    rows = "".join(_row(line, now) for line in lines)
    head = "<thead><tr><th scope=col>When</th><th scope=col>What</th><th scope=col>Whose</th></tr></thead>"
    return f'<table class="story" aria-label="What happened, oldest first">{head}<tbody>{rows}</tbody></table>'


def _row(line: find_shape.Line, now: datetime) -> str:
    planned = line.at > now + timedelta(seconds=1)
    more = "".join(f'<span class="more">{escape(one)}</span>' for one in line.detail if one)
    words = f"{'Ahead: ' if planned else ''}{escape(line.what)}"
    return (
        f'<tr class="{line.tone}{" planned" if planned else ""}"><td>{times.when(line.at, seconds=True)}</td>'
        f'<td><div class="what"><span class="sign" aria-hidden="true">{_SIGNS[line.tone]}</span>'
        f"<div>{words}{more}</div></div></td><td>{'–' if line.whose == NOBODY else escape(line.whose)}</td></tr>"
    )
