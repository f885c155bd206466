"""What is worth one row when it comes a thousand times: a few a minute, so that strangers cannot fill the disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

A_MINUTE = 10
_MOST_KEYS = 5_000


class Sampler:
    """Says yes to the first few of each key in every minute. One for a process."""

    def __init__(self, a_minute: int = A_MINUTE, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.a_minute, self.clock = a_minute, clock
        self._minute = -1
        self._seen: dict[Hashable, int] = {}

    def __call__(self, key: Hashable) -> bool:
        minute = int(self.clock() // 60)
        if minute != self._minute or len(self._seen) >= _MOST_KEYS:
            self._minute, self._seen = minute, {}
        self._seen[key] = self._seen.get(key, 0) + 1
        return self._seen[key] <= self.a_minute


class Lately:
    """What was written of a key a short while ago, and need not be written again. Only hashes are kept: some 50,000
    browsers would otherwise fill tens of megabytes."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic, most: int = 50_000) -> None:
        self.seconds, self.clock, self.most = seconds, clock, most
        self._written: dict[int, tuple[float, int]] = {}

    def has(self, key: Hashable, said: Hashable) -> bool:
        at, before = self._written.get(hash(key), (0.0, None))
        return before == hash(said) and self.clock() - at < self.seconds

    def note(self, key: Hashable, said: Hashable) -> None:
        if len(self._written) >= self.most:
            self._written.clear()
        self._written[hash(key)] = (self.clock(), hash(said))
