"""The worker's tasks around alerts: scan, tell, beat. Made from settings, because they reach the world outside."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from core.desk.alert_message import compose
from core.doors.timetable import Task
from core.services import alerts, telling
from core.services.channels import open_channels
from core.services.heartbeat import Heartbeat
from core.services.refresh import TokenRefreshService
from core.services.telling import Compose
from core.settings import Settings


def wording(settings: Settings) -> Compose:
    """How an alert is put into words; its links lead to where people reach the console."""
    return partial(compose, console_url=settings.console_address)


def tasks(settings: Settings) -> tuple[Task, ...]:
    """What this worker does about alerts: it scans always, tells and beats where an address is set."""
    channels = open_channels(settings)
    every = timedelta(minutes=settings.alert_minutes)
    words = wording(settings)

    def scan(service: TokenRefreshService, now: datetime) -> None:
        alerts.scan(service.engine, service.policy, now=now)

    def tell(service: TokenRefreshService, now: datetime) -> None:
        telling.tell(service.engine, channels, words, now=now, every=every)

    def slow(service: TokenRefreshService, now: datetime) -> None:
        alerts.scan(service.engine, service.policy, now=now, kinds=alerts.SLOW)
        alerts.forget_old(service.engine, now=now)
        telling.forget_channels(service.engine, channels, now=now)

    found = [Task("alerts", timedelta(seconds=15), scan), Task("alerts, slow", timedelta(minutes=10), slow)]
    if channels:
        found.append(Task("alert messages", timedelta(seconds=3), tell))
    if url := settings.heartbeat_url:
        found.append(
            Task(
                "heartbeat",
                timedelta(minutes=1),
                partial(_beat, Heartbeat(url, allow_private=settings.allow_private_urls)),
            )
        )
    return tuple(found)


def _beat(heartbeat: Heartbeat, service: TokenRefreshService, now: datetime) -> None:  # noqa: ARG001
    heartbeat.beat()
