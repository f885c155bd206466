"""Places at which a drill makes this process die, stumble or dawdle. Off unless CAPI_FAILPOINTS says otherwise.

    CAPI_FAILPOINTS=intake.before_commit=kill:0.01;send.after_accept=sleep:2*1

After `=` comes what happens: `kill` (SIGKILL to ourselves), `error` (an exception nobody expects) or `sleep:SECONDS`;
then `:` and the share of the times that it happens; then `*` and how often at most. Only drills and tests may set it:
without CAPI_DRILL=1 no process starts with it.
"""

from __future__ import annotations

import logging
import os
import random
import re
import signal
import threading
import time
from dataclasses import dataclass
from typing import Final

from core.errors import CoreError

log = logging.getLogger("drill")

# place → what is true at it
PLACES: Final = {
    "intake.before_commit": "events of a group are written, nothing is committed and nobody is answered",
    "intake.after_commit": "events are committed, nobody is answered",
    "delivery.after_claim": "a pixel's lease is taken and committed, its events are in hand",
    "send.before_post": "a batch is about to go to Meta",
    "send.after_accept": "Meta has accepted a batch, nothing of that is written",
    "send.after_refusal": "Meta has refused a batch, nothing of that is written",
    "send.after_commit": "what Meta accepted is committed, the pixel's lease may still be ours",
    "refresh.before_exchange": "a token's lease is taken, it is about to be exchanged",
    "refresh.after_exchange": "Meta has given a new token, it is in memory only",
    "refresh.after_store": "the new token is committed, the events that wait for it are not released",
    "reconnect.before_store": "a login's code is used up, its token is in memory only",
    "job.before_record": "a job's refresh is done, its row does not say so",
    "job.mid_chunk": "a piece of a job is done, others of its chunk are not",
    "rollup.before_commit": "an hour is counted anew, nothing is committed",
    "retention.before_commit": "a step's rows are deleted, nothing is committed",
    "rekey.before_commit": "tokens are encrypted with the newest key, nothing is committed",
    "rekey.mid_way": "some tokens are at the newest key, others are not",
}
_RULE: Final = re.compile(
    r"(?P<place>[a-z_.]+)=(?P<action>kill|error|sleep:(?P<seconds>\d+(\.\d+)?))"
    r"(:(?P<share>0?\.\d+|[01](\.\d+)?))?(\*(?P<times>\d+))?"
)


class Tripped(CoreError):
    """A failpoint was hit."""


@dataclass(slots=True)
class Rule:
    """What happens at one place. `seconds`: of a sleep; `share`: 0 to 1; `left`: how often still, None for always."""

    action: str
    seconds: float = 0.0
    share: float = 1.0
    left: int | None = None


_armed: dict[str, Rule] = {}
_lock = threading.Lock()


def read(text: str) -> dict[str, Rule]:
    """Place → its rule; ValueError that says what is wrong and what there is."""
    rules = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        found = _RULE.fullmatch(part)
        if found is None:
            raise ValueError(f"{part!r} is no failpoint: write PLACE=kill, error or sleep:SECONDS, then :SHARE, *TIMES")
        if found["place"] not in PLACES:
            raise ValueError(f"there is no place {found['place']!r}, only {', '.join(PLACES)}")
        times = int(found["times"]) if found["times"] else None
        action = found["action"].partition(":")[0]
        rules[found["place"]] = Rule(action, float(found["seconds"] or 0), float(found["share"] or 1), times)
    return rules


def arm(text: str) -> None:
    """From now on these failpoints are in force, and no others; an empty text ends all. ValueError."""
    rules = read(text)
    with _lock:
        _armed.clear()
        _armed.update(rules)


def hit(place: str) -> None:
    """This place was reached. A look into an empty dictionary when nothing is armed."""
    if _armed:
        _happen(place)


def _happen(place: str) -> None:
    with _lock:
        rule = _armed.get(place)
        if rule is None or rule.left == 0 or random.random() >= rule.share:
            return
        if rule.left is not None:
            rule.left -= 1
    log.warning("a failpoint was hit", extra={"place": place, "action": rule.action})
    if rule.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif rule.action == "error":
        raise Tripped(f"the failpoint {place} was hit")
    time.sleep(rule.seconds)
