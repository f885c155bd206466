"""What Meta says of our own app, and of itself: the time it has there, and the version it answered with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from core.clock import as_utc
from core.logs import redact
from core.meta.refusal import WORDS, GraphError


@dataclass(frozen=True, slots=True)
class AppAnswer:
    """`refusal` is None when Meta takes our id and secret; `at` is Meta's clock to the second, `upgraded` its
    words when it answered with another version of the Graph API than it was asked for."""

    refusal: GraphError | None
    at: datetime | None
    upgraded: str | None
    duration_ms: int


def moment(headers: Mapping[str, str]) -> datetime | None:
    """The Date header, which every answer has (https://www.rfc-editor.org/rfc/rfc9110#name-date)."""
    try:
        return as_utc(parsedate_to_datetime(headers.get("Date", "")))
    except (ValueError, TypeError, IndexError):
        return None


def upgrade(headers: Mapping[str, str]) -> str | None:
    """Meta answers calls to a version that has ended with a newer one and says so.

    https://developers.facebook.com/docs/graph-api/changelog
    """
    said = headers.get("X-Ad-Api-Version-Warning")
    return redact(said)[:WORDS] if said else None
