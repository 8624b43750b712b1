"""The report as lines for a terminal: what exists, what is missing, since when, and the result."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

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
from devicevault_cli.plural import number
from devicevault_cli.times import iso

WIDTH, SPANS, DEVICES, NAME = 78, 10, 5, 40
"""Columns of a line, lines of the chart, devices listed, characters of a device's name; at most."""


def text_lines(answer: Answer) -> Iterator[str]:
    """The lines, folded for a narrow terminal."""
    for line in _lines(answer):
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        yield from textwrap.wrap(line, WIDTH, subsequent_indent=indent, drop_whitespace=True) or [""]


def _lines(answer: Answer) -> Iterator[str]:
    stream, rows = answer["stream"], answer["rows"]
    ids = f", {stream['first_id']} to {stream['last_id']}" if stream["entries"] else ""
    yield f"{number(stream['entries'], 'entry', 'entries')}{ids}; {number(rows['rows'], 'row')}"
    yield ""
    for name, count in answer["classes"].items():
        if count or name in ("persisted", "lost"):
            yield _count(count, name, MEANING[name])
    if answer["pending_gone"]:
        yield _count(answer["pending_gone"], "pending gone", GONE)
    yield from _row_counts(answer)
    yield from _storage(answer)
    yield from _losses(losses(answer), "lost" if "before" not in answer else "lost before the repair,")
    yield ""
    if answer.get("applied") and "repaired" in answer:
        yield "repaired: " + ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in answer["repaired"].items())
    yield f"{'OK: ' if answer['ok'] else 'PROBLEM: '}{summary(answer)} ({answer['elapsed_s']:.1f} s)"


def _count(count: int, name: str, meaning: str) -> str:
    return f"{count:>12,}  {name:<13} {meaning}"


def _row_counts(answer: Answer) -> Iterator[str]:
    for name, meaning in ROWS_MEANING.items():
        if name != "rows" and answer["rows"][name]:
            yield _count(answer["rows"][name], name.replace("_", " "), meaning)
    for key in ("columns_differing", "times_differing"):
        if answer.get(key):
            columns = ", ".join(f"{column} {count:,}" for column, count in answer[key].items())
            yield f"              {key.replace('_', ' ')}: {columns}"


def _storage(answer: Answer) -> Iterator[str]:
    """What became of the configurations, where they were followed."""
    if "storage" not in answer:
        return
    yield ""
    yield "configurations of persisted successes"
    for name, count in answer["storage"].items():
        if count or name in ("stored", "not_stored"):
            yield f"{count:>12,}  {name:<16} {STORAGE_MEANING[name]}"


def _losses(answer: Answer, title: str) -> Iterator[str]:
    if not answer["lost_since"]:
        return
    yield ""
    yield f"{title} since {answer['lost_since']} until {answer['lost_until']}"
    if answer["lost_reasons"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in answer["lost_reasons"].items())
        yield f"  would be rejected: {reasons}"
    yield from _chart(answer)
    yield from _devices(answer)


def _chart(answer: Answer) -> Iterator[str]:
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
        yield f"  {iso(start * 1000)[:16]}Z {'#' * max(1, round(30 * lost / most)):<30} {lost:>9,}"


def _devices(answer: Answer) -> Iterator[str]:
    """The most affected devices, a line each. A name is untrusted, and may be long."""
    if answer["devices"]:
        yield f"  {number(answer['devices_affected'], 'device')}:"
    for device in answer["devices"][:DEVICES]:
        yield f"{device['lost']:>12,}  {device['device_id']:>6} {visible(device['name'] or 'unknown')[:NAME]}"
    if (more := answer["devices_affected"] - DEVICES) > 0:
        yield f"              and {more:,} more; use --report FILE.html for details"
