"""What must be true of a token that a merchant gives before it is stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from sqlalchemy import Row

from core.errors import SettingsError
from core.meta.answers import TokenFacts
from core.meta.failures import Failure
from core.meta.graph import Graph, GraphError
from core.secret import Secret
from core.services.ladder import PASSING, TOKEN_FAILURES
from core.services.refresh import TokenRefreshService
from core.store import apps, reach, tokens
from core.store.apps import App
from core.store.database import reading
from core.store.sealing import Unreadable

# What sending needs: https://developers.facebook.com/docs/marketing-api/conversions-api/get-started
NEEDED = "ads_management"
# Refusals to speak of a token, by which it has no Meta user that anybody here could know.
NOBODY = TOKEN_FAILURES | {Failure.PERMISSION, Failure.INVALID_EVENT}
# Refusals that say nothing about the pixel.
STOPS = PASSING | TOKEN_FAILURES | {Failure.APP_CONFIG}
_PAUSE = 0.3
T = TypeVar("T")


class Word(StrEnum):
    """Why a login was not taken; the value is what the database holds."""

    CANCELLED = "cancelled"
    DIALOG_ERROR = "dialog_error"
    NO_CODE = "no_code"
    CODE_REFUSED = "code_refused"
    WRONG_APP = "wrong_app"
    TOKEN_REFUSED = "token_refused"
    OTHER_USER = "other_user"
    MISSING_SCOPE = "missing_scope"
    PIXEL_UNREACHABLE = "pixel_unreachable"
    OUR_SETUP = "our_setup"
    META_AWAY = "meta_away"
    BUSY = "busy"


class NotTaken(Exception):
    """The login came to nothing. `words` are Meta's, or the names of what is missing; `user`: the other Meta user."""

    def __init__(self, word: Word, words: str = "", user: str | None = None) -> None:
        self.word, self.words, self.user = word, words, user
        super().__init__(str(word))


@dataclass(frozen=True, slots=True)
class Verified:
    """A long-lived token that may be stored. `reached`: pixel → why the token does not reach it, or None."""

    token: Secret
    facts: TokenFacts
    reached: dict[str, GraphError | None]


class Verification:
    """From the dialog's code to a token that holds what the dead one held."""

    def __init__(self, service: TokenRefreshService, asked: Sequence[str]) -> None:
        self.engine, self.policy, self.asked = service.engine, service.policy, tuple(asked)
        self.graph: Graph = service.graph

    def of(self, case: Row, code: Secret, redirect_uri: str) -> Verified | None:
        """The token for this code; None when no app of the user holds the dead one any more, NotTaken."""
        try:
            token = self._long_lived(code, redirect_uri)
            with reading(self.engine) as conn:
                holding = [app for app in apps.holders(conn, case.fingerprint) if app.user_id == case.user_id]
            if not holding:
                return None
            facts = self._facts(token)
            self._same_user(case, facts, holding[0])
            self._scopes(facts)
            return Verified(token, facts, self._pixels(case.fingerprint, token, holding))
        except SettingsError as error:
            raise NotTaken(Word.OUR_SETUP, str(error)) from None

    def _long_lived(self, code: Secret, redirect_uri: str) -> Secret:
        try:
            short = self.graph.exchange_code(code, redirect_uri=redirect_uri).token
            return _again(lambda: self.graph.exchange(short).token)
        except GraphError as error:
            raise NotTaken(_word_of(error, Word.CODE_REFUSED), str(error)) from None

    def _facts(self, token: Secret) -> TokenFacts:
        try:
            facts = _again(lambda: self.graph.debug_token(token))
        except GraphError as error:
            belongs = Word.WRONG_APP if error.failure is Failure.PERMISSION else Word.TOKEN_REFUSED
            raise NotTaken(_word_of(error, belongs), str(error)) from None
        if not facts.is_valid:
            raise NotTaken(Word.TOKEN_REFUSED, facts.words)
        if facts.meta_app_id != self.policy.app_id:
            raise NotTaken(Word.WRONG_APP)
        return facts

    def _same_user(self, case: Row, facts: TokenFacts, app: App) -> None:
        """The Meta user who connected before, or the one whom an operator lets; nothing to know, nothing compared."""
        now = facts.meta_user_id
        if now is not None and now == case.accepted_user:
            return
        before = self._user_before(case.fingerprint, app)
        if before is not None and before != now:
            raise NotTaken(Word.OTHER_USER, f"before: {before}; now: {now or 'not told'}", now)

    def _user_before(self, fingerprint: str, app: App) -> str | None:
        """None only when nobody can know it; that it cannot be known now is NotTaken."""
        with reading(self.engine) as conn:
            known = tokens.get(conn, fingerprint)
        if known is not None and known.meta_user_id:
            return str(known.meta_user_id)
        if app.unreadable is Unreadable.LOCKED:
            raise NotTaken(Word.OUR_SETUP, "the token before is encrypted with a key that is not here")
        token = app.token
        if token is None:
            return None
        try:
            return _again(lambda: self.graph.debug_token(token)).meta_user_id
        except GraphError as error:
            if error.failure in NOBODY:
                return None
            raise NotTaken(_word_of(error, Word.META_AWAY), str(error)) from None

    def _scopes(self, facts: TokenFacts) -> None:
        missing = [scope for scope in dict.fromkeys((NEEDED, *self.asked)) if scope not in facts.scopes]
        if NEEDED in missing:
            raise NotTaken(Word.MISSING_SCOPE, ", ".join(missing))

    def _pixels(self, fingerprint: str, token: Secret, holding: list[App]) -> dict[str, GraphError | None]:
        """Asks for each pixel; one that the dead token reached, or was never tried on, must be reached."""
        with reading(self.engine) as conn:
            lost = {row.pixel_id for row in reach.of(conn, fingerprint) if not row.reached}
        pixels = {app.pixel_id: app.name for app in holding if app.pixel_id}
        found = {pixel_id: self._why_not(pixel_id, token) for pixel_id in pixels}
        missing = [f"{pixels[one]} (pixel {one})" for one, error in found.items() if error and one not in lost]
        if missing:
            raise NotTaken(Word.PIXEL_UNREACHABLE, ", ".join(missing))
        return found

    def _why_not(self, pixel_id: str, token: Secret) -> GraphError | None:
        try:
            _again(lambda: self.graph.probe_pixel(pixel_id, token, ours=True))
        except GraphError as error:
            if error.failure not in STOPS:
                return error
            raise NotTaken(_word_of(error, Word.TOKEN_REFUSED), str(error)) from None
        return None


def _again(call: Callable[[], T]) -> T:
    """Once more when Meta stumbled: a merchant's login is spent and would have to be made again."""
    try:
        return call()
    except GraphError as error:
        if error.failure is not Failure.TRANSIENT:
            raise
    time.sleep(_PAUSE)
    return call()


def _word_of(error: GraphError, otherwise: Word) -> Word:
    if error.failure in PASSING:
        return Word.META_AWAY
    return Word.OUR_SETUP if error.failure is Failure.APP_CONFIG else otherwise
