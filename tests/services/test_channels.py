"""An alert address is a secret as a whole: why a message failed is told in our own words, and logs keep quiet (S1)."""

from __future__ import annotations

import errno
import itertools
import logging
import smtplib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import pytest
import requests
from sqlalchemy import Engine

from core import logs
from core.services import mishaps
from core.services.channels import open_channels
from core.services.heartbeat import Heartbeat
from core.store import channels as keeper
from core.store.database import reading
from tests.processes import free_port
from tests.services.alerting import (
    MailServer,
    a_receiver,
    break_tokens,
    channels_for,
    many_apps,
    scan_and_tell,
    settings_for,
)

# Spellings that libraries change on the way: quoted, unquoted, one path made of two, in lower case.
ADDRESSES = (
    "json://user:CANARYpw+12@127.0.0.1:{port}/CANARYp+ath9~x/b",
    "json://127.0.0.1:{port}/CANARY%2Bone%20two",
    "json://127.0.0.1:{port}/hook?-k=CAN5y",
    "json://127.0.0.1:{port}/x?-token=CANARYqq%2Bqq1",
    "jsons://127.0.0.1:{port}/CANARY/words",
    "rocket://CANARYweb1/CANARYhook2@127.0.0.1:{port}/#general",
    "mmost://127.0.0.1:{port}/CANARYtoken12345678",
    "form://127.0.0.1:{port}/a/CANARYpath12?method=GET",
)


@contextmanager
def hanging_up() -> Iterator[int]:
    """A port that takes connections and closes them: one when it has heard all, the next with a reset."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for number in itertools.count():
                try:
                    taken, _ = server.accept()
                except OSError:
                    return
                taken.settimeout(0.3)
                with suppress(TimeoutError, ConnectionError):
                    while taken.recv(65_536):
                        pass
                if number % 2:
                    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                taken.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@contextmanager
def debug_log() -> Iterator[None]:
    logs.setup("DEBUG")
    try:
        yield
    finally:
        logging.getLogger().handlers.clear()
        logging.getLogger().setLevel(logging.WARNING)


def test_no_part_of_an_address_is_in_an_error_or_a_log_line_however_it_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with debug_log(), a_receiver() as hook, hanging_up() as port:
        hook.status = 500
        to = [one.format(port=port) for port in (hook.port, port, free_port()) for one in ADDRESSES]
        said = [channel.send("a", "b", good=False) for channel in channels_for(*to)]
        hook.status = 200
        said += [channel.send("a", "b", good=True) for channel in channels_for(ADDRESSES[0].format(port=hook.port))]
        heard = capsys.readouterr().err
        requests.get(f"http://127.0.0.1:{hook.port}/plain", timeout=5)
    assert set(said) == {
        "it answered 500 (Internal Server Error)",
        "TLS could not be set up",
        "the connection broke",
        "Connection reset by peer",
        "Connection refused",
        None,
    }
    assert "CAN" not in heard
    assert "/plain" in capsys.readouterr().err, "afterwards others are heard again"


def test_nor_in_the_database(sqlite_engine: Engine, now: datetime, capsys: pytest.CaptureFixture[str]) -> None:
    (token,) = many_apps(sqlite_engine, 1, now=now)
    break_tokens(sqlite_engine, [token], now=now)
    with MailServer(password="another") as mail, a_receiver() as hook:
        hook.status = 403
        channels = channels_for(
            f"mailto://mallory:CANARYpass1@127.0.0.1:{mail.port}?from=capi@example.com&to=t@example.com&mode=insecure",
            f"jsons://127.0.0.1:{hook.port}/CANARY/words",
            f"json://127.0.0.1:{hook.port}/CANARY%2Bone%20two",
        )
        with debug_log():
            scan_and_tell(sqlite_engine, channels, now)
    with reading(sqlite_engine) as conn:
        rows = keeper.every(conn)
    assert {row.title: row.error for row in rows} == {
        "mailto 127.0.0.1": "the mail server answered 535: login refused",
        "jsons 127.0.0.1": "TLS could not be set up",
        "json 127.0.0.1": "it answered 403 (Forbidden)",
    }
    told = capsys.readouterr().err
    assert told.count("a channel does not take alerts") == 3
    assert "CANARY" not in told + str(rows) + str(channels)
    assert not mail.mails


def test_the_heartbeat_keeps_its_address_as_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with debug_log(), a_receiver() as hook:
        assert Heartbeat(f"http://127.0.0.1:{hook.port}/p/CAN%41RY", allow_private=True).beat() is None
    assert hook.paths
    assert "/p/" not in capsys.readouterr().err


def _certificate(code: int) -> BaseException:
    error = ssl.SSLCertVerificationError(1, "hostname CANARY does not match")
    error.verify_code = code
    return error


def _wrapped(inner: BaseException) -> BaseException:
    """As requests and urllib3 do it."""
    outer = requests.ConnectionError(ValueError("Max retries exceeded with url: /CANARY"))
    outer.args[0].reason = inner
    return outer


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (_certificate(18), "the TLS certificate could not be verified: it is signed by itself"),
        (_wrapped(_certificate(62)), "the TLS certificate could not be verified: it is for another host"),
        (_certificate(9999), "the TLS certificate could not be verified"),
        (_wrapped(ssl.SSLError(1, "CANARY")), "TLS could not be set up"),
        (_wrapped(ConnectionRefusedError(errno.ECONNREFUSED, "CANARY")), "Connection refused"),
        (_wrapped(socket.gaierror(-2, "CANARY")), "the host's name could not be resolved"),
        (_wrapped(TimeoutError("CANARY")), "no answer within the time limit"),
        (requests.ReadTimeout("CANARY"), "no answer within the time limit"),
        (requests.exceptions.ProxyError("CANARY"), "the proxy could not be used"),
        (requests.ConnectionError("CANARY"), "the connection broke"),
        (smtplib.SMTPAuthenticationError(535, b"CANARY"), "the mail server answered 535: login refused"),
        (smtplib.SMTPDataError(554, b"CANARY"), "the mail server answered 554"),
        (
            smtplib.SMTPRecipientsRefused({"CANARY": (550, b"CANARY"), "b": (450, b"CANARY")}),
            "the mail server refused the recipients (450, 550)",
        ),
        (smtplib.SMTPServerDisconnected("CANARY"), "the mail server hung up"),
        (smtplib.SMTPNotSupportedError("CANARY"), "the mail server does not offer what the address asks for"),
        (KeyError("CANARY"), "KeyError"),
        (OSError("CANARY"), "OSError"),
    ],
)
def test_what_went_wrong_is_told_without_a_word_of_the_library(error: BaseException, words: str) -> None:
    assert mishaps.explain(error) == words


def test_of_a_logged_answer_only_the_status_is_kept() -> None:
    said = mishaps.status_in("Failed to send JSON POST notification to CANARY: Overloaded, error=503.")
    assert said == "it answered 503 (Service Unavailable)"
    assert mishaps.status_in("Failed to send CANARY; error=1234 CANARY") is None
    assert mishaps.answered(599) == "it answered 599"
    assert mishaps.answered(200) == "it answered 200 and did not take the message"


def test_words_of_an_address_stay_in_the_log_and_tokens_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_known", set())
    open_channels(
        settings_for(
            "json://hooks.example.com/capi/expired",
            "json://hooks.example.com/api/v1/track/expiring?-kind=refreshing",
            "mailtos://support:password@smtp.example.com?from=anna1234@b.example&to=tokens@d.example",
            "ntfys://12345678/alerts",
            "json://someone:p%40ssword77@hooks.example.com/services/T0AAAAAA/deadbeef?-key=querysecret9",
            "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        )
    )
    line = "support: token of app 12345678 expired or expiring, refreshing; POST /api/v1/track by anna1234@b.example"
    assert logs.redact(line) == line
    for secret in ("p@ssword77", "p%40ssword77", "services/T0AAAAAA/deadbeef", "querysecret9", "T1JJ3T3L2"):
        assert secret not in logs.redact(f"before {secret} after"), secret
