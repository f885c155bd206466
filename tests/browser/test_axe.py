"""What a screen reader and weak eyes need, looked at by axe-core (WCAG 2.1 A and AA) on every page in both themes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest

from core import clock
from core.doors.console import MENU
from tests.browser.conftest import Console
from tests.browser.screens import CHROMIUM, chromium, settle
from tests.desk import trouble

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium on this machine"),
]

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
RULES = "() => axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})"
# Streamlit draws these, and no setting of ours reaches them: rule → a part of the element it is about.
STREAMLITS = {
    "list": 'data-testid="stSidebarNavItems"',
    "listitem": "<li class=",
    "svg-img-alt": "metric_chart_",
}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_of_ours_on_any_page(console: Console, theme: str) -> None:
    for make in (trouble.open_cases, trouble.incident, trouble.alerts, trouble.failing_channel):
        make(console.engine, now=clock.now())
    found: list[str] = []
    with chromium() as browser:
        page = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=theme).new_page()
        for path in [entry.url_path for group in MENU.values() for entry in group if not entry.sandbox]:
            page.goto(f"{console.url}/{path}")
            settle(page)
            found += [f"{path or 'overview'}: {fault}" for fault in _faults(page)]
    assert found == []


def _faults(page: Any) -> list[str]:
    page.evaluate(AXE)
    told = page.evaluate(RULES)
    assert told["passes"], "axe has looked at nothing"
    return [
        f"{rule['id']} {node['html'][:120]} {node['failureSummary'][:200]}"
        for rule in told["violations"]
        for node in rule["nodes"]
        if STREAMLITS.get(rule["id"], "<none>") not in node["html"]
    ]
