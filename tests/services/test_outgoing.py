"""Alerts and the heartbeat reach public addresses only, unless private ones are allowed (S7)."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import requests

from core.desk import alerts
from core.desk.operators import Operator
from core.errors import Forbidden, Refused
from core.services.channels import open_channels
from core.services.heartbeat import Heartbeat
from core.services.outgoing import PrivateAddress, is_public, public_only
from core.store import audit
from core.store.database import reading
from tests.processes import free_port
from tests.services.alerting import MailServer, Receiver, a_receiver, channels_for, settings_for


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with a_receiver() as receiver:
        yield receiver


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("2002:7f00:1::", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::808:808", True),
        ("64:ff9b:1::7f00:1", False),
        ("64:ff9b:1:ffff::808:808", False),
        ("fec0::1", False),
        ("feff::1", False),
        ("::127.0.0.1", False),
        ("::8.8.8.8", False),
        ("/run/docker.sock", False),
    ],
)
def test_which_addresses_anybody_may_reach(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_an_alert_does_not_reach_a_private_address(hook: Receiver) -> None:
    for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0"):
        (channel,) = channels_for(f"json://{host}:{hook.port}/x", private=False)
        error = channel.send("a", "b", good=False)
        assert error is not None
        assert "a private address: set CAPI_ALLOW_PRIVATE_URLS=true" in error
    assert hook.paths == []
    assert channels_for(hook.address)[0].send("a", "b", good=False) is None


def test_nor_by_a_name_that_is_public_when_asked_and_private_when_connected(
    hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first answer is for the check, the second for the connection."""
    answers = iter(["8.8.8.8", "127.0.0.1", "127.0.0.1"])
    resolve = socket.getaddrinfo

    def rebind(host: Any, *args: Any, **kwargs: Any) -> Any:
        return resolve(next(answers) if host == "rebind.example" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebind)
    (channel,) = channels_for(f"json://rebind.example:{hook.port}/x", private=False)
    error = channel.send("a", "b", good=False)
    assert error == (
        "it leads to 127.0.0.1, which is a private address: set CAPI_ALLOW_PRIVATE_URLS=true if it is meant to"
    )
    assert hook.paths == []


def test_nor_by_mail_nor_by_a_redirect(hook: Receiver) -> None:
    with MailServer() as mail:
        (channel,) = channels_for(mail.address, private=False)
        assert "127.0.0.1, which is a private address" in str(channel.send("a", "b", good=False))
        assert mail.mails == []
    with a_receiver() as other:
        hook.status, hook.location = 307, f"http://127.0.0.1:{other.port}/taken"
        for address in (hook.address, f"{hook.address}?redirect=yes"):
            assert "it answered 307" in str(channels_for(address)[0].send("a", "b", good=False))
        assert other.paths == []


def test_the_guard_ends_with_its_block(hook: Receiver) -> None:
    with public_only(allow_private=False) as refused, pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{hook.port}/", timeout=2)
    assert refused == ["127.0.0.1"]
    with public_only(allow_private=False), socket.socket() as plain, pytest.raises(PrivateAddress):
        plain.connect(("127.0.0.1", hook.port))
    assert requests.get(f"http://127.0.0.1:{hook.port}/", timeout=2).status_code == 200


def test_tls_is_verified_and_cannot_be_switched_off() -> None:
    (off, on) = channels_for("jsons://hook.example.com/x?verify=no", "jsons://hook.example.com/x")
    assert off.problem == "verify=no is not served: use a certificate that can be verified"
    assert on.problem is None
    assert on.service.verify_certificate


def test_titles_hold_no_secret_and_optional_does_not_hide_a_failure() -> None:
    slack = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops"
    found = channels_for(
        slack, "mailtos://ann:pw@gmail.com?to=ops@example.com", "jsons://hook.example.com/x?optional=yes"
    )
    assert [one.title for one in found] == ["slack", "mailtos smtp.gmail.com", "jsons hook.example.com"]
    assert all(one.problem is None for one in found)
    assert not found[2].service.optional


# The heartbeat.


def test_the_heartbeat_is_a_get_that_follows_nothing(hook: Receiver) -> None:
    beat = Heartbeat(f"http://127.0.0.1:{hook.port}/ping/4711-secret?k=v", allow_private=True)
    assert beat.beat() is None
    assert hook.paths == ["/ping/4711-secret?k=v"]
    hook.status, hook.location = 302, "/elsewhere"
    assert beat.beat() == "it answered 302"
    assert len(hook.paths) == 2


def test_a_monitor_that_is_away_is_one_line_for_each_change_without_its_address(
    hook: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    beat = Heartbeat(f"http://127.0.0.1:{hook.port}/ping/4711-secret", allow_private=True)
    for status in (200, 503, 503, 503, 200, 200):
        hook.status = status
        beat.beat()
    said = [record.getMessage() for record in caplog.records if record.name == "heartbeat"]
    assert said == ["the heartbeat does not reach its monitor", "the heartbeat reaches its monitor again"]
    away = Heartbeat(f"http://127.0.0.1:{free_port()}/ping/4711-secret", allow_private=True)
    assert away.beat() == "ConnectionError"
    assert all("4711-secret" not in str(vars(record)) for record in caplog.records if record.name == "heartbeat")


def test_the_heartbeat_does_not_reach_a_private_address_nor_use_a_proxy(
    hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{hook.port}/ping"
    assert "CAPI_ALLOW_PRIVATE_URLS" in str(Heartbeat(url, allow_private=False).beat())
    assert hook.paths == []
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    assert Heartbeat(url, allow_private=True).beat() is None


# The command behind `capi-console alerts test` and the console's button.

SUPPORT = Operator("ann", "support")


def test_a_test_message_goes_to_every_channel_and_is_audited(sqlite_engine: Any, now: datetime, hook: Receiver) -> None:
    with MailServer() as mail:
        settings = settings_for(mail.address, hook.address, "mailtoo://x")
        results = alerts.test_alerts(sqlite_engine, settings, by=SUPPORT, now=now)
        assert [(title, error is None) for title, error in results] == [
            ("mailto 127.0.0.1", True),
            ("json 127.0.0.1", True),
            ("mailtoo", False),
        ]
        (message,) = mail.mails
    assert message["subject"] == "capi-console: a test"
    assert "sent by ann at 2026-11-23 12:00 UTC" in message.get_content()
    with reading(sqlite_engine) as conn:
        assert audit.first_broken(conn) is None
        assert conn.exec_driver_sql('SELECT "by", action, count FROM capi_audit').all() == [("ann", "test_alerts", 3)]


def test_a_test_needs_an_address_and_a_role(sqlite_engine: Any, now: datetime) -> None:
    with pytest.raises(Refused, match="CAPI_ALERT_URLS"):
        alerts.test_alerts(sqlite_engine, settings_for(), by=SUPPORT, now=now)
    with pytest.raises(Forbidden):
        alerts.test_alerts(sqlite_engine, settings_for("json://x"), by=Operator("eve", "viewer"), now=now)


def test_without_an_address_nothing_is_loaded() -> None:
    assert open_channels(settings_for()) == []
