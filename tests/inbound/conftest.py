from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from core.store.apps import App

_APP = App(
    id="a1",
    public_id="app_public",
    name="Lantern & Loom",
    user_id="u1",
    email="shop@example.com",
    pixel_id="1001",
    pixel_enabled=True,
    token=None,
    expires_at=None,
    test_event_code=None,
    shop_domain=None,
    allowed_origins=(),
    forwarded_names=(),
    content_id="variant",
    purchase_topic="orders/create",
    value_of="total",
    order_channels=(),
    consent_policy="send",
    allow_null_origin=True,
    paused=False,
    seen=None,
)


@pytest.fixture
def an_app() -> Callable[..., App]:
    def make(**changes: Any) -> App:
        return dataclasses.replace(_APP, **changes)

    return make
