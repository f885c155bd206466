"""Telling: everything that was noticed since a channel's last message goes to it as one message.

At once when the channel was quiet, else not before its pause is over. A channel that is away keeps what it was not
told and is tried again. A worker that dies between sending and writing it down lets the message be sent once more:
it may come twice, and is never lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from core.services.channels import Channel
from core.store import channels as keeper
from core.store.channels import Story
from core.store.database import reading, writing

log = logging.getLogger("alerts")

# Longer than one message may take in all: whoever claimed a channel and died gives it back after this.
LEASE = timedelta(minutes=2)
# After this, and then twice as long each time up to the cap, a channel that is away is tried again.
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(minutes=10)
# An address that cannot be used is set wrong: only a person can change that.
WRONG_PAUSE = timedelta(hours=1)
# A channel that is set no more is forgotten after this.
FORGOTTEN = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Message:
    """Plain text; `good` when it only tells of what is over."""

    subject: str
    body: str
    good: bool


# Words are made by the desk; None when nothing of it is worth a message.
Compose = Callable[[Connection, Sequence[Story], datetime], Message | None]


def tell(engine: Engine, channels: Sequence[Channel], compose: Compose, *, now: datetime, every: timedelta) -> int:
    """Send what is to be told; how many channels took a message. `every`: the pause between two messages to one."""
    return sum(_tell(engine, channel, compose, now, every) for channel in channels)


def _tell(engine: Engine, channel: Channel, compose: Compose, now: datetime, every: timedelta) -> bool:
    if not _has_news(engine, channel, now):
        return False
    with writing(engine) as conn:
        if not keeper.claim(conn, channel.name, now=now, until=now + LEASE):
            return False
    with reading(engine) as conn:
        news = keeper.news(conn, channel.name)
        message = compose(conn, news.stories, now) if news.stories else None
    if message is None:
        with writing(engine) as conn:
            keeper.passed_over(conn, channel.name, up_to=news.up_to, now=now)
        return False
    error = channel.send(message.subject, message.body, good=message.good)
    if error:
        _failed(engine, channel, error, now)
        return False
    with writing(engine) as conn:
        before = keeper.get(conn, channel.name)
        keeper.told(conn, channel.name, up_to=news.up_to, now=now, next_at=now + every)
    if before is not None and before.failures:
        log.info("a channel takes alerts again", extra={"channel": channel.title})
    return True


def _has_news(engine: Engine, channel: Channel, now: datetime) -> bool:
    """Looks without a write, and takes note of a channel that is new."""
    with reading(engine) as conn:
        known = keeper.get(conn, channel.name)
        if known is not None:
            return keeper.is_ready(known, now=now) and keeper.has_news(conn, known)
    with writing(engine) as conn:
        keeper.know(conn, channel.name, channel.title, now=now)
    if error := channel.check():
        _failed(engine, channel, error, now)
        return False
    with reading(engine) as conn:
        known = keeper.get(conn, channel.name)
        return known is not None and keeper.has_news(conn, known)


def _failed(engine: Engine, channel: Channel, error: str, now: datetime) -> None:
    with writing(engine) as conn:
        before = keeper.get(conn, channel.name)
        failures = before.failures if before else 0
        pause = WRONG_PAUSE if channel.problem else min(FIRST_PAUSE * 2 ** min(failures, 10), LONGEST_PAUSE)
        keeper.not_told(conn, channel.name, error=error, now=now, next_at=now + pause)
    if not failures or (before is not None and before.error != error):
        log.error("a channel does not take alerts", extra={"channel": channel.title, "error": error})


def forget_channels(engine: Engine, channels: Sequence[Channel], *, now: datetime) -> None:
    """Drop what is kept of channels that are set no more."""
    with writing(engine) as conn:
        keeper.forget(conn, keep={channel.name for channel in channels}, before=now - FORGOTTEN)
