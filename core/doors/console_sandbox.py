"""What the stand-in for Meta has heard, and trouble ordered of it for practice: over HTTP, by its control paths below
`/_sandbox/`."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import requests
import streamlit as st

from core.clock import from_unix
from core.doors import console
from core.errors import SettingsError
from core.hosts import is_loopback

SHOWN_EVENTS = 200
# As many as the stand-in itself keeps.
COUNTED_EVENTS = 100_000
_TIMEOUT = 2.0

# How a token dies → Meta's subcode; None: its time is over.
DEATHS: dict[str, int | None] = {
    "Its time is over (463)": None,
    "The password was changed (460)": 460,
    "The merchant removed our app (458)": 458,
    "The merchant must pass a check at facebook.com (459)": 459,
    "The session is no longer valid (467)": 467,
    "The session is in doubt (452)": 452,
    "No role on the page any more (492)": 492,
}
_PROOF = {"code": 100, "message": "Invalid appsecret_proof provided in the API argument"}
_CALLER = {"code": 190, "message": "Invalid OAuth access token signature."}
# Trouble for everybody → what the stand-in is to do, by kind of call.
TROUBLES: dict[str, tuple[dict[str, Any], ...]] = {
    "Meta is away": ({"path": "any", "kind": "html_502"},),
    "Our app secret is wrong": (
        {"path": "exchange", "kind": "error", "error": {"code": 1, "message": "Error validating client secret."}},
        {"path": "debug", "kind": "error", "error": _CALLER},
        {"path": "events", "kind": "error", "error": _PROOF},
        {"path": "pixel", "kind": "error", "error": _PROOF},
    ),
    "Meta limits our app": ({"path": "any", "kind": "rate_4_403", "minutes": 1},),
}


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard so far. `calls` and `refused` by kind of call; `events` newest first, as a table's columns."""

    calls: Mapping[str, int]
    refused: Mapping[str, int]
    accepted: int
    duplicates: int
    events: dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Played:
    """A token that the stand-in knows. `dead`: the subcode it died of; `ends_at`: None for never."""

    fingerprint: str
    dead: int | None
    ends_at: datetime | None


def here() -> bool:
    """Whether Meta is played on this machine: never with Meta's own address."""
    try:
        return is_loopback(urlsplit(console.settings().graph_url).hostname or "")
    except SettingsError:
        return False


def heard() -> Heard | None:
    """What the stand-in has heard; None when nobody answers as it would."""
    listener = _listener(console.settings().graph_url)
    try:
        return listener.ask()
    except (requests.RequestException, KeyError, TypeError, ValueError):
        return None


def tokens() -> list[Played] | None:
    """Every token that the stand-in knows; None when nobody answers as it would."""
    try:
        found = _ask("GET", "tokens")["tokens"]
        return [
            Played(one["fingerprint"], one["dead"], from_unix(one["expires_at"]) if one["expires_at"] else None)
            for one in found
        ]
    except (requests.RequestException, KeyError, TypeError, ValueError):
        return None


def troubles() -> list[str]:
    """What is ordered just now, as `kind on path`."""
    try:
        return [f"{one['kind']} on {one['path']} calls" for one in _ask("GET", "stats")["faults"]]
    except (requests.RequestException, KeyError, TypeError, ValueError):
        return []


def let_die(fingerprint: str, death: str) -> bool:
    """A token dies one of DEATHS; whether the stand-in did so."""
    subcode = DEATHS[death]
    path = f"tokens/{fingerprint}/{'expire' if subcode is None else 'kill'}"
    return _order("POST", path, {} if subcode is None else {"subcode": subcode})


def order(trouble: str) -> bool:
    """One of TROUBLES, until `calm`."""
    return all(_order("POST", "faults", fault) for fault in TROUBLES[trouble])


def calm() -> bool:
    """All trouble is over; dead tokens stay dead."""
    return _order("DELETE", "faults")


def _order(method: str, path: str, body: dict[str, Any] | None = None) -> bool:
    try:
        _ask(method, path, body)
    except (requests.RequestException, ValueError):
        return False
    return True


def _ask(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One control call, only ever to this machine."""
    if not here():
        raise ValueError("there is no sandbox")
    with requests.Session() as session:
        session.trust_env = False
        url = f"{console.settings().graph_url.rstrip('/')}/_sandbox/{path}"
        answer = session.request(method, url, json=body, timeout=_TIMEOUT)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


class Listener:
    """Reads on from the last event it knows, so that a look costs what is new; shared by all tabs."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._lock = threading.Lock()
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy stands before this machine
        self._forget()

    def ask(self) -> Heard:
        """A fresh look. requests.RequestException when nobody answers; KeyError, TypeError, ValueError when it is
        somebody else who does."""
        with self._lock:
            stats = self._get("stats")
            self._read_on()
            refused: Counter[str] = Counter()
            for name, count in stats["refusals"].items():
                refused[name.partition(" ")[0]] += count
            duplicates = len(self._keys) - len(self._times)
            return Heard(dict(stats["calls"]), refused, self._total, duplicates, _columns(self._recent))

    def _forget(self) -> None:
        self._total = 0
        self._last: dict[str, Any] | None = None
        self._recent: deque[dict[str, Any]] = deque(maxlen=SHOWN_EVENTS)
        self._keys: deque[Hashable] = deque()
        self._times: Counter[Hashable] = Counter()

    def _read_on(self) -> None:
        """Asks for the last known event once more: where it is not what comes first, the stand-in began anew."""
        answer = self._get("events", since=self._last["seq"] - 1 if self._last else 0)
        events = answer["events"]
        if self._last and events[:1] != [self._last]:
            self._forget()
            answer = self._get("events", since=0)
            events = answer["events"]
        elif self._last:
            events = events[1:]
        for event in events:
            self._note(event)
        self._total = int(answer["total"])

    def _note(self, event: dict[str, Any]) -> None:
        # Without an id Meta takes every event for another one.
        key = (event["pixel"], event["event_name"], event["event_id"] or event["seq"])
        self._last = event
        self._recent.appendleft(event)
        self._keys.append(key)
        self._times[key] += 1
        if len(self._keys) > COUNTED_EVENTS:
            oldest = self._keys.popleft()
            self._times[oldest] -= 1
            if not self._times[oldest]:
                del self._times[oldest]

    def _get(self, path: str, **query: int) -> dict[str, Any]:
        answer = self._session.get(f"{self._url}/_sandbox/{path}", params=query, timeout=_TIMEOUT)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body


@st.cache_resource(show_spinner=False)
def _listener(url: str) -> Listener:
    return Listener(url)


def _columns(events: deque[dict[str, Any]]) -> dict[str, list[Any]]:
    moments: list[datetime] = [from_unix(event["at"]) for event in events]
    names = {"Pixel": "pixel", "Event": "event_name", "Event id": "event_id", "Token": "token"}
    return {"At": moments} | {title: [event[name] for event in events] for title, name in names.items()}
