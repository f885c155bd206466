"""Token refresh: one path for every trigger (on error, scheduled, manual, bulk, reconnect, api).

Single flight (`core.services.flight`); nothing is held open while Meta is asked; the result is stored by compare and
swap for every app of the user that still holds the old token.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine, Row

from core import failpoints
from core.clock import now as real_now
from core.errors import Conflict
from core.logs import redact
from core.meta.answers import TokenFacts
from core.meta.failures import Failure
from core.meta.graph import Graph, GraphError
from core.secret import Secret
from core.services import incidents, settle
from core.services.flight import Flight, Refreshed, replaced
from core.services.ladder import TOKEN_FAILURES, USABLE, Outcome, Result, climb
from core.services.policy import ON_ERROR_PAUSE, Policy
from core.services.settle import Order
from core.services.taking import Asked, Before, Begun, before, catch_up, introduce, see, take_up
from core.store import apps, database, tokens
from core.store.apps import App
from core.store.database import looking, reading, writing

__all__ = ["Refreshed", "TokenRefreshService"]

log = logging.getLogger("refresh")


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
        mine = {"user_id": app.user_id, "app_id": app.id}
        return self.refresh(app.token.fingerprint, trigger=trigger, by=by, known=known, **mine)

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
            return self._mend(Asked(token, "on_error", by, app.user_id, app.id, self.clock()), known)

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
            see(conn, app, self.policy, now=now)
            tokens.break_(
                conn, app.token.fingerprint, failure=str(failure), words=redact(words)[:500], app_id=app.id, now=now
            )
            apps.mirror(conn, app.id, app.token.fingerprint)

    def refresh(
        self,
        fingerprint: str,
        *,
        trigger: str,
        by: str,
        user_id: str | None = None,
        app_id: str | None = None,
        known: Row | None = None,
    ) -> Refreshed:
        """Mend one token for the apps of `user_id`, or of every user that holds it; `known` is its row, where the
        caller has just looked.

        Whoever comes while another refreshes the same token waits for that result.
        """
        asked = Asked(fingerprint, trigger, by, user_id, app_id, self.clock())
        return self.flight.join((fingerprint, user_id, trigger), lambda: self._mend(asked, known))

    def _mend(self, asked: Asked, known: Row | None) -> Refreshed:
        if known is None:
            with looking(self.engine) as conn:
                known = tokens.get(conn, asked.fingerprint)
        if known is None:
            introduce(self.engine, asked, self.policy, now=self.clock())
        while True:
            begun = None if self.flight.is_taken(known) else self._take_up(asked)
            if isinstance(begun, Refreshed):
                return begun
            if begun is not None:
                return self._carry_out(begun)
            known = None
            waited = self.flight.wait(asked.fingerprint, asked.user_id, asked.started_at)
            if waited is not None:
                return waited

    def _take_up(self, asked: Asked) -> Begun | Refreshed | None:
        return take_up(self.engine, asked, self.policy, lease=self.flight.new_lease(), now=self.clock())

    def _carry_out(self, begun: Begun) -> Refreshed:
        """The last of the orders gives the lease back."""
        first, *others = begun.orders
        try:
            done = self._run(first, begun.first, last=not others)
            for order in others:
                with reading(self.engine) as conn:
                    known, theirs = tokens.get(conn, order.fingerprint), apps.of_user(conn, order.user_id)
                    was = before(conn, order, known, theirs, self.policy, self.clock())
                done = self._run(order, was, last=order is others[-1])
        except BaseException:
            self.flight.give_back(first.fingerprint, first.lease)
            raise
        return done

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
        if catch_up(self.engine, fingerprint, user_id, self.policy, now=started) is None:
            return replaced(fingerprint)
        lease = self.flight.new_lease()
        self.flight.insist(fingerprint, lease)
        new = None if token.fingerprint == fingerprint else token
        result = Result(Outcome.RECONNECTED, new, facts.expires_at, facts)
        try:
            with reading(self.engine) as conn:
                holding = [app for app in apps.holders(conn, fingerprint) if app.user_id == user_id]
            if holding:
                order = Order(fingerprint, user_id, app_id, trigger, by, started, lease)
                return self._settle(order, result, holding, last=True)
            self.flight.give_back(fingerprint, lease)
        except BaseException:
            self.flight.give_back(fingerprint, lease)
            raise
        return replaced(fingerprint)

    def _run(self, order: Order, was: Before | None, *, last: bool) -> Refreshed:
        if was is None:
            if last:
                self.flight.give_back(order.fingerprint, order.lease)
            return replaced(order.fingerprint)
        holding = was.holding
        shown = next((app.public_id for app in holding if app.id == order.app_id), holding[0].public_id)
        log.info("[Token Refresh] Token for app %s expired or expiring soon, refreshing...", shown)
        result = climb(self.graph, was.standing, self.policy, now=self.clock())
        refreshed = self._settle(order, result, holding, last=last)
        if refreshed.usable:
            log.info("[Token Refresh] ✅ Token refreshed successfully for app %s", shown)
        else:
            log.error("[Token Refresh] ❌ Failed to refresh token for app %s: %s", shown, refreshed.words)
        return refreshed

    def _settle(self, order: Order, result: Result, holding: list[App], *, last: bool) -> Refreshed:
        """`last`: nothing else is done under this lease, it is given back with the result."""
        now, failed = self.clock(), result.failure is not None
        over = last and not failed
        try:
            # An exchanged token must not be lost to a passing deadlock: the transaction is made again.
            written = database.insist(
                self.engine, lambda conn: settle.settle(conn, order, result, self.policy, now=now, last=over)
            )
        except Conflict:
            lost = Refreshed(Outcome.UNREACHABLE, order.fingerprint, words="another worker took this refresh over")
            return self.flight.wait(order.fingerprint, order.user_id, order.started_at) or lost
        failpoints.hit("refresh.after_store")
        if failed:  # whoever comes next finds the incident open
            with writing(self.engine) as conn:
                if last:
                    tokens.release(conn, order.fingerprint, by=order.lease)
                incidents.report(conn, result, now=now, foreign=result.foreign, fingerprint=order.fingerprint)
        current = result.token.fingerprint if result.token and written else order.fingerprint
        released = 0
        if result.outcome in USABLE:
            released = settle.release(self.engine, [app.id for app in holding], order.fingerprint, now=now)
        return Refreshed(result.outcome, current, len(written), released, result.words or str(result.outcome))
