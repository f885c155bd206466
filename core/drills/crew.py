"""The processes of a drill that may die at any moment: started, killed, their leases ended as if time had passed."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections import Counter
from dataclasses import dataclass, field

from sqlalchemy import Connection, select, update

from core.drills.processes import Process, environment, eventually, free_port, is_ready
from core.drills.stage import Stage
from core.store.database import reading, writing
from core.store.schema import capi_job, capi_pixel, capi_token
from core.store.wake import Work, wake

KILLED = -int(signal.SIGKILL)
# A process that lies still this long at its failpoint, or never gets there, has failed the drill.
PATIENCE = 60.0


@dataclass
class Crew:
    """Any number of processes by name: `endpoint…` and `worker…`.

    `hasten`: the leases of a killed process are ended at once, else they run out in their own time. `cut_short`:
    fingerprint → how often whoever was mending it was killed; `fell`: what ended without being told to.
    """

    stage: Stage
    hasten: bool = True
    more: dict[str, str] = field(default_factory=dict)
    running: dict[str, Process] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    cut_short: Counter[str] = field(default_factory=Counter)
    fell: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def port(self, name: str) -> int:
        return self.ports.setdefault(name, free_port())

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port(name)}"

    def start(self, name: str, *, failpoints: str = "") -> Process:
        """Not waited for; see `answers`."""
        own = {"CAPI_DRILL": "1", "CAPI_FAILPOINTS": failpoints} if failpoints else {}
        if name.startswith("endpoint"):
            own |= {"CAPI_ENDPOINT_PORT": str(self.port(name)), "CAPI_RATE_APP": "0"}
        env = environment(self.stage.url, self.stage.meta.sandbox.url, **self.more, **own)
        log = self.stage.folder / f"{name}.log"
        log.write_bytes(b"")
        process = self.running[name] = Process(name.partition("-")[0], env=env, log=log, born=self.stage.nursery.start)
        return process

    def up(self, *names: str) -> None:
        """Started and answering; AssertionError with its lines when one never does."""
        for name in names:
            self.start(name)
        for name in names:
            eventually(lambda name=name: self.answers(name), within=PATIENCE, saying=self.running[name].log.read_text)  # type: ignore[misc]

    def answers(self, name: str) -> bool:
        if name.startswith("endpoint"):
            return is_ready(self.url(name))
        return "worker started" in self.running[name].log.read_text()

    def kill(self, name: str) -> None:
        """SIGKILL; it counts as fallen when it had ended before."""
        process = self.running.pop(name)
        code = process.popen.poll()
        if code is not None:
            self.fell.append(f"{name} with exit code {code}: {process.lines[-1] if process.lines else ''}")
        process.kill()
        self.buried(name, process)

    def dies(self, name: str, within: float = PATIENCE) -> bool:
        """Whether the process is killed by its own failpoint in time."""
        process = self.running.pop(name)
        try:
            code = process.popen.wait(within)
        except subprocess.TimeoutExpired:
            process.kill()
            code = None
        self.buried(name, process)
        return code == KILLED

    def buried(self, name: str, process: Process) -> None:
        """What a dead process held: noted, and free from now on where time is hastened."""
        mine = f"%:{process.popen.pid}:%"
        t = capi_token.c
        with reading(self.stage.engine) as conn:
            mending = list(conn.scalars(select(t.fingerprint).where(t.refresh_by.like(mine))))
        with self._lock:
            self.kills[name] += 1
            self.cut_short.update(mending)
        if self.hasten:
            with writing(self.stage.engine) as conn:
                _free(conn, mine)

    def end(self) -> None:
        """Nothing is left behind."""
        for process in self.running.values():
            process.kill()
        self.running.clear()


def _free(conn: Connection, mine: str) -> None:
    p, t, j = capi_pixel.c, capi_token.c, capi_job.c
    conn.execute(update(capi_pixel).where(p.lease_by.like(mine)).values(lease_by=None, lease_until=None))
    conn.execute(update(capi_token).where(t.refresh_by.like(mine)).values(refresh_by=None, refresh_until=None))
    freed = update(capi_job).where(j.lease_by.like(mine)).values(lease_by=None, lease_until=None).returning(j.id)
    wake(conn, Work.RUN, [str(id_) for id_ in conn.scalars(freed)])
