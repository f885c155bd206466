"""A wave of expiries, time-lapsed, and its picture.

    python -m tests.wave [--tokens 10000] [--away 6] [--cap 60] [--plot docs/wave.png]

The wave itself is `core.drills.wave`; `capi-console drill wave` plays it without the picture.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

from core.drills.timelapse import hasten
from core.drills.wave import AWAY_AFTER, DAY, ENDS, HOUR, LASTS, Wave, simulate
from core.services.policy import Policy
from core.store import database, migrate


def draw(wave: Wave, target: Path) -> None:
    """The wave as a picture for README, 1200 pixels wide."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    from tests.browser.screens import chromium, small

    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.13,
        subplot_titles=(
            f"{wave.count:,} tokens with one end, by days left: none had less than 7 until day {LASTS / DAY:.0f}"
            if wave.untouched == 0
            else f"{wave.count:,} tokens with one end, by days left",
            "Refreshes begun in each quarter of an hour",
        ),
    )
    mark, quarter = ENDS - Policy().window, timedelta(minutes=15)
    hours = [(moment - mark) / HOUR for moment, *_ in wave.hours]
    bands = (("more than 30 days", "#3b7dd8"), ("7 to 30 days", "#b5d3f5"), ("less than 7 days", "#d64545"))
    for at, (name, colour) in enumerate(bands):
        counts = [row[at + 1] for row in wave.hours]
        line = {"width": 0, "color": colour}
        figure.add_trace(go.Scatter(x=hours, y=counts, name=name, stackgroup="left", line=line, fillcolor=colour), 1, 1)
    slots = Counter((moment - mark) // quarter for moment in wave.begun)
    first, last = min(slots) - 4, max(slots) + 10
    x = [(slot + 0.5) * quarter / HOUR for slot in range(first, last)]
    bars = go.Bar(x=x, y=[slots[slot] for slot in range(first, last)], marker_color="#3b7dd8", showlegend=False)
    figure.add_trace(bars, 2, 1)
    limit = {"dash": "dash", "color": "#555"}
    figure.add_hline(wave.cap * 15, line=limit, annotation_text=f"cap: {wave.cap} a minute", row=2, col=1)
    if wave.away:
        span = {"fillcolor": "#d64545", "opacity": 0.12, "line_width": 0, "annotation_text": "Meta is away"}
        span |= {"annotation_position": "top left"}
        figure.add_vrect(AWAY_AFTER / HOUR, AWAY_AFTER / HOUR + wave.away, row=2, col=1, **span)
    figure.update_xaxes(range=[x[0], x[-1]], dtick=4)
    figure.update_xaxes(title_text="hours since 30 days were left", row=2, col=1)
    figure.update_yaxes(rangemode="tozero", tickformat=",")
    legend = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.1, "traceorder": "normal"}
    figure.update_layout(template="plotly_white", width=1200, height=680, legend=legend, bargap=0.05, font_size=14)
    figure.update_layout(margin={"l": 70, "r": 30, "t": 80, "b": 60})
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        page_file = Path(folder) / "wave.html"
        figure.write_html(page_file, include_plotlyjs=True, config={"displayModeBar": False})
        page = browser.new_page(viewport={"width": 1216, "height": 700}, color_scheme="light")
        page.goto(page_file.as_uri())
        page.wait_for_selector(".barlayer")
        page.wait_for_timeout(500)
        target.write_bytes(small(page.locator(".plotly-graph-div").screenshot()))


def main() -> None:
    options = argparse.ArgumentParser(description="A wave of expiries, time-lapsed.")
    options.add_argument("--tokens", type=int, default=10_000)
    options.add_argument("--away", type=float, default=6.0, help="hours that Meta is away")
    options.add_argument("--cap", type=int, default=60, help="refreshes a minute, at most")
    options.add_argument("--plot", type=Path, help="a picture to write")
    given = options.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        engine = database.open_engine(f"sqlite:///{Path(folder) / 'wave.db'}")
        hasten(engine)
        migrate.prepare(engine)
        wave = simulate(engine, given.tokens, cap=given.cap, away=given.away)
        engine.dispose()
    print(wave.table())
    if given.plot:
        draw(wave, given.plot)
    sys.exit(0 if wave.passed else 1)


if __name__ == "__main__":
    main()
