"""What a drill has shown: the same lines for every drill, and those of its own; as a table and as JSON."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from core.drills.reckoning import Ledger, table

_TIMES = {0: "never", 1: "once", 2: "twice"}


@dataclass(frozen=True)
class Report:
    """`exchanges`: by fingerprint, of tokens that broke; `cut_short`: how often the process that was mending one was
    killed; seconds until the first alert was opened and until nothing was due; `form`: how it was played."""

    holds: bool
    ledger: Ledger | None = None
    exchanges: Mapping[str, int] = field(default_factory=dict)
    cut_short: Mapping[str, int] = field(default_factory=dict)
    alert_after: float | None = None
    backlog_after: float | None = None
    form: str = "the product's own processes"
    more: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float | int | str] = field(default_factory=dict)

    @property
    def twice(self) -> list[str]:
        """Tokens that were exchanged more often than once, and once more for each time that this was cut short."""
        return [of for of, count in self.exchanges.items() if count > 1 + self.cut_short.get(of, 0)]

    def table(self) -> str:
        """Two columns, the verdict last."""
        rows = {"form": self.form, **self._of_events(), "exchanges": self._exchanged()}
        rows["first alert after"] = _seconds(self.alert_after, "nothing that calls for one")
        rows["backlog gone after"] = _seconds(self.backlog_after, "there was none")
        rows["ledger"] = self.ledger.account() if self.ledger else "no events in this drill"
        return table(rows | dict(self.more), holds=self.holds)

    def facts(self) -> dict[str, object]:
        """The same for programs."""
        led = self.ledger
        of_events = (
            {"accepted": led.promised, "lost": len(led.lost), "duplicates": led.extra, "ledger": led.account()}
            if led
            else {}
        )
        return {
            "holds": self.holds,
            "form": self.form,
            **of_events,
            "broken_tokens": len(self.exchanges),
            "exchanges_most": max(self.exchanges.values(), default=0),
            "exchanges_cut_short": sum(self.cut_short.get(of, 0) for of in self.exchanges),
            "first_alert_after": self.alert_after,
            "backlog_gone_after": self.backlog_after,
            **self.figures,
            "rows": dict(self.more),
            "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        }

    def _of_events(self) -> dict[str, str]:
        led = self.ledger
        if led is None:
            return {}
        rows = {
            "accepted": f"{led.promised:,} events",
            "lost": str(len(led.lost)),
            "duplicated": f"{led.extra:,} of {led.twins:,} events, each with its twin's event_id" if led.extra else "0",
        }
        if odd := led.strange | led.unasked:
            rows["nobody sent or answered"] = f"{len(led.strange)} at Meta, {len(led.unasked)} here, of {len(odd)}"
        if led.broken:
            rows["accounts that disagree"] = ", ".join(f"{whose}: {words}" for whose, words in led.broken.items())
        return rows

    def _exchanged(self) -> str:
        if not self.exchanges:
            return "no token broke"
        counted = Counter(self.exchanges.values())
        often = sum(tokens for n, tokens in counted.items() if n > 2)
        told = [f"{counted[n]:,} tokens {words}" for n, words in _TIMES.items() if counted[n]]
        told += [f"{often:,} more often (at most {max(counted)} times)"] if often else []
        cut = sum(self.cut_short.get(of, 0) for of in self.exchanges)
        told += [f"whoever mended one was killed {cut:,} times"] if cut else []
        return ", ".join([*told, f"too often: {len(self.twice)}"] if self.twice else told)


def _seconds(found: float | None, otherwise: str) -> str:
    return otherwise if found is None else f"{found:.1f} s"
