"""An open WebSocket of a page: it ends when the session does, however long the page stays open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from starlette.types import Message, Receive, Send

from core.doors.console_gate import Pass
from core.doors.console_login_page import login_at


class Line:
    """Stands between the browser and Streamlit. `ask(by_hand)` says whether the session still holds."""

    def __init__(
        self, ask: Callable[[bool], Awaitable[Pass]], receive: Receive, send: Send, *, check_every: float
    ) -> None:
        self._ask, self._receive, self._send, self._check_every = ask, receive, send, check_every
        self._accepted = self._over = False
        self._page = "/"

    async def carry(self, app: Callable[[], Awaitable[None]]) -> None:
        """Run Streamlit's side until the browser leaves or the session ends."""
        watch = asyncio.create_task(self._watch())
        try:
            await app()
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def hear(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.receive" and not self._over:
            by_hand, self._page = _read(message.get("bytes") or b"", self._page)
            await self._check(by_hand=by_hand)
        return {"type": "websocket.disconnect", "code": 1008} if self._over else message

    async def say(self, message: Message) -> None:
        self._accepted = self._accepted or message["type"] == "websocket.accept"
        if not self._over:
            await self._send(message)

    async def _watch(self) -> None:
        while not self._over:
            await asyncio.sleep(self._check_every)
            if self._accepted:
                await self._check(by_hand=False)

    async def _check(self, *, by_hand: bool) -> None:
        said = await self._ask(by_hand)
        # A database that is away for a moment ends no session: the page can show nothing meanwhile.
        if said in (Pass.IN, Pass.AWAY) or self._over:
            return
        self._over = True
        with contextlib.suppress(RuntimeError):  # the browser was gone already
            await self._send({"type": "websocket.send", "bytes": _leads_to(self._page)})
            await self._send({"type": "websocket.close", "code": 1008})


def _read(raw: bytes, page: str) -> tuple[bool, str]:
    """(whether a person did something, the page they are on). Parts of a page that refresh by themselves are nobody."""
    from streamlit.proto.BackMsg_pb2 import BackMsg

    try:
        message: Any = BackMsg.FromString(raw)
    except DecodeError:
        return False, page
    if message.HasField("backend_operation_request"):
        return True, page
    if not message.HasField("rerun_script"):
        return False, page
    parts = urlsplit(message.rerun_script.context_info.url)
    now_at = parts.path + (f"?{parts.query}" if parts.query else "") if parts.path else page
    return not message.rerun_script.is_auto_rerun, now_at


def _leads_to(page: str) -> bytes:
    """Streamlit's own message that sends the browser elsewhere."""
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

    message: Any = ForwardMsg()
    message.auth_redirect.url = login_at(page)
    return bytes(message.SerializeToString())
