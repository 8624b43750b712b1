"""The page of `dvctl top`, as lines."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicevault_cli.output.escapes import visible
from devicevault_cli.output.table import show, table
from devicevault_cli.times import show_duration

CONSUMERS = 12
"""Consumers shown at most."""
CONSUMER_COLUMNS = ("name", "pending", "idle_ms", "alive")
FAILURE_COLUMNS = ("id", "reason", "device_id", "detail")


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
class Page:
    """What is drawn. `length` is None without a stream, `group` without a group; `database`: why it is unusable."""

    length: int | None
    group: GroupFigures | None
    dead: int
    discarded: int
    consumers: Sequence[Mapping[str, Any]]
    failures: Sequence[Mapping[str, Any]]
    incidents: Sequence[str] = ()
    database: str | None = None


def lines(stream: str, group: str, page: Page, width: int, coloured: bool) -> Iterator[str]:
    """The whole page."""
    yield _title(stream, group, coloured)
    if page.database:
        yield _red(f"database: {visible(page.database)}", coloured)
    yield ""
    for incident in page.incidents:
        yield _red(f"INCIDENT  {visible(incident)}", coloured)
    figures = page.group
    if figures is None:
        yield f"there is no {'stream' if page.length is None else 'group'} yet"
        return
    yield f"lag       {_amount(figures.lag)} of {_amount(page.length)} entries, {_behind(figures.lag_s)}"
    yield f"pending   {_amount(figures.pending)}{_oldest(figures.oldest_pending_age_ms)}"
    yield f"rates     {_rates(figures)}"
    yield f"failed    {_amount(page.dead)} dead letters, {_amount(page.discarded)} discarded"
    yield from _section("consumers", page.consumers, CONSUMER_COLUMNS, CONSUMERS, width, coloured)
    yield from _section("newest dead letters", page.failures, FAILURE_COLUMNS, len(page.failures), width, coloured)


def trouble(stream: str, group: str, error: str, coloured: bool) -> Iterator[str]:
    """The page while Redis cannot be used."""
    yield _title(stream, group, coloured)
    yield ""
    yield visible(error)
    yield "retrying"


def _title(stream: str, group: str, coloured: bool) -> str:
    now = time.strftime("%H:%M:%S", time.gmtime())
    return _bold(f"{visible(group)} of {visible(stream)}, {now} UTC (q ends)", coloured)


def _red(line: str, coloured: bool) -> str:
    return f"\x1b[31m{line}\x1b[0m" if coloured else line


def _bold(line: str, coloured: bool) -> str:
    return f"\x1b[1m{line}\x1b[0m" if coloured else line


def _section(
    name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], most: int, width: int, coloured: bool
) -> Iterator[str]:
    yield ""
    if not rows:
        yield f"no {name}"
        return
    yield from table(rows[:most], columns, width, colour=coloured)
    if len(rows) > most:
        yield f"... and {len(rows) - most} more"


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
