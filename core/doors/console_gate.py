"""Who may pass: asked of the database, for each request and again for each thing done on an open page."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from enum import Enum

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from core import clock
from core.doors import console_reach
from core.doors.sampling import Sampler
from core.errors import CoreError, SettingsError
from core.inbound.policy import Network, networks
from core.secret import Secret
from core.services import sign_in
from core.settings import Settings
from core.store import database, migrate
from core.store.database import reading

log = logging.getLogger("console")


class Pass(Enum):
    """What somebody is told at the door."""

    IN = "in"
    SIGN_IN = "sign in first"
    CLOSED = "nobody can sign in yet, and this is not the same machine"
    AWAY = "the database cannot be asked"


class Gate:
    """The database as the door needs it. `local` callers come from this machine without a proxy."""

    def __init__(
        self,
        settings: Callable[[], Settings | None] = console_reach.found,
        *,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._load, self.now = settings, now
        self._settings: Settings | None = None
        self._engine: Engine | None = None
        self._opening = threading.Lock()
        self._worth_saying = Sampler(1)

    def settings(self) -> Settings | None:
        """Read with the first question; None while one is wrong."""
        if self._settings is None:
            self._settings = self._load()
        return self._settings

    def engine(self) -> Engine:
        """Opened, and migrated or checked, with the first question; StoreError, SettingsError."""
        with self._opening:
            if self._engine is None:
                settings = self.settings()
                if settings is None:
                    raise SettingsError()
                engine = database.open_engine(settings.database_url, pool_size=2)
                migrate.check(engine)
                self._engine = engine
            return self._engine

    def trusted(self) -> tuple[Network, ...]:
        """Proxies whose X-Forwarded-For is believed."""
        settings = self.settings()
        return networks(settings.trusted_proxies) if settings else ()

    def ask(self, cookie: str | None, *, local: bool, by_hand: bool) -> Pass:
        """Whether this caller may pass. `by_hand`: a person has done something, from which the idle time counts.

        While the database is away this machine may see the page that says so; it can show nothing else.
        """
        try:
            return self._ask(cookie, local=local, by_hand=by_hand)
        except (CoreError, SQLAlchemyError) as error:
            self._say(error)
            return Pass.IN if local else Pass.AWAY

    def _say(self, error: Exception) -> None:
        """Once a minute: one page of one browser asks some sixty times."""
        if self._worth_saying(type(error).__name__):
            words = {"words": str(error)} if isinstance(error, SettingsError) else {}
            told = {"error": type(error).__name__, **words}
            log.warning("nobody can be let in: the database cannot be asked", extra=told)

    def _ask(self, cookie: str | None, *, local: bool, by_hand: bool) -> Pass:
        engine, now = self.engine(), self.now()
        with reading(engine) as conn:
            found = sign_in.present(conn, cookie, now=now)
            passes = found is not None or sign_in.who(conn, None, now=now) is not None
        if found is not None and cookie is not None:
            if by_hand:
                sign_in.heard_of(engine, cookie, found.seen_at, now=now)
            return Pass.IN
        if passes:
            return Pass.IN if local else Pass.CLOSED
        return Pass.SIGN_IN

    def sign_in(self, name: str, password: str, *, address: str) -> str:
        """A new session's cookie; WrongPassword, LockedOut, and what the database says."""
        secret = Secret(password) if password else None
        return sign_in.sign_in(self.engine(), name, secret, address=address, now=self.now())

    def sign_in_as(self, name: str, *, how: str) -> str:
        """The same for whom somebody else has proven to be `name`; NoOperator."""
        return sign_in.sign_in_as(self.engine(), name, how=how, now=self.now())

    def sign_out(self, cookie: str) -> None:
        sign_in.sign_out(self.engine(), cookie, now=self.now())
