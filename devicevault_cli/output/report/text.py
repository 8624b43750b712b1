"""What a person reads of a verification, in ten seconds: what is there, what is missing, since when, what next."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from devicevault_cli.output.escapes import visible
from devicevault_cli.output.report.content import (
    GONE,
    MEANING,
    ROWS_MEANING,
    losses,
    span_name,
    summary,
)
from devicevault_cli.plural import number
from devicevault_cli.times import iso

WIDTH, LINES, DEVICES, NAME = 78, 10, 5, 40


def told(answer: Mapping[str, Any]) -> Iterator[str]:
    """The lines, none too long for a narrow terminal."""
    for line in _lines(answer):
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        yield from textwrap.wrap(line, WIDTH, subsequent_indent=indent, drop_whitespace=True) or [""]


def _lines(answer: Mapping[str, Any]) -> Iterator[str]:
    stream, rows = answer["stream"], answer["rows"]
    if stream["entries"]:
        yield f"{stream['entries']:,} entries, {stream['first_id']} to {stream['last_id']}; {rows['rows']:,} rows"
    else:
        yield f"no entries; {rows['rows']:,} rows"
    yield ""
    for name, count in answer["classes"].items():
        if count or name in ("persisted", "lost"):
            yield f"{count:>12,}  {name:<13} {MEANING[name]}"
    yield from _of_rows(rows, answer)
    yield from _of_losses(losses(answer), "lost" if "before" not in answer else "before the repair, lost")
    yield ""
    if answer.get("applied") and "repaired" in answer:
        yield "repaired: " + ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in answer["repaired"].items())
    yield f"{'OK: ' if answer['ok'] else 'PROBLEM: '}{summary(dict(answer))} ({answer['elapsed_s']:.1f} s)"


def _of_rows(rows: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[str]:
    if answer["pending_gone"]:
        yield f"{answer['pending_gone']:>12,}  pending gone  {GONE}"
    for name, what in ROWS_MEANING.items():
        if name != "rows" and rows[name]:
            yield f"{rows[name]:>12,}  {name.replace('_', ' '):<13} {what}"
    for key in ("columns_differing", "times_differing"):
        if answer.get(key):
            yield f"              {key.replace('_', ' ')}: " + ", ".join(
                f"{column} {count:,}" for column, count in answer[key].items()
            )


def _of_losses(answer: Mapping[str, Any], what: str) -> Iterator[str]:
    if not answer["lost_since"]:
        return
    yield ""
    yield f"{what} since {answer['lost_since']} until {answer['lost_until']}"
    if answer["lost_reasons"]:
        yield "  would be rejected: " + ", ".join(f"{why} {count:,}" for why, count in answer["lost_reasons"].items())
    yield from _when(answer)
    yield from _devices(answer)


def _when(answer: Mapping[str, Any]) -> Iterator[str]:
    """A small chart over the whole time, of at most LINES lines: longer spans where there are many."""
    span_s, timeline = answer["timeline_span_s"], answer["timeline"]
    starts = [int(datetime.fromisoformat(each["start"]).timestamp()) for each in timeline]
    wider = span_s * ((starts[-1] - starts[0]) // span_s // LINES + 1)
    sums: Counter[int] = Counter()
    for start, each in zip(starts, timeline, strict=True):
        sums[start - (start - starts[0]) % wider] += each["lost"]
    most = max(sums.values())
    yield f"  by {span_name(wider)}:"
    for start, lost in sorted(sums.items()):
        yield f"  {iso(start * 1000)[:16]}Z {'#' * max(1, round(30 * lost / most)):<30} {lost:>9,}"


def _devices(answer: Mapping[str, Any]) -> Iterator[str]:
    """The most affected, a line each: a name is untrusted, and may be long."""
    if answer["devices"]:
        yield f"  {number(answer['devices_affected'], 'device')}:"
    for each in answer["devices"][:DEVICES]:
        yield f"{each['lost']:>12,}  {each['device_id']:>6} {visible(each['name'] or 'unknown')[:NAME]}"
    if (more := answer["devices_affected"] - DEVICES) > 0:
        yield f"              and {more:,} more; --report FILE.html tells more"
