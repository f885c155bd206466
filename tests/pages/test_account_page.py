"""The first page names what is out of balance; an app's page says which orders Meta lacks, and why it is silent."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from sqlalchemy import Engine, delete, insert, select

from core import clock
from core.meta.events import encode
from core.services import accounts, alerts
from core.services.policy import Policy
from core.store import acceptance, ledger, rhythms
from core.store.acceptance import NewEvent
from core.store.database import writing
from core.store.schema import capi_event, capi_outbox, capi_rhythm
from core.store.schema_ledger import capi_ledger
from tests.pages.conftest import Opens
from tests.services.alerting import DAY, HOUR, MINUTE, many_apps


@pytest.fixture
def now() -> datetime:
    return clock.now()


def purchases(engine: Engine, count: int, now: datetime) -> None:
    at = ledger.day_of(now - 6 * HOUR) - DAY + HOUR
    one = NewEvent("a0", "0", "Purchase", "", "orders/create", at, at + 7 * DAY, encode({}))
    with writing(engine) as conn:
        acceptance.accept(conn, [replace(one, event_id=f"p{n}", order_id=f"#{n}") for n in range(count)], now=at)


def test_a_shop_that_misses_orders_and_is_silent(store: Engine, opens: Opens, now: datetime) -> None:
    many_apps(store, 2, now=now)
    purchases(store, 12, now)
    last = now - 5 * HOUR
    with writing(store) as conn:
        ledger.fold(conn)
        conn.execute(capi_rhythm.delete())
        heard = [last - n * 10 * MINUTE for n in range(6 * 24 * 22)]
        rhythms.hear(conn, {("a0", "track"): sorted(heard)})
    accounts.keep(store, Policy(), now=now)
    alerts.scan(store, Policy(), now=now, kinds=alerts.SLOW)
    at = opens("overview")
    said = " ".join(one.value for one in at.markdown)
    assert "Orders missing at Meta: **1 shop**" in said
    assert "Silent against its habit: **1 shop**" in said
    assert not [one for one in at.text if "in no account" in one.value]

    at = opens("apps", show="orders missing")
    assert [list(words) for words in at.dataframe[0].value["State"]] == [["ready", "orders missing", "silent"]]
    at.session_state[at.dataframe[0].key] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    at.run()
    assert not at.exception
    orders = next(frame.value for frame in at.dataframe if "At Meta" in frame.value)
    assert orders[["Orders", "At Meta", "Missing"]].to_numpy().tolist() == [[12, 0, 12]]
    assert orders["What became of them"].tolist() == ["12 wait: on their way"]
    told = " ".join(one.value for one in at.text)
    assert f"no storefront calls since {last:%Y-%m-%d %H:%M} UTC" in told
    assert "the shop is quiet or closed" in told


def test_what_is_out_of_balance_stands_on_the_first_page_with_app_and_day(
    store: Engine, opens: Opens, now: datetime
) -> None:
    many_apps(store, 1, now=now)
    purchases(store, 2, now)
    with writing(store) as conn:
        gone = conn.scalar(select(capi_event.c.id).limit(1))
        conn.execute(delete(capi_outbox).where(capi_outbox.c.id == gone))
        conn.execute(delete(capi_event).where(capi_event.c.id == gone))
    accounts.keep(store, Policy(), now=now)
    at = opens("overview")
    day = ledger.day_of(now - 6 * HOUR) - DAY
    assert f"Shop 0, {day:%Y-%m-%d}: 1 event came in and stands in no account" in [one.value for one in at.text]
    assert not [one for one in at.caption if "capi-console ledger" in one.value]
    with writing(store) as conn:
        others = [{"app_id": f"b{n}", "day": day, "off": 1} for n in range(25)]
        conn.execute(insert(capi_ledger), others)
    at = opens("overview")
    assert len([one for one in at.text if "in no account" in one.value]) == 20
    assert "And 6 more: capi-console ledger" in [one.value for one in at.caption]
