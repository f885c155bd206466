"""Token refresh: one path for every trigger (on error, scheduled, manual, bulk, reconnect, api).

Single flight (`core.services.flight`); nothing is held open while Meta is asked; the result is stored by compare and
swap for every app of the user that still holds the old token.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, Row

from core import failpoints
from core.clock import now as real_now
from core.errors import Conflict
from core.logs import redact
from core.meta.answers import TokenFacts
from core.meta.failures import Failure
from core.meta.graph import Graph, GraphError
from core.secret import Secret
from core.services import damaged, incidents, settle
from core.services.flight import Flight, Refreshed, replaced
from core.services.ladder import TOKEN_FAILURES, USABLE, Outcome, Result, climb
from core.services.noticing import notice
from core.services.policy import ON_ERROR_PAUSE, Policy
from core.services.settle import Order
from core.services.standing import AUTOMATIC, rests, standing
from core.store import apps, database, tokens
from core.store.apps import App
from core.store.database import reading, writing

__all__ = ["Refreshed", "TokenRefreshService"]

log = logging.getLogger("refresh")

# Triggers that wait while something is wrong for all of us at once; a person may try all the same.
_PAUSED = AUTOMATIC | {"bulk"}


@dataclass(frozen=True, slots=True)
class _Begun:
    """The lease is ours: who holds the token, and for which app it was refused."""

    lease: str
    holding: list[App]
    broken_app: str | None


class TokenRefreshService:
    """The platform's three functions and the one path behind them. Safe to share between threads."""

    def __init__(
        self,
        engine: Engine,
        graph: Graph,
        policy: Policy,
        *,
        worker: str,
        clock: Callable[[], datetime] = real_now,
    ) -> None:
        self.engine, self.graph, self.policy, self.worker, self.clock = engine, graph, policy, worker, clock
        self.flight = Flight(engine, worker, clock)

    def check_and_refresh_token(self, app_id: str, *, trigger: str = "scheduled", by: str = "library") -> Refreshed:
        """Refresh the app's token when it has expired, ends within the window or is broken; NotFound.

        `app_id` is `App.id` or the public `appId`. A token with time left answers `still_valid` without a call.
        """
        with reading(self.engine) as conn:
            app = apps.find(conn, app_id)
            known = tokens.get(conn, app.fingerprint) if app.fingerprint else None
        if app.token is None:
            return Refreshed(Outcome.NEEDS_RECONNECT, "", words="no token is stored for this app")
        broken = known is not None and known.broken_since is not None
        ends = [moment for moment in (app.expires_at, known.expires_at if known else None) if moment]
        if not broken and not self.policy.near_end(min(ends, default=None), self.clock()):
            return Refreshed(Outcome.STILL_VALID, app.token.fingerprint)
        return self.refresh(app.token.fingerprint, trigger=trigger, by=by, user_id=app.user_id, app_id=app.id)

    def refresh_all_user_tokens(self, user_id: str, *, trigger: str = "manual", by: str = "library") -> list[Refreshed]:
        """Refresh every token that the apps of this user (`User.id` or e-mail) hold, once each; NotFound."""
        with reading(self.engine) as conn:
            user_id = apps.user_id_of(conn, user_id)
            held = dict.fromkeys(app.fingerprint for app in apps.of_user(conn, user_id) if app.fingerprint)
        return [self.refresh(held_one, trigger=trigger, by=by, user_id=user_id) for held_one in held if held_one]

    def handle_facebook_api_error(self, error: GraphError, app_id: str, *, by: str = "library") -> bool:
        """Mend the app's token after Meta refused it; True when a usable token is stored now.

        False at once when the refusal is not about the token; True at once when the app holds another token than
        the refused one: somebody mended it while the request was under way.
        """
        if error.failure not in TOKEN_FAILURES:
            return False
        with reading(self.engine) as conn:
            app = apps.find(conn, app_id)
            known = tokens.get(conn, app.fingerprint) if app.fingerprint else None
        if app.token is None:
            return False
        if self._mended_meanwhile(error, app.token, known):
            return True
        log.warning("[Track] Detected token error, attempting to refresh token...")
        token, broken = app.token.fingerprint, known is not None and known.broken_since is not None

        def mend() -> Refreshed:
            if not broken:
                self._break(app, error.failure, error.words or str(error))
            return self._mend(token, trigger="on_error", by=by, user_id=app.user_id, app_id=app.id)

        return self.flight.join((token, app.user_id, "on_error"), mend).usable

    def _mended_meanwhile(self, error: GraphError, token: Secret, known: Row | None) -> bool:
        if error.fingerprint is not None:
            return error.fingerprint != token.fingerprint
        obtained_at = known.obtained_at if known else None
        if obtained_at is None or obtained_at < self.clock() - ON_ERROR_PAUSE:
            return False
        try:  # an error that does not say which token it is about may well be about the one before
            return self.graph.debug_token(token).is_valid
        except GraphError:
            return False

    def broke(self, app: App, failure: Failure, words: str) -> None:
        """Write down that Meta refuses the app's token, so that nobody sends with it."""
        if app.token is None:
            return
        log.warning("[Track] Detected token error, attempting to refresh token...")
        self._break(app, failure, words)

    def _break(self, app: App, failure: Failure, words: str) -> None:
        assert app.token is not None
        now = self.clock()
        with writing(self.engine) as conn:
            self._see(conn, app, now)
            tokens.break_(
                conn, app.token.fingerprint, failure=str(failure), words=redact(words)[:500], app_id=app.id, now=now
            )
            apps.mirror(conn, app.id, app.token.fingerprint)

    def refresh(
        self, fingerprint: str, *, trigger: str, by: str, user_id: str | None = None, app_id: str | None = None
    ) -> Refreshed:
        """Mend one token for the apps of `user_id`, or of every user that holds it.

        Whoever comes while another refreshes the same token waits for that result.
        """
        key = (fingerprint, user_id, trigger)
        how = {"trigger": trigger, "by": by, "user_id": user_id, "app_id": app_id}
        return self.flight.join(key, lambda: self._mend(fingerprint, **how))  # type: ignore[arg-type]

    def _mend(
        self, fingerprint: str, *, trigger: str, by: str, user_id: str | None = None, app_id: str | None = None
    ) -> Refreshed:
        started = self.clock()
        while True:
            known = self._catch_up(fingerprint, user_id)
            begun = None if self.flight.is_taken(known) else self._begin(fingerprint, trigger, self.clock())
            if isinstance(begun, Refreshed):
                return begun
            if begun is not None:
                break
            waited = self.flight.wait(fingerprint, user_id, started)
            if waited is not None:
                return waited
        try:
            users = [user_id] if user_id else sorted({app.user_id for app in begun.holding})
            app_id = app_id or begun.broken_app
            runs = [self._run(Order(fingerprint, user, app_id, trigger, by, started, begun.lease)) for user in users]
        finally:
            self.flight.give_back(fingerprint, begun.lease)
        return runs[-1]

    def _begin(self, fingerprint: str, trigger: str, now: datetime) -> _Begun | Refreshed | None:
        """Take the lease: None when somebody else was quicker; the answer when there is nothing to do now."""
        with writing(self.engine) as conn:
            holding = apps.holders(conn, fingerprint)
            for app in holding:
                self._see(conn, app, now)
            known = tokens.get(conn, fingerprint)
            if not holding or known is None:
                settle.match_cases(conn, fingerprint, now=now)
                return replaced(fingerprint)
            if all(app.token is None for app in holding):
                if known.next_refresh_at is not None and known.next_refresh_at <= now:  # or it holds up the others
                    tokens.plan(conn, fingerprint, now + ON_ERROR_PAUSE)
                return Refreshed(Outcome.NEEDS_RECONNECT, fingerprint, words=damaged.WORDS[holding[0].unreadable])
            if trigger in AUTOMATIC and (rested := rests(conn, known, now)):
                return rested
            if waiting := self._waits(conn, known, trigger, now):
                return waiting
            lease = self.flight.new_lease()
            mine = tokens.lease(conn, fingerprint, by=lease, now=now)
        return _Begun(lease, holding, known.broken_app) if mine else None

    def _waits(self, conn: Connection, known: Row, trigger: str, now: datetime) -> Refreshed | None:
        """The answer while Meta must not be called: nothing is counted against the token."""
        pause = incidents.gate(conn, now=now, fingerprint=known.fingerprint)
        limited = known.wait_until is not None and known.wait_until > now
        if pause is None or not (limited or trigger in _PAUSED):
            return None
        return Refreshed(Outcome.UNREACHABLE, known.fingerprint, words=pause.words)

    def take_over(
        self,
        fingerprint: str,
        token: Secret,
        facts: TokenFacts,
        *,
        trigger: str,
        by: str,
        user_id: str,
        app_id: str | None = None,
    ) -> Refreshed:
        """Store a verified token that its owner gave for all of the user's apps that hold the one before.

        Waits for a refresh of the old token that is under way; an app that it gave a new token keeps that one.
        Conflict when the lease cannot be had.
        """
        started = self.clock()
        if self._catch_up(fingerprint, user_id) is None:
            return replaced(fingerprint)
        lease = self.flight.new_lease()
        self.flight.insist(fingerprint, lease)
        new = None if token.fingerprint == fingerprint else token
        result = Result(Outcome.RECONNECTED, new, facts.expires_at, facts)
        try:
            with reading(self.engine) as conn:
                holding = [app for app in apps.holders(conn, fingerprint) if app.user_id == user_id]
            order = Order(fingerprint, user_id, app_id, trigger, by, started, lease)
            return self._settle(order, result, holding) if holding else replaced(fingerprint)
        finally:
            self.flight.give_back(fingerprint, lease)

    def _run(self, order: Order) -> Refreshed:
        with reading(self.engine) as conn:
            holding = [app for app in apps.holders(conn, order.fingerprint) if app.user_id == order.user_id]
            stands = standing(conn, order, holding, self.policy, self.clock()) if holding else None
        if stands is None:
            return replaced(order.fingerprint)
        shown = next((app.public_id for app in holding if app.id == order.app_id), holding[0].public_id)
        log.info("[Token Refresh] Token for app %s expired or expiring soon, refreshing...", shown)
        result = climb(self.graph, stands, self.policy, now=self.clock())
        refreshed = self._settle(order, result, holding)
        if refreshed.usable:
            log.info("[Token Refresh] ✅ Token refreshed successfully for app %s", shown)
        else:
            log.error("[Token Refresh] ❌ Failed to refresh token for app %s: %s", shown, refreshed.words)
        return refreshed

    def _settle(self, order: Order, result: Result, holding: list[App]) -> Refreshed:
        now = self.clock()
        try:
            # An exchanged token must not be lost to a passing deadlock: the transaction is made again.
            written = database.insist(
                self.engine, lambda conn: settle.settle(conn, order, result, self.policy, now=now)
            )
        except Conflict:
            lost = Refreshed(Outcome.UNREACHABLE, order.fingerprint, words="another worker took this refresh over")
            return self.flight.wait(order.fingerprint, order.user_id, order.started_at) or lost
        failpoints.hit("refresh.after_store")
        if result.failure is not None:
            with writing(self.engine) as conn:
                incidents.report(conn, result, now=now, foreign=result.foreign, fingerprint=order.fingerprint)
        current = result.token.fingerprint if result.token and written else order.fingerprint
        released = 0
        if result.outcome in USABLE:
            released = settle.release(self.engine, [app.id for app in holding], order.fingerprint, now=now)
        return Refreshed(result.outcome, current, len(written), released, result.words or str(result.outcome))

    def _catch_up(self, fingerprint: str, user_id: str | None) -> Row | None:
        """What we know of this token, after taking note of tokens that the platform stored for its user's apps (or
        those of all its users) and that no watch has seen yet."""
        with reading(self.engine) as conn:
            known = tokens.get(conn, fingerprint)
            holding = [] if user_id else [app.user_id for app in apps.holders(conn, fingerprint)]
            users = {user_id or (known.user_id if known else None), *holding}
            theirs = (app for user in users for app in apps.of_user(conn, user))
            unseen = [app for app in theirs if app.token and app.fingerprint != app.seen]
        if not unseen:
            return known
        now = self.clock()
        with writing(self.engine) as conn:
            notice(conn, unseen, self.policy, now=now)
            return tokens.get(conn, fingerprint)

    def _see(self, conn: Connection, app: App, now: datetime) -> None:
        assert app.fingerprint is not None
        due = self.policy.first_refresh(app.fingerprint, app.expires_at, now)
        tokens.see(conn, app.fingerprint, user_id=app.user_id, now=now, next_refresh_at=due)
