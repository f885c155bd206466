"""The worker: mends broken tokens first, then delivers; refreshes what is inside the window, checks daily.

Wake-ups come from the queue; a sweep finds what nobody asked for. Tables are the truth: a worker that is killed
leaves leases that run out, and whoever sweeps next goes on.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

import psycopg
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from core import __version__, clock
from core.doors import alerting, wiring
from core.doors.engine import enqueue, forget_log, open_queue
from core.doors.timetable import TASKS, Task
from core.services import bulk, schedule, watch
from core.services.delivery import deliver
from core.services.refresh import TokenRefreshService
from core.settings import Settings
from core.store import pixels, tokens, workers
from core.store.database import is_embedded, looking, reading, writing
from core.store.wake import Work, changes

log = logging.getLogger("worker")
T = TypeVar("T")

# How long a worker waits before it tries to reach a lost database again.
RECONNECT = 2.0
# A wake-up held by a worker that died, or that lost its connection before it could say that it was done, is handed on
# after this long; until then nobody can be woken for the same. It is looked for as often as LOOK says.
TAKEN_OVER_AFTER = timedelta(seconds=10)
LOOK = timedelta(seconds=3)
# How long a sweep rests when nothing calls for it, in seconds: on the embedded default, and else.
REST = {True: 1.0, False: 2.0}
# Sweeps rest at least so long, in seconds, and come so long after a job: the queue drops a finished wake-up a moment
# after its end, and what came in between must be asked for anew.
SPACING, SETTLED = 0.1, 0.15
# How often the embedded default's file is looked at, in seconds.
GLANCE = 0.05
# How long one pixel may keep a thread before the others have their turn, in seconds.
TURN = 10.0


class Worker:
    """One worker process: threads around blocking calls, and the queue that says what is next."""

    def __init__(
        self, engine: Engine, service: TokenRefreshService, *, threads: int, tasks: tuple[Task, ...] = TASKS
    ) -> None:
        self.engine, self.service, self.threads, self.tasks = engine, service, threads, tasks
        # Each kind of work has threads of its own: a slow Meta must not hold up the refresh of a broken token,
        # nor the sweep that finds one.
        shares = {Work.DELIVER: threads, Work.REFRESH: max(2, threads // 2), Work.RUN: 2}
        self.pools = {work: ThreadPoolExecutor(n, thread_name_prefix=str(work)) for work, n in shares.items()}
        # What the threads can do, and as much ready for those that deliver: more would be kept from other workers.
        self.most = threads + sum(shares.values())
        self.house = ThreadPoolExecutor(len(tasks) + 4, thread_name_prefix="house")
        self.stopping = asyncio.Event()
        self.nudge = asyncio.Event()
        self.started_at = clock.now()

    async def run(self) -> None:
        """Until `stopping` is set; what is in flight is finished, leases are given back."""
        log.info("worker started", extra={"worker": self.service.worker, "threads": self.threads})
        while not self.stopping.is_set():
            try:
                async with open_queue(self.engine) as queue:
                    await self._work(queue)
            except (psycopg.OperationalError, OperationalError) as error:
                log.error("the database is away, trying again", extra={"error": str(error).splitlines()[0]})
                await self._unless(self.stopping, RECONNECT)
        await self._leave()
        for pool in (*self.pools.values(), self.house):
            pool.shutdown()
        log.info("worker stopped", extra={"worker": self.service.worker})

    def stop(self) -> None:
        self.stopping.set()
        self.nudge.set()

    async def _work(self, queue: PgQueuer) -> None:
        self._register(queue)
        running = asyncio.create_task(
            queue.run(
                batch_size=min(10, self.most // 2),
                max_concurrent_tasks=self.most,
                heartbeat_timeout=TAKEN_OVER_AFTER,
                dequeue_timeout=LOOK,
            )
        )
        tasks = [self._keep(task, queue) for task in self.tasks]
        glances = [self._glance()] if is_embedded(self.engine) else []
        loops = [self._sweep(queue), *tasks, *glances, self._beat(), self.stopping.wait()]
        beside = [asyncio.create_task(loop) for loop in loops]
        try:
            await asyncio.wait((running, *beside), return_when=asyncio.FIRST_COMPLETED)
        finally:
            queue.shutdown.set()
            for loop in beside:
                loop.cancel()
            results = await asyncio.gather(running, *beside, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _register(self, queue: PgQueuer) -> None:
        handlers: dict[Work, Callable[[str], None]] = {
            Work.DELIVER: self._deliver,
            Work.REFRESH: self._refresh,
            Work.RUN: self._run_job,
        }
        for work, handler in handlers.items():
            queue.entrypoint(str(work))(self._entrypoint(handler, self.pools[work]))

    def _entrypoint(self, handler: Callable[[str], None], pool: ThreadPoolExecutor) -> Callable[[Job], Awaitable[None]]:
        async def entrypoint(job: Job) -> None:
            subject = (job.payload or b"").decode()
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(pool, handler, subject)
            loop.call_later(SETTLED, self.nudge.set)

        return entrypoint

    def _deliver(self, pixel_id: str) -> None:
        """Deliver, mend what was refused on the way as the next step of the same worker, and deliver once more."""
        mended = [self._mended(fingerprint) for fingerprint in self._delivered(pixel_id)]
        if any(mended):
            self._delivered(pixel_id)

    def _delivered(self, pixel_id: str) -> list[str]:
        service = self.service
        enough = time.monotonic() + TURN
        return deliver(
            self.engine,
            service.graph,
            pixel_id,
            policy=service.policy,
            by=service.worker,
            stop=lambda: self.stopping.is_set() or time.monotonic() > enough,
        )

    def _refresh(self, fingerprint: str) -> None:
        self._mended(fingerprint)

    def _mended(self, fingerprint: str) -> bool:
        """Refresh only what is still due: another worker may have mended it, or have failed a moment ago."""
        with looking(self.engine) as conn:
            known = tokens.get(conn, fingerprint)
        if known is None or known.needs_reconnect or known.next_refresh_at is None:
            return False
        if known.next_refresh_at > clock.now():
            return False
        if known.broken_since is None and not schedule.may_begin(self.engine, self.service.policy, now=clock.now()):
            return False
        trigger = "on_error" if known.broken_since else "scheduled"
        return self.service.refresh(fingerprint, trigger=trigger, by=self.service.worker, known=known).usable

    def _run_job(self, job_id: str) -> None:
        bulk.run(self.service, int(job_id), threads=self.threads, stop=self.stopping.is_set)

    async def _sweep(self, queue: PgQueuer) -> None:
        """Whatever is due but was not asked for: soon after a job has ended, and after a second or two anyway."""
        rest = REST[is_embedded(self.engine)]
        while not self.stopping.is_set():
            self.nudge.clear()
            await enqueue(queue, await self._blocking(self._due_work))
            await forget_log(queue)
            await asyncio.sleep(SPACING)
            await self._unless(self.nudge, rest)

    async def _glance(self) -> None:
        """The embedded default has no queue that two processes share: a change of its file is what wakes the sweep."""
        with changes(self.engine) as changed:
            while not self.stopping.is_set():
                if await self._blocking(changed):
                    self.nudge.set()
                await asyncio.sleep(GLANCE)

    async def _keep(self, task: Task, queue: PgQueuer) -> None:
        """One task of the timetable, beside the others: a slow one holds nobody up."""
        while not self.stopping.is_set():
            await enqueue(queue, await self._blocking(self._task, task))
            await asyncio.sleep(min(task.every.total_seconds(), 1.0))

    def _task(self, task: Task) -> list[tuple[Work, str]]:
        now = clock.now()
        with reading(self.engine) as conn:
            if workers.is_waiting(conn, task.name, every=task.every, now=now):
                return []
        with writing(self.engine) as conn:
            mine = workers.claim_task(conn, task.name, every=task.every, now=now)
        if not mine:
            return []
        try:
            return task.run(self.service, now) or []
        except OperationalError:
            raise
        except Exception:
            log.exception("a scheduled task failed", extra={"task": task.name})
            return []

    def _due_work(self) -> list[tuple[Work, str]]:
        return watch.due_work(self.engine, now=clock.now())

    async def _beat(self) -> None:
        while not self.stopping.is_set():
            await self._blocking(self._one_beat)
            await asyncio.sleep(workers.BEAT.total_seconds())

    def _one_beat(self) -> None:
        with writing(self.engine) as conn:
            beat = {"started_at": self.started_at, "version": __version__, "now": clock.now()}
            workers.beat(conn, self.service.worker, **beat)  # type: ignore[arg-type]

    async def _leave(self) -> None:
        try:
            await self._blocking(self._give_back)
        except OperationalError:
            log.warning("the database is away: what this worker held is free when its leases are over")

    def _give_back(self) -> None:
        with writing(self.engine) as conn:
            pixels.free_leases(conn, self.service.worker)
            workers.stop(conn, self.service.worker, now=clock.now())

    async def _unless(self, event: asyncio.Event, seconds: float) -> None:
        """Wait so long, or until it is set."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()

    async def _blocking(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.house, function, *args)


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    engine = wiring.open_store(settings, pool_size=settings.worker_threads + 4)
    graph = None
    if settings.worker_metrics_port:
        from core.doors import monitoring  # what counts is not loaded where nobody asks

        graph = monitoring.watch_worker(settings, engine)
    service = wiring.make_service(settings, engine, kind="worker", graph=graph)
    tasks = (*TASKS, *alerting.tasks(settings))
    asyncio.run(_run(engine, service, settings.worker_threads, tasks))


async def _run(engine: Engine, service: TokenRefreshService, threads: int, tasks: tuple[Task, ...]) -> None:
    worker = Worker(engine, service, threads=threads, tasks=tasks)
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, worker.stop)
    await worker.run()
