"""Servers to compare with, on the very server that the endpoint runs on: `python -m tests.bench.serve KIND PORT`."""

from __future__ import annotations

import functools
import sys
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.doors import endpoint, wiring
from core.doors.intake import Entry, Intake
from core.inbound import track
from core.settings import load


def no_op() -> Starlette:
    """Takes a call's body, does nothing with it and answers."""

    async def answer(request: Request) -> Response:
        await request.body()
        return Response(b'{"success":true}', media_type="application/json")

    async def healthz(_request: Request) -> Response:
        return Response(b"ok")

    return Starlette(routes=[Route("/api/track", answer, methods=["POST"]), Route("/healthz", healthz)])


def one_by_one() -> Starlette:
    """Our endpoint, but each request with a commit of its own."""
    endpoint.Intake = functools.partial(Intake, group=1, linger=0)  # type: ignore[misc]
    settings = load()
    return endpoint.create_app(wiring.open_store(settings), settings)


class Unstored(Intake):
    """Says that all was written, and writes nothing."""

    async def write(self, entry: Entry) -> list[bool]:
        return [True] * len(entry.events)


def unstored() -> Starlette:
    """Our endpoint without its database."""
    endpoint.Intake = Unstored  # type: ignore[misc]
    settings = load()
    return endpoint.create_app(wiring.open_store(settings), settings)


def unmade() -> Starlette:
    """Our endpoint without its database, and without making an event: the first call's stands for all."""
    made, make = [], track.take

    def take(*given: Any, **more: Any) -> track.Taken:
        if not made:
            made.append(make(*given, **more))
        return made[0]

    track.take = take
    return unstored()


KINDS = {"no_op": no_op, "one_by_one": one_by_one, "unstored": unstored, "unmade": unmade}

if __name__ == "__main__":
    endpoint.run(KINDS[sys.argv[1]](), host="127.0.0.1", port=int(sys.argv[2]))
