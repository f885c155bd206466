"""A small OpenID provider on real HTTP: it signs with a real key, and says what a test lets it say."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode

import orjson
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.inbound.serving import serving
from tests.processes import free_port

CLIENT, CLIENT_SECRET = "console-4711", "canary-client-secret-4711"
# Marked, so that they are found wherever they should not be.
CODE, ACCESS = "canarycode", "canaryaccess"


@cache
def a_key(kid: str, serial: int = 0) -> RSAKey:
    """A private key; another `serial` is another key of the same name."""
    return RSAKey.generate_key(2048, {"kid": kid})


@dataclass
class OpenId:
    """The provider. A test changes what it says: `claims`, `about` (None takes one away), `broken`, how it signs."""

    url: str
    now: Callable[[], datetime]
    claims: dict[str, Any] = field(default_factory=lambda: {"email": "Ana@Example.com", "email_verified": True})
    about: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    # path → what is answered there instead
    broken: dict[str, Response] = field(default_factory=dict)
    back: dict[str, str] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: a_key("one"))
    shown: RSAKey | None = None
    alg: str = "RS256"
    asks: bool = False
    asked: list[Any] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def app(self) -> Starlette:
        routes = {
            "/.well-known/openid-configuration": self._about,
            "/keys": self._keys,
            "/authorize": self._authorize,
            "/token": self._token,
            "/userinfo": self._userinfo,
        }
        both = ["GET", "POST"]
        return Starlette(routes=[Route(path, self._or_broken(answer), methods=both) for path, answer in routes.items()])

    def _or_broken(self, answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def either(request: Request) -> Response:
            self.asked.append(request.url.path)
            return self.broken.get(request.url.path) or await answer(request)

        return either

    async def _about(self, _: Request) -> Response:
        said = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            **self.about,
        }
        return JSONResponse({name: value for name, value in said.items() if value is not None})

    async def _keys(self, _: Request) -> Response:
        return JSONResponse({"keys": [(self.shown or self.key).as_dict(private=False)]})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.asked.append(asked)
        code = f"{CODE}{secrets.token_hex(8)}"
        self._codes[code] = asked
        back = asked["redirect_uri"] + "?" + urlencode({"code": code, "state": asked["state"], **self.back})
        if self.asks:
            return HTMLResponse(f'<html lang="en"><title>P</title><a href="{back.replace("&", "&amp;")}">I am Ana</a>')
        return RedirectResponse(back, 302)

    async def _token(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        self.asked.append(form)
        basic = "Basic " + base64.b64encode(f"{CLIENT}:{CLIENT_SECRET}".encode()).decode()
        posted = (form.get("client_id"), form.get("client_secret")) == (CLIENT, CLIENT_SECRET)
        if request.headers.get("authorization") != basic and not posted:
            return JSONResponse({"error": "invalid_client"}, 401)
        asked = self._codes.pop(form["code"], None)
        if asked is None or asked["redirect_uri"] != form["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse(
            {"access_token": ACCESS, "token_type": "Bearer", "expires_in": 60, "id_token": self._id_token(asked)}
        )

    def _id_token(self, asked: dict[str, str]) -> str:
        at = int(self.now().timestamp())
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": "u1",
            "iat": at,
            "exp": at + 300,
            "nonce": asked["nonce"],
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.alg in ("none", "HS256"):
            return _by_hand(self.alg, claims, self.key)
        return jwt.encode({"alg": self.alg, "kid": "one"}, claims, self.key, algorithms=[self.alg])

    async def _userinfo(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {ACCESS}":
            return PlainTextResponse("no", 401)
        return JSONResponse(self.userinfo)


def _by_hand(alg: str, claims: dict[str, Any], key: RSAKey) -> str:
    """Signed by nobody, or by HMAC with what everybody knows: no library makes such a thing."""
    said = b".".join(_text(orjson.dumps(part)) for part in ({"alg": alg, "kid": "one"}, claims))
    tag = hmac.digest(key.as_pem(private=False), said, "sha256") if alg == "HS256" else b""
    return b".".join((said, _text(tag))).decode()


def _text(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


@contextlib.contextmanager
def a_provider(now: Callable[[], datetime], host: str = "127.0.0.1") -> Iterator[OpenId]:
    port = free_port()
    provider = OpenId(f"http://{host}:{port}", now)
    with serving(provider.app(), port=port):
        yield provider
