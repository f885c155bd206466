"""Trouble on request: what to go wrong with, where, how often."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from core.sandbox.refusals import Refusal

KINDS: Final = (
    "latency",
    "rate_4_403",
    "rate_17",
    "rate_613",
    "rate_80004",
    "transient_1",
    "transient_2",
    "html_502",
    "html_200",
    "reset_after_accept",
    "truncated",
    "short_ack",
    "error",
    "raw",
    "usage",
)
PATHS: Final = ("events", "exchange", "code", "debug", "pixel", "any")
# These let the request be carried out and spoil only its answer.
AFTER: Final = ("reset_after_accept", "truncated", "short_ack", "usage")


@dataclass(slots=True)
class Fault:
    """`count` None means until taken away; `rate` is the share of matching requests it hits.

    `headers` go with the answer: with a refusal, with `raw` (whose `error` holds `status` and `body`), or with an
    answer that is left as it was (`usage`).
    """

    path: str
    kind: str
    count: int | None = None
    rate: float = 1.0
    pixel: str | None = None
    token: str | None = None
    seconds: float = 1.0
    minutes: int = 1
    error: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Fault:
        """ValueError, naming what is wrong, for an order that cannot be understood."""
        order = dict(given)
        kind = order.get("kind")
        if isinstance(kind, Mapping):
            order |= {"kind": "error", "error": dict(kind.get("error", kind))}
        order.setdefault("path", "events")
        unknown = set(order) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown field {sorted(unknown)[0]}")
        if order.get("kind") not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}")
        if order["path"] not in PATHS:
            raise ValueError(f"path is one of {', '.join(PATHS)}")
        return cls(**order)

    def hits(self, path: str, pixel: str | None, fingerprint: str | None) -> bool:
        return (
            self.count != 0
            and self.path in (path, "any")
            and self.pixel in (None, pixel)
            and self.token in (None, fingerprint)
            and (self.rate >= 1.0 or random.random() < self.rate)
        )

    def refusal(self) -> Refusal | None:
        """The error this kind answers with; None for the kinds that do something else."""
        make = _REFUSALS.get(self.kind)
        refusal = _asked_for(self.error) if self.kind == "error" else make(self.minutes) if make else None
        return replace(refusal, headers=refusal.headers | self.headers) if refusal else None


def take(faults: list[Fault], path: str, pixel: str | None, fingerprint: str | None) -> list[Fault]:
    """The faults for this request: any latency, and the first other one; each use counts down."""
    chosen: list[Fault] = []
    for fault in faults:
        other = fault.kind != "latency"
        if other and any(found.kind != "latency" for found in chosen):
            continue
        if fault.hits(path, pixel, fingerprint):
            chosen.append(fault)
            if fault.count is not None:
                fault.count -= 1
    faults[:] = [fault for fault in faults if fault.count != 0]
    return chosen


def _asked_for(error: Mapping[str, Any]) -> Refusal:
    return Refusal(
        code=int(error.get("code", 1)),
        message=str(error.get("message", "An error that was asked for")),
        subcode=error.get("subcode"),
        status=int(error.get("status", 400)),
        transient=bool(error.get("transient", False)),
    )


def _usage(minutes: int) -> dict[str, str]:
    use = {"type": "ads_management", "call_count": 100, "total_cputime": 25, "total_time": 25}
    use |= {"estimated_time_to_regain_access": minutes}
    return {"X-Business-Use-Case-Usage": json.dumps({"1000000001": [use]})}


_REFUSALS: Final[dict[str, Callable[[int], Refusal]]] = {
    "rate_4_403": lambda minutes: Refusal(
        4, "(#4) Application request limit reached", 1504022, 403, transient=True, headers=_usage(minutes)
    ),
    "rate_17": lambda minutes: Refusal(17, "(#17) User request limit reached", 2446079, headers=_usage(minutes)),
    "rate_613": lambda minutes: Refusal(
        613, "(#613) Calls to this api have exceeded the rate limit.", 1487742, headers=_usage(minutes)
    ),
    "rate_80004": lambda minutes: Refusal(
        80004, "(#80004) There have been too many calls to this ad-account.", 2446079, headers=_usage(minutes)
    ),
    "transient_1": lambda _: Refusal(1, "An unknown error occurred", 99, 500, transient=True),
    "transient_2": lambda _: Refusal(
        2, "An unexpected error has occurred. Please retry your request later.", None, 503, transient=True
    ),
}
