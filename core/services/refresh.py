"""Token refresh: one path for every trigger (on error, scheduled, manual, bulk, api).

Single flight: a lease on the token's row. Nothing is held open while Meta is asked; the result is stored by
compare and swap for every app of the user that still holds the old token.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, Row

from core.clock import now as real_now
from core.errors import Conflict
from core.logs import redact
from core.meta.answers import TokenFacts
from core.meta.failures import Failure
from core.meta.graph import Graph, GraphError
from core.secret import Secret
from core.services import settle
from core.services.ladder import TOKEN_FAILURES, USABLE, Outcome, Result, Standing, climb
from core.services.policy import DAY, ON_ERROR_PAUSE, Policy
from core.services.settle import Order
from core.store import apps, database, history, tokens
from core.store.apps import App
from core.store.database import reading, writing

log = logging.getLogger("refresh")

_POLL = 0.05
# Triggers that no person stands behind: they do not repeat what has just come to nothing.
AUTOMATIC = frozenset({"scheduled", "on_error"})


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What became of one token: its outcome, the token that is stored now, and how much it set free."""

    outcome: Outcome
    fingerprint: str
    apps_updated: int = 0
    events_released: int = 0
    words: str = ""

    @property
    def usable(self) -> bool:
        return self.outcome in USABLE


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
        if not broken and not self.policy.near_end(app.expires_at, self.clock()):
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
        self.broke(app, error.failure, error.words or str(error))
        refreshed = self.refresh(app.token.fingerprint, trigger="on_error", by=by, user_id=app.user_id, app_id=app.id)
        return refreshed.usable

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
        started = self.clock()
        self._catch_up(fingerprint, user_id, started)
        with writing(self.engine) as conn:
            holding = apps.holders(conn, fingerprint)
            for app in holding:
                self._see(conn, app, started)
            known = tokens.get(conn, fingerprint)
            if not holding or known is None:
                tokens.retire(conn, fingerprint)
                return self._replaced(fingerprint)
            if trigger in AUTOMATIC and (rested := self._rests(conn, known, started)):
                return rested
            lease = f"{self.worker}:{uuid.uuid4().hex[:8]}"  # threads of one worker fence each other, too
            mine = tokens.lease(conn, fingerprint, by=lease, now=started)
        app_id = app_id or known.broken_app
        if not mine:
            return self._wait(fingerprint, started)
        try:
            users = [user_id] if user_id else sorted({app.user_id for app in holding})
            runs = [self._run(Order(fingerprint, user, app_id, trigger, by, started, lease)) for user in users]
        finally:
            with writing(self.engine) as conn:
                tokens.release(conn, fingerprint, by=lease)
        return runs[-1]

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

        Waits for a refresh of the old token that is under way, and then stands above its result. Conflict when the
        lease cannot be had.
        """
        started = self.clock()
        lease = f"{self.worker}:{uuid.uuid4().hex[:8]}"
        give_up = time.monotonic() + tokens.LEASE.total_seconds()
        while not self._leased(fingerprint, user_id, lease):
            if time.monotonic() > give_up:
                raise Conflict("this token is being refreshed by another worker: try again")
            time.sleep(_POLL)
        new = None if token.fingerprint == fingerprint else token
        result = Result(Outcome.RECONNECTED, new, facts.expires_at, facts)
        try:
            with reading(self.engine) as conn:
                holding = [app for app in apps.holders(conn, fingerprint) if app.user_id == user_id]
            order = Order(fingerprint, user_id, app_id, trigger, by, started, lease)
            return self._settle(order, result, holding)
        finally:
            with writing(self.engine) as conn:
                tokens.release(conn, fingerprint, by=lease)

    def _leased(self, fingerprint: str, user_id: str, lease: str) -> bool:
        self._catch_up(fingerprint, user_id, self.clock())
        with writing(self.engine) as conn:
            return tokens.lease(conn, fingerprint, by=lease, now=self.clock())

    def _rests(self, conn: Connection, known: Row, now: datetime) -> Refreshed | None:
        """The answer without asking Meta: only the merchant can mend it, or the next try has its time."""
        if known.needs_reconnect:
            return Refreshed(Outcome.NEEDS_RECONNECT, known.fingerprint, words=known.broken_words or "")
        last = history.last_refresh(conn, known.fingerprint, since=now - DAY)
        if last is None or known.next_refresh_at is None or known.next_refresh_at <= now:
            return None
        return Refreshed(Outcome(last.outcome), known.fingerprint, words=last.words or "")

    def _run(self, order: Order) -> Refreshed:
        with reading(self.engine) as conn:
            holding = [app for app in apps.holders(conn, order.fingerprint) if app.user_id == order.user_id]
            standing = self._standing(conn, order, holding) if holding else None
        if standing is None:
            return self._replaced(order.fingerprint)
        shown = next((app.public_id for app in holding if app.id == order.app_id), holding[0].public_id)
        log.info("[Token Refresh] Token for app %s expired or expiring soon, refreshing...", shown)
        result = climb(self.graph, standing, self.policy, now=self.clock())
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
            return self._wait(order.fingerprint, order.started_at)
        current = result.token.fingerprint if result.token and written else order.fingerprint
        released = 0
        if result.outcome in USABLE:
            released = settle.release(self.engine, [app.id for app in holding], order.fingerprint, now=now)
        return Refreshed(result.outcome, current, len(written), released, result.words or str(result.outcome))

    def _standing(self, conn: Connection, order: Order, holding: list[App]) -> Standing:
        known = tokens.get(conn, order.fingerprint)
        token = holding[0].token
        assert token is not None
        now = self.clock()
        return Standing(
            token=token,
            # One holder's earlier date is reason enough: the platform's recipe moves a single row.
            expires_at=min((app.expires_at for app in holding if app.expires_at), default=None),
            broken=Failure(known.broken_failure) if known and known.broken_failure else None,
            just_mended=self._just_mended(conn, known, order, now),
            meta_app_id=known.meta_app_id if known else None,
            kind=known.kind if known else None,
            siblings=self._siblings(conn, order, holding[0], now),
        )

    def _just_mended(self, conn: Connection, known: Row | None, order: Order, now: datetime) -> bool:
        """Whether our own refresh on error ended well moments ago and the token was refused again since."""
        refused = known is not None and known.broken_since is not None and known.broken_words != tokens.PAST_END
        if order.trigger != "on_error" or not refused:
            return False
        last = history.last_refresh(conn, order.fingerprint, since=now - ON_ERROR_PAUSE)
        if last is None or last.trigger != "on_error" or last.outcome not in USABLE or last.user_id != order.user_id:
            return False
        return (last.new_fingerprint or last.fingerprint) == order.fingerprint

    def _siblings(self, conn: Connection, order: Order, app: App, now: datetime) -> list[tuple[Secret, datetime]]:
        """Newer tokens of the user's other apps that nobody has refused, the latest end first."""
        newer = []
        for other in apps.of_user(conn, order.user_id):
            if other.token is None or other.token == app.token or other.expires_at is None:
                continue
            known = tokens.get(conn, other.token.fingerprint)
            healthy = known is None or known.broken_since is None
            if healthy and other.expires_at > now + self.policy.soon and other.expires_at > (app.expires_at or now):
                newer.append((other.token, other.expires_at))
        return sorted(newer, key=lambda pair: pair[1], reverse=True)[:1]

    def _wait(self, fingerprint: str, since: datetime) -> Refreshed:
        """Until whoever refreshes this token is done, or its lease has run out; then what came of it."""
        give_up = time.monotonic() + tokens.LEASE.total_seconds()
        while time.monotonic() < give_up:
            with reading(self.engine) as conn:
                known = tokens.get(conn, fingerprint)
                last = history.last_refresh(conn, fingerprint, since=since - tokens.LEASE)
                held = bool(apps.holders(conn, fingerprint))
            if known is None or known.refresh_until is None or known.refresh_until <= self.clock():
                return self._seen(fingerprint, known, last, held)
            time.sleep(_POLL)
        return Refreshed(Outcome.UNREACHABLE, fingerprint, words="another worker is still refreshing this token")

    def _seen(self, fingerprint: str, known: Row | None, last: Row | None, held: bool) -> Refreshed:
        if last is not None:
            return Refreshed(Outcome(last.outcome), last.new_fingerprint or fingerprint, words=last.words or "")
        if not held:
            return self._replaced(fingerprint)
        broken = known is not None and known.broken_since is not None
        return Refreshed(Outcome.UNREACHABLE if broken else Outcome.STILL_VALID, fingerprint)

    def _replaced(self, fingerprint: str) -> Refreshed:
        """Somebody stored another token already."""
        return Refreshed(Outcome.ADOPTED, fingerprint, words="another token is stored already")

    def _catch_up(self, fingerprint: str, user_id: str | None, now: datetime) -> None:
        """Take note of tokens that the platform stored for this user's apps and that no watch has seen yet."""
        with reading(self.engine) as conn:
            known = None if user_id else tokens.get(conn, fingerprint)
            user_id = known.user_id if known else user_id
            unseen = [app for app in apps.of_user(conn, user_id) if app.token and app.fingerprint != app.seen]
        if not unseen:
            return
        with writing(self.engine) as conn:
            for app in unseen:
                self._see(conn, app, now)
            for app in unseen:
                apps.mirror(conn, app.id, app.fingerprint)

    def _see(self, conn: Connection, app: App, now: datetime) -> None:
        assert app.fingerprint is not None
        due = self.policy.first_refresh(app.fingerprint, app.expires_at, now)
        tokens.see(conn, app.fingerprint, user_id=app.user_id, now=now, next_refresh_at=due)
