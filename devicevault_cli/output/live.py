"""The page of `dvctl top`, as lines."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicevault_cli.output.escapes import visible
from devicevault_cli.output.sparkline import sparkline
from devicevault_cli.output.status_page import STATES
from devicevault_cli.output.table import cell_of, cell_width, heading, show, text
from devicevault_cli.output.view import Cell, View
from devicevault_cli.times import now_iso, show_duration

CONSUMER_COLUMNS = ("name", "pending", "idle_ms", "alive")
FAILURE_COLUMNS = ("at", "id", "reason", "device_id", "detail")
LEAST_ROWS = 3
"""Rows that each table has at least, however low the terminal is."""
HEADS = {"alive": "STATE", "at": "TIME"}
BESIDE = 65
"""Columns that stand beside the detail of a dead letter."""
NAME = 10
"""Columns of the names on the left."""
KEYS = {
    "q": ("quit", "quit"),
    "p": ("pause", "pause, or go on"),
    "g": ("group", "next group of the stream"),
    "s": ("pipeline", "the other pipeline: results or storage"),
    "?": ("help", "these keys, or back"),
}
"""What each key does, in a word and in more."""


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """Figures of the group, in entries, seconds, milliseconds and messages a second. None is unknown."""

    lag: int | None
    lag_s: float | None
    pending: int
    oldest_pending_age_ms: int | None
    arriving: float | None
    processed: float | None
    caught_up_s: float | None


@dataclass(frozen=True, slots=True)
class Courses:
    """What the looks of the last minutes found, the oldest first: entries, messages a second, dead letters."""

    lag: Sequence[float | None] = ()
    arriving: Sequence[float | None] = ()
    processed: Sequence[float | None] = ()
    failed: Sequence[float | None] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """What is drawn. `length` is None without a stream, `group` without a group; `database`: why it is unusable.

    state, verdict: what is said of all in one sentence.  pipeline: its name.
    """

    length: int | None
    group: GroupFigures | None
    dead: int
    discarded: int
    consumers: Sequence[Mapping[str, Any]]
    failures: Sequence[Mapping[str, Any]]
    incidents: Sequence[str] = ()
    database: str | None = None
    state: str = "ok"
    verdict: str = ""
    courses: Courses = Courses()
    pipeline: str = ""


def lines(
    stream: str, group: str, page: Page, view: View, height: int, *, paused: bool = False, keys: bool = False
) -> list[str]:
    """The whole page, at most `height` lines; the last one names the keys."""
    found = [_title(stream, group, view, page.pipeline, paused=paused), *_state(page, view), ""]
    if keys:
        found += [f"{view.paint(key, 'bold')}  {what}" for key, (_, what) in KEYS.items()]
    elif page.group is None:
        found.append(f"there is no {'stream' if page.length is None else 'group'} yet")
    else:
        found += _figures(page, page.group, view)
        found += _courses(page.courses, view)
        found += _tables(page, view, height - len(found) - 1)
    found = found[: height - 1]
    return [*found, *[""] * (height - 1 - len(found)), _footer(view)]


def trouble(stream: str, group: str, error: str, view: View, pipeline: str = "") -> list[str]:
    """The page while Redis cannot be used."""
    return [
        _title(stream, group, view, pipeline),
        *(view.state("problem", line) for line in view.folded(f"PROBLEM: {visible(error)}", indent="  ")),
        "",
        "retrying",
    ]


def _title(stream: str, group: str, view: View, pipeline: str, *, paused: bool = False) -> str:
    now = time.strftime("%H:%M:%S", time.gmtime())
    left, right = (
        f"{visible(group)} of {visible(stream)}{f' ({pipeline})' if pipeline else ''}",
        f"{'paused, ' if paused else ''}{now} UTC",
    )
    gap = max(2, view.width - cell_width(left) - cell_width(right))
    return view.paint(left, "bold") + " " * gap + (view.paint(right, "yellow") if paused else right)


def _footer(view: View) -> str:
    return "  ".join(f"{view.paint(key, 'bold')} {word}" for key, (word, _) in KEYS.items())


def _state(page: Page, view: View) -> Iterator[str]:
    """The verdict, and what is away or was lost."""
    if page.verdict:
        for line in view.folded(f"{page.state.upper()}: {visible(page.verdict)}", indent="  "):
            yield view.state(page.state, line)
    if page.database:
        yield view.paint(f"database: {visible(page.database)}", "red")
    for incident in page.incidents:
        yield view.paint(f"INCIDENT  {visible(incident)}", "red")


def _figures(page: Page, group: GroupFigures, view: View) -> Iterator[str]:
    facts = {
        "lag": f"{_amount(group.lag)} of {_amount(page.length)} entries, {_behind(group.lag_s)}",
        "pending": f"{_amount(group.pending)}{_oldest(group.oldest_pending_age_ms)}",
        "rates": _rates(group),
        "failed": f"{page.dead:,} dead letter{'' if page.dead == 1 else 's'}, {page.discarded:,} discarded",
    }
    for name, fact in facts.items():
        yield view.paint(f"{name:<{NAME}}", "bold") + fact


def _courses(courses: Courses, view: View) -> Iterator[str]:
    """A line of bars for each number, with its largest value."""
    named = {
        "lag": (courses.lag, ""),
        "arriving": (courses.arriving, "/s"),
        "processed": (courses.processed, "/s"),
        "failures": (courses.failed, ""),
    }
    if not any(values for values, _ in named.values()):
        return
    yield ""
    width = max(10, view.width - NAME - 16)
    for name, (values, unit) in named.items():
        shown = values[-width:]
        most = max((value for value in shown if value is not None), default=0)
        bars = sparkline(shown, width, ascii_only=view.ascii_only)
        largest = f"{most:,.1f}{unit}" if unit else f"{most:,.0f}"
        yield f"{view.paint(f'{name:<{NAME}}', 'bold')}{bars:<{width}}  max {largest}"


def _tables(page: Page, view: View, height: int) -> Iterator[str]:
    """Consumers and dead letters share the rows that are left; what one does not need the other has."""
    rows = max(2 * LEAST_ROWS, height - 4)
    half = max(LEAST_ROWS, rows // 2)
    consumers = min(len(page.consumers), max(half, rows - len(page.failures)))
    yield from _section("consumers", page.consumers, CONSUMER_COLUMNS, consumers, view)
    yield from _section("dead letters", page.failures, FAILURE_COLUMNS, max(LEAST_ROWS, rows - consumers), view)


def _section(
    name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], most: int, view: View
) -> Iterator[str]:
    yield ""
    if not rows:
        yield f"no {name}"
        return
    shown = rows[: most - 1] if len(rows) > most else rows
    room = max(12, view.width - BESIDE)
    cells = [[_cell(key, row.get(key), room) for key in columns] for row in shown]
    right = {HEADS.get(key) or heading(key): key in ("pending", "idle_ms") for key in columns}
    yield from view.table(right, cells)
    if len(rows) > len(shown):
        yield f"... and {len(rows) - len(shown):,} more"


def _cell(key: str, value: Any, room: int) -> Cell:
    """A time of today, or of another day; a detail is cut, since a row that folds would push others off the screen."""
    if key == "alive":
        return STATES[value]
    if key == "at":
        at = text(value)
        return Cell(at[11:19] if at[:10] == now_iso()[:10] else at[5:16].replace("T", " "))
    if key == "detail":
        shown = text(value)
        return Cell(shown if len(shown) <= room else f"{shown[: room - 3]}...")
    return cell_of(key, value)


def _amount(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


def _behind(seconds: float | None) -> str:
    if seconds is None:
        return "behind for an unknown time"
    return f"{show_duration(seconds * 1000)} behind" if seconds else "nothing behind"


def _oldest(age_ms: int | None) -> str:
    return "" if age_ms is None else f", the oldest is {show_duration(age_ms)} old"


def _rates(figures: GroupFigures) -> str:
    if figures.arriving is None or figures.processed is None:
        return "measuring"
    rates = f"{figures.arriving:,.1f}/s arriving, {figures.processed:,.1f}/s processed"
    if figures.caught_up_s is None:
        return f"{rates}, not catching up"
    return f"{rates}, caught up in {show('x_s', figures.caught_up_s)}" if figures.caught_up_s else f"{rates}, caught up"
