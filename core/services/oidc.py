"""Signing in with an account kept elsewhere: OpenID Connect as Authlib speaks it, and who its provider says is there.

The authorization code flow with PKCE (S256), state and nonce. An ID token is believed only when its signature, issuer,
audience, nonce and times hold (https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation). Authlib is an
extra (`oidc`): this module is imported by nobody but the console's door, and only when somebody signs in so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from core import hosts
from core.secret import Secret
from core.services.oidc_login import Login
from core.services.oidc_trouble import OidcTrouble, code_of

# Signed with a private key, whatever the token or its provider says: with `none` and HMAC anybody could.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
_NEEDED: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_USERINFO: Final = "userinfo_endpoint"
_SCOPE: Final = "openid email"
_TIMEOUT: Final = (5, 10)
_KEPT: Final = timedelta(minutes=10)
# How far clocks may be apart, in seconds.
_LEEWAY: Final = 60

# What is raised on the way → which trouble that is; the first that fits. What libraries raise at odd answers nobody can
# foresee, so the last line takes all of it: who is not proven is not let in.
_TROUBLES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (JoseError, "not_proven"),
    (AuthlibBaseError, "code_refused"),
    (requests.ConnectionError, "provider_away"),
    (requests.Timeout, "provider_away"),
    (requests.HTTPError, "provider_away"),
    (Exception, "odd_answer"),
)


class Provider:
    """One OpenID provider, asked over HTTP; nothing is raised but OidcTrouble. Safe to share between threads."""

    def __init__(self, issuer: str, *, client_id: str, client_secret: Secret, redirect_uri: str) -> None:
        self.issuer, self.client_id, self.redirect_uri = issuer, client_id, redirect_uri
        self._secret = client_secret
        self._known: tuple[datetime, Mapping[str, Any]] | None = None

    def begin(self, login: Login, *, now: datetime) -> str:
        """Where the browser is sent to, to sign in there."""
        with _asking():
            about = self._about(now)
            with self._session(about) as session:
                url, _ = session.create_authorization_url(
                    about["authorization_endpoint"],
                    state=login.state,
                    nonce=login.nonce,
                    code_verifier=login.verifier,
                )
            return str(url)

    def finish(self, login: Login, code: str, *, now: datetime) -> str:
        """The verified e-mail address, in small letters, of who has signed in there and came back with this code."""
        with _asking():
            about = self._about(now)
            with self._session(about) as session:
                token = session.fetch_token(
                    about["token_endpoint"],
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=login.verifier,
                    timeout=_TIMEOUT,
                    allow_redirects=False,
                )
                proven = self._proven(token, _json(session, about["jwks_uri"]), login, now=now)
                if "email" not in proven and _USERINFO in about:
                    proven = _same_person(proven, _json(session, about[_USERINFO], withhold_token=False))
            return _address(proven)

    def _about(self, now: datetime) -> Mapping[str, Any]:
        """What the provider says of itself, asked anew every ten minutes."""
        if self._known is None or not timedelta() <= now - self._known[0] < _KEPT:
            with requests.Session() as session:
                said = _json(session, self.issuer.rstrip("/") + "/.well-known/openid-configuration")
            self._check(said)
            self._known = (now, said)
        return self._known[1]

    def _check(self, said: Mapping[str, Any]) -> None:
        if said["issuer"] != self.issuer:
            raise OidcTrouble("odd_answer", "another issuer")
        at_home = self.issuer.startswith("http:")  # which the settings allow on this machine only
        for name in (*_NEEDED, *({_USERINFO} & said.keys())):
            if not hosts.is_confidential(said[name]) or not (at_home or said[name].startswith("https:")):
                raise OidcTrouble("odd_answer", f"{name} is not https")

    def _session(self, about: Mapping[str, Any]) -> OAuth2Session:
        methods = about.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        basic = "client_secret_basic" in methods
        return OAuth2Session(
            self.client_id,
            self._secret.reveal(),
            token_endpoint_auth_method="client_secret_basic" if basic else "client_secret_post",
            scope=_SCOPE,
            redirect_uri=self.redirect_uri,
            code_challenge_method="S256",
            leeway=0,  # an access token is used at once, however short it lives
        )

    def _proven(self, token: Mapping[str, Any], keys: Any, login: Login, *, now: datetime) -> Mapping[str, Any]:
        """The claims of an ID token that is for us, from this provider, for this login, and still good."""
        registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
        read = jwt.decode(token["id_token"], KeySet.import_key_set(keys), registry=registry)
        ours: dict[str, Any] = {
            "iss": {"essential": True, "value": self.issuer},
            "aud": {"essential": True, "value": self.client_id},
        }
        said = {"nonce": login.nonce, "client_id": self.client_id, "access_token": token.get("access_token")}
        claims = CodeIDToken(read.claims, read.header, ours, said)
        claims.validate(now=int(now.timestamp()), leeway=_LEEWAY)
        return dict(claims)


@contextmanager
def _asking() -> Iterator[None]:
    """Every exception becomes a trouble of ours: a library's may hold codes and secrets."""
    try:
        yield
    except OidcTrouble:
        raise
    except Exception as error:
        word = next(word for kind, word in _TROUBLES if isinstance(error, kind))
        raise OidcTrouble(word, f"{type(error).__name__}, {code_of(getattr(error, 'error', None))}") from None


def _json(session: requests.Session, url: str, **more: Any) -> dict[str, Any]:
    """The object that lies there. A session of Authlib's sends its access token unless told not to."""
    if isinstance(session, OAuth2Session):
        more = {"withhold_token": True} | more
    answer = session.get(url, timeout=_TIMEOUT, allow_redirects=False, **more)
    if answer.status_code != requests.codes.ok:
        word = "provider_away" if answer.status_code >= 500 else "odd_answer"
        raise OidcTrouble(word, f"HTTP {answer.status_code}")
    said = answer.json()
    if not isinstance(said, dict):
        raise OidcTrouble("odd_answer", "no object")
    return said


def _same_person(proven: Mapping[str, Any], more: Mapping[str, Any]) -> Mapping[str, Any]:
    """https://openid.net/specs/openid-connect-core-1_0.html#UserInfoResponse: it counts only with the same `sub`."""
    if more.get("sub") != proven["sub"]:
        raise OidcTrouble("not_proven", "another sub")
    return more


def _address(proven: Mapping[str, Any]) -> str:
    """Some providers write `email_verified` as text. Only ASCII: small letters of others may become somebody else's."""
    email, verified = proven.get("email"), proven.get("email_verified")
    if not isinstance(email, str) or not email.isascii() or "@" not in email:
        raise OidcTrouble("no_address", "no e-mail address")
    if verified is not True and verified != "true":
        raise OidcTrouble("no_address", "not verified")
    return email.lower()
