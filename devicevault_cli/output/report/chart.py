"""The chart of the HTML report: when entries were lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from devicevault_cli.output.report.content import Answer, peak, span_name
from devicevault_cli.times import iso

MIN_SPANS = 24
"""The least number of spans a chart has room for, so that a single bar does not fill it."""
MAX_BARS = 240
"""Bars narrower than the chart's width divided by this are invisible."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One span with losses, in units of the chart's box."""

    x: str
    y: str
    width: str
    height: str
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars where they belong in time. `box`: of the SVG, one unit wide per span, 100 units high."""

    caption: str
    label: str
    box: str
    bars: Sequence[Bar]
    ticks: Sequence[str]


def chart_of(timeline: Sequence[Answer], span_s: int) -> Chart | None:
    """The chart of `timeline` (`{start, lost}`, oldest first), or None if nothing was lost."""
    if not timeline:
        return None
    starts = [datetime.fromisoformat(span["start"]).timestamp() for span in timeline]
    spans = max(MIN_SPANS, round((starts[-1] - starts[0]) / span_s) + 1)
    most, name = peak(timeline), span_name(span_s)
    most_start = most["start"][:16].replace("T", " ")
    width = max(0.9, spans / MAX_BARS)
    ends = [iso(round((starts[0] + spans * span_s * part / 2) * 1000)) for part in range(3)]
    return Chart(
        caption=f"Losses by {name}; peak: {most['lost']:,} in the {name} from {most_start} UTC",
        label=f"losses by {name}",
        box=f"0 0 {spans} 100",
        bars=[
            _bar(span, min((start - starts[0]) / span_s, spans - width), width, most["lost"])
            for start, span in zip(starts, timeline, strict=True)
        ],
        ticks=[_tick(end, spans * span_s) for end in ends],
    )


def _bar(span: Answer, x: float, width: float, most: int) -> Bar:
    height = max(1.5, 100 * span["lost"] / most)
    title = f"{span['start']}: {span['lost']:,}"
    return Bar(f"{x:.2f}", f"{100 - height:.2f}", f"{width:.2f}", f"{height:.2f}", title)


def _tick(moment: str, length_s: int) -> str:
    """A time on the axis, as precise as the length of the axis allows."""
    if length_s <= 86_400:
        return moment[11:16]
    return moment[:10] if length_s > 7 * 86_400 else f"{moment[5:10]} {moment[11:16]}"
