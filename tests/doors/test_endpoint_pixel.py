from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from starlette.applications import Starlette
from starlette.routing import Route

from core.doors.endpoint_pixel import pixel, script
from tests.inbound.serving import serving

ROOT = Path(__file__).parents[2]
LIMIT = 4096
LONGEST = "x" * 64


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The script's route and nothing else: no database, no app."""
    with serving(Starlette(routes=[Route("/pixel.js", pixel)])) as address:
        yield f"{address}/pixel.js"


@pytest.mark.parametrize("app_id", ["app_public", "a", "c0ffee-1_X", LONGEST])
def test_an_app_gets_its_script(url: str, app_id: str) -> None:
    answer = requests.get(url, {"id": app_id}, timeout=10)
    assert answer.status_code == 200
    assert f"'{app_id}'" in answer.text
    assert len(answer.content) < LIMIT
    shown = {name.lower(): value for name, value in answer.headers.items()}
    assert shown["content-type"] == "application/javascript; charset=utf-8"
    assert shown["x-content-type-options"] == "nosniff"
    assert shown["cache-control"] == "public, max-age=600"
    assert shown["access-control-allow-origin"] == "*"
    assert shown["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "id=",
        f"id={LONGEST}x",
        "id=a%27-alert(1)-%27",
        "id=</script>",
        "id=a%0A",
        "id=a%5C",
        "id=a%20b",
        "id=%C3%A9",
        "id=%D9%A1",
        "id=a&id=%27",
        "id[]=a",
    ],
)
def test_what_is_no_id_is_refused_in_the_endpoints_shape(url: str, query: str) -> None:
    answer = requests.get(f"{url}?{query}", timeout=10)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "max-age" not in answer.headers.get("Cache-Control", "")


def test_only_get_and_head(url: str) -> None:
    head = requests.head(url, params={"id": "a"}, timeout=10)
    assert (head.status_code, head.content) == (200, b"")
    assert requests.post(url, params={"id": "a"}, timeout=10).status_code == 405


def test_long_names_and_comments_stay_at_home() -> None:
    served = script()
    assert served.isascii()
    assert served.count("__APP_ID__") == 1
    assert not re.search(r"\$[A-Za-z]{2}", served)
    assert "// " not in served
    assert "\n  " not in served


def test_the_script_is_shipped_with_the_package() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["core"]
    core = ROOT / "core"
    others = [
        path.relative_to(core).as_posix()
        for path in core.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert "inbound/pixel.js" in others
    assert [path for path in others if not any(fnmatch.fnmatch(path, pattern) for pattern in patterns)] == []
