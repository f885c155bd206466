"""`/pixel.js`: our own storefront script, made for one app by its public id. It asks no database."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from importlib.resources import files
from string import ascii_letters

from starlette.requests import Request
from starlette.responses import Response

from core.doors.endpoint_http import answer

# What may stand between quotes in a script without being looked at twice.
_APP_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLACE = "__APP_ID__"
_HEADERS = {
    "Cache-Control": "public, max-age=600",
    "X-Content-Type-Options": "nosniff",
    # Pages that isolate themselves (COEP) load nothing without these.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_LONG_NAME = re.compile(r"\$[A-Za-z]+")
_LETTER = re.compile(r"(?<![\w$])[A-Za-z](?![\w$])")
_QUOTED = re.compile(r"('[^'\n]*'|`[^`\n]*`)")


async def pixel(request: Request) -> Response:
    app_id = request.query_params.get("id", "")
    if not _APP_ID.fullmatch(app_id):
        return answer({"error": "The id is missing or is no app's id"}, 400, {"X-Content-Type-Options": "nosniff"})
    return Response(script().replace(_PLACE, app_id), 200, _HEADERS, "application/javascript; charset=utf-8")


@cache
def script() -> str:
    """What is served, with a place for the app's id."""
    source = files("core.inbound").joinpath("pixel.js").read_text(encoding="utf-8")
    lines = (line.strip() for line in source.splitlines())
    return _without_blanks(_short_names("\n".join(line for line in lines if line and not line.startswith("//"))))


def _short_names(source: str) -> str:
    """A letter for each name that begins with a dollar sign, which nothing but the script's own names does."""
    names = [name for name, _ in Counter(_LONG_NAME.findall(source)).most_common()]
    taken = set(_LETTER.findall(source))
    free = [letter for letter in ascii_letters if letter not in taken] + [f"${letter}" for letter in ascii_letters]
    short = dict(zip(names, free, strict=False))
    return _LONG_NAME.sub(lambda found: short[found[0]], source)


def _without_blanks(source: str) -> str:
    """Blanks beside punctuation and line ends after what must go on are dropped; what is quoted stays as it is."""
    parts = _QUOTED.split(source)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"(?<=[^\w$\s]) +| +(?=[^\w$\s])", "", parts[i])
        parts[i] = re.sub(r"(?<=[,;:?{(\[])\n|\n(?=[})\]?:.])", "", parts[i])
    return "".join(parts)
