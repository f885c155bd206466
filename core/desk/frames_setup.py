"""Apps and the installation itself as tables for the screen."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from core.desk.accounts import OrderDay
from core.desk.app_list import AppRow
from core.desk.frames import frame_of
from core.desk.keys import KeyRow
from core.desk.system_facts import SettingRow


def apps(rows: Sequence[AppRow]) -> pd.DataFrame:
    return frame_of(
        "Shop, App, State, Owner, Pixel, Token, Consent, Purchase by, Origins, Paused, appId",
        (
            (
                row.shop or "",
                row.app_name,
                _states(row),
                row.email,
                row.pixel_id or "",
                row.fingerprint or "",
                row.consent_policy or "",
                row.purchase_topic or "",
                row.allowed_origins or "any",
                row.paused_at,
                row.public_id,
            )
            for row in rows
        ),
        moments=("Paused",),
    )


def _states(row: AppRow) -> list[str]:
    findings = (("orders missing", row.missing), ("silent", row.silent))
    return [_state(row), *(word for word, so in findings if so)]


def _state(row: AppRow) -> str:
    """The first thing that keeps its events from Meta."""
    if row.paused_at is not None:
        return "paused"
    if not row.pixel_id:
        return "no pixel"
    return "ready" if row.fingerprint else "no token"


def orders(rows: Sequence[OrderDay]) -> pd.DataFrame:
    return frame_of(
        "Day, Orders, At Meta, Kept back, Missing, What became of them",
        (
            (
                f"{row.day:%Y-%m-%d}",
                row.counts.orders,
                row.counts.purchases,
                row.counts.kept_back,
                row.counts.missing,
                row.why,
            )
            for row in rows
        ),
        numbers=("Orders", "At Meta", "Kept back", "Missing"),
    )


def settings(rows: Sequence[SettingRow]) -> pd.DataFrame:
    return frame_of("Setting, Value, From, What it is", ((row.name, row.value, row.source, row.words) for row in rows))


def keys(rows: Sequence[KeyRow]) -> pd.DataFrame:
    return frame_of(
        "Key, State, Tokens, Kept in, Fingerprint",
        ((row.key, row.state, row.tokens, row.source, row.fingerprint) for row in rows),
        numbers=("Tokens",),
    )
