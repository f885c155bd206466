"""How many events one app and one visitor may send, by token buckets in this process's memory.

Our own: the library `limits` has windows but no bucket with a burst, and costs a third of a second at each start.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import lru_cache

from core import hosts
from core.inbound.browser import parse_address

# A bucket holds so many seconds' worth: a page that loads sends several events at once.
APP_BURST, ADDRESS_BURST, UNKNOWN_BURST = 4, 6, 10
_MOST_BUCKETS = 50_000


class Buckets:
    """Token buckets of one rate (a second; 0: no limit) and size. The one that gave longest ago is forgotten first.

    A call larger than the bucket needs a full one and leaves a debt: it passes in the end, and the rate holds.
    """

    def __init__(self, rate: float, burst: float, *, most: int = _MOST_BUCKETS) -> None:
        self.rate, self.burst, self.most = rate, burst, most
        self._held: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def lacks(self, key: object, cost: float, now: float) -> float:
        """In how many seconds `cost` can be had; 0: now. Takes nothing."""
        return max(0.0, min(cost, self.burst) - self._level(key, now)) / self.rate if self.rate > 0 else 0.0

    def take(self, key: object, cost: float, now: float) -> None:
        if self.rate <= 0:
            return
        self._held[key] = (self._level(key, now) - cost, now)
        self._held.move_to_end(key)
        if len(self._held) > self.most:
            self._held.popitem(last=False)

    def _level(self, key: object, now: float) -> float:
        held, at = self._held.get(key, (self.burst, now))
        return min(self.burst, held + max(0.0, now - at) * self.rate)


class Rates:
    """The limits of one endpoint process.

    Addresses that are not public (loopback, a private network) are not limited: behind a proxy that
    CAPI_TRUSTED_PROXIES does not name, all visitors would share one.
    """

    def __init__(self, *, app: float, address: float) -> None:
        self._apps = Buckets(app, app * APP_BURST)
        self._visitors = Buckets(address, address * ADDRESS_BURST)
        self._unknown = Buckets(1, UNKNOWN_BURST)

    def wait(self, app_id: str, address: str | None, *, events: int, now: float) -> int | None:
        """None when a call with so many events may pass, else the seconds to wait. `now` is monotonic.

        Both buckets give or neither: a refused visitor uses up nothing of the app's, a busy app nothing of his.
        """
        visitor = _visitor(address)
        asked: list[tuple[Buckets, object]] = [(self._apps, app_id)]
        asked += [(self._visitors, (app_id, visitor))] if visitor is not None else []
        lacks = max(buckets.lacks(key, events, now) for buckets, key in asked)
        if lacks > 0:
            return math.ceil(lacks)
        for buckets, key in asked:
            buckets.take(key, events, now)
        return None

    def wait_guess(self, address: str | None, *, now: float) -> int | None:
        """The same for a call whose app must be looked up first, by how many unknown ones this visitor has named."""
        visitor = _visitor(address)
        lacks = self._unknown.lacks(visitor, 1, now) if visitor is not None else 0.0
        return math.ceil(lacks) or None

    def guessed_wrong(self, address: str | None, *, now: float) -> None:
        """This visitor has named an app that nobody knows."""
        visitor = _visitor(address)
        if visitor is not None:
            self._unknown.take(visitor, 1, now)


@lru_cache(maxsize=4096)
def _visitor(address: str | None) -> str | None:
    found = parse_address(address)
    return hosts.household(found) if found is not None and found.is_global else None
