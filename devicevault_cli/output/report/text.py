"""The report as lines for a terminal: what exists, what is missing, since when, and the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from devicevault_cli.output.escapes import visible
from devicevault_cli.output.report.content import (
    GONE,
    MEANING,
    ROWS_MEANING,
    STORAGE_MEANING,
    Answer,
    losses,
    span_name,
    summary,
)
from devicevault_cli.output.table import shown_time
from devicevault_cli.output.view import View
from devicevault_cli.plural import number
from devicevault_cli.times import iso

SPANS, DEVICES, NAME = 10, 5, 40
"""Lines of the chart, devices listed, characters of a device's name; at most."""
AMOUNT, BAR = 12, 30
"""Columns of a number, and of the longest bar."""
COLOURS = {
    "lost": "red",
    "lost_invalid": "red",
    "pending gone": "red",
    "duplicate rows": "red",
    "not_stored": "red",
    "store_failed": "red",
    "dead": "yellow",
    "conflicting": "yellow",
}
"""Colours of what is not 0."""
PLAIN = View(80, coloured=False)


class Count(NamedTuple):
    """A number, what it counts, and what that means."""

    amount: int
    name: str
    meaning: str


def text_lines(answer: Answer, view: View = PLAIN) -> Iterator[str]:
    """The lines, folded for a narrow terminal; what is missing is red, what needs attention yellow."""
    stream, rows = answer["stream"], answer["rows"]
    ids = f", {stream['first_id']} to {stream['last_id']}" if stream["entries"] else ""
    yield from view.folded(f"{number(stream['entries'], 'entry', 'entries')}{ids}; {number(rows['rows'], 'row')}")
    if stream["entries"]:
        yield f"{shown_time(stream['first_id'])} to {shown_time(stream['last_id'])}"
    yield ""
    yield from _counted(_counts(answer), view)
    for key in ("columns_differing", "times_differing"):
        if answer.get(key):
            columns = ", ".join(f"{column} {count:,}" for column, count in answer[key].items())
            yield from view.folded(f"{' ' * AMOUNT}  {key.replace('_', ' ')}: {columns}", indent=" " * (AMOUNT + 4))
    yield from _storage(answer, view)
    yield from _losses(losses(answer), "lost" if "before" not in answer else "lost before the repair,", view)
    yield ""
    if answer.get("applied") and "repaired" in answer:
        parts = [f"{name.replace('_', ' ')} {count:,}" for name, count in answer["repaired"].items() if count]
        yield f"repaired: {', '.join(parts) or 'nothing'}"
    state = "ok" if answer["ok"] else "problem"
    for line in view.folded(f"{state.upper()}: {summary(answer)} ({answer['elapsed_s']:.1f} s)", indent="  "):
        yield view.state(state, visible(line))


def _counts(answer: Answer) -> Iterator[Count]:
    """Entries by class, then what is wrong with rows."""
    for name, count in answer["classes"].items():
        if count or name in ("persisted", "lost"):
            yield Count(count, name, MEANING[name])
    if answer["pending_gone"]:
        yield Count(answer["pending_gone"], "pending gone", GONE)
    for name, meaning in ROWS_MEANING.items():
        if name != "rows" and answer["rows"][name]:
            yield Count(answer["rows"][name], name.replace("_", " "), meaning)


def _counted(counts: Iterable[Count], view: View) -> Iterator[str]:
    counts = list(counts)
    widest = max(len("lost_invalid"), *(len(name) for _, name, _ in counts))
    for count, name, meaning in counts:
        line = f"{count:>{AMOUNT},}  {name:<{widest}}  {meaning}"
        yield view.paint(line, COLOURS.get(name, "") if count else "")


def _storage(answer: Answer, view: View) -> Iterator[str]:
    """What became of the configurations, where they were followed."""
    if "storage" not in answer:
        return
    yield ""
    yield view.paint("configurations of persisted successes", "bold")
    yield from _counted(
        (
            Count(count, name, STORAGE_MEANING[name])
            for name, count in answer["storage"].items()
            if count or name in ("stored", "not_stored")
        ),
        view,
    )


def _losses(answer: Answer, title: str, view: View) -> Iterator[str]:
    if not answer["lost_since"]:
        return
    yield ""
    yield view.paint(f"{title} since {answer['lost_since']} until {answer['lost_until']}", "bold")
    if answer["lost_reasons"]:
        reasons = ", ".join(f"{visible(reason)} {count:,}" for reason, count in answer["lost_reasons"].items())
        yield from view.folded(f"  would be rejected: {reasons}", indent="    ")
    yield from _chart(answer, view)
    yield from _devices(answer, view)


def _chart(answer: Answer, view: View) -> Iterator[str]:
    """A bar a line over the whole time. Spans are widened until there are at most SPANS of them."""
    span_s, timeline = answer["timeline_span_s"], answer["timeline"]
    starts = [int(datetime.fromisoformat(span["start"]).timestamp()) for span in timeline]
    wider_s = span_s * ((starts[-1] - starts[0]) // span_s // SPANS + 1)
    sums: Counter[int] = Counter()
    for start, span in zip(starts, timeline, strict=True):
        sums[start - (start - starts[0]) % wider_s] += span["lost"]
    most = max(sums.values())
    yield f"  by {span_name(wider_s)}:"
    for start, lost in sorted(sums.items()):
        bar = view.bar * max(1, round(BAR * lost / most))
        padding = " " * (BAR - len(bar))
        yield f"  {iso(start * 1000)[:16]}Z {view.paint(bar, 'red')}{padding} {lost:>9,}"


def _devices(answer: Answer, view: View) -> Iterator[str]:
    """The most affected devices, a line each. A name is untrusted, and may be long."""
    if not answer["devices"]:
        return
    yield f"  {number(answer['devices_affected'], 'device')}:"
    yield view.paint(f"{'LOST':>{AMOUNT}}  {'DEVICE':>6}  NAME", "bold")
    for device in answer["devices"][:DEVICES]:
        name = visible(device["name"] or "unknown")[:NAME]
        yield f"{device['lost']:>{AMOUNT},}  {device['device_id']:>6}  {name}"
    if (more := answer["devices_affected"] - DEVICES) > 0:
        yield f"{' ' * AMOUNT}  and {more:,} more; use --report FILE.html for details"
