"""What `top` draws: a look at a group, as lines."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from devicevault_cli.output.escapes import visible
from devicevault_cli.output.table import show, table
from devicevault_cli.times import show_duration

CONSUMERS = 12
_CONSUMERS = ("name", "pending", "idle_ms", "alive")
_FAILURES = ("id", "reason", "device_id", "detail")


def lines(stream: str, group: str, looked: Mapping[str, Any], width: int, coloured: bool) -> Iterator[str]:
    """The whole page; consumers that live or hold something stand first."""
    yield _title(stream, group, coloured)
    if away := looked.get("database"):
        line = f"database: {visible(away)}"
        yield f"\x1b[31m{line}\x1b[0m" if coloured else line
    yield ""
    for incident in looked.get("incidents", ()):
        yield _alarm(visible(incident), coloured)
    about, length = looked["group"], looked["stream"] and looked["stream"]["length"]
    if about is None:
        yield f"there is no {'stream' if length is None else 'group'} yet"
        return
    yield f"lag       {_amount(about['lag'])} of {_amount(length)} entries, {_behind(about['lag_s'])}"
    yield f"pending   {_amount(about['pending'])}{_oldest(about['oldest_pending_age_ms'])}"
    yield f"rates     {_rates(looked['rates'])}"
    yield f"given up  {_amount(looked['dead']['length'])} dead letters, {_amount(looked['discarded'])} discarded"
    consumers = sorted(looked["consumers"], key=lambda each: (not each["alive"], -each["pending"], each["name"]))
    yield from _section("consumers", consumers, _CONSUMERS, CONSUMERS, width, coloured)
    yield from _section("newest dead letters", looked["failures"], _FAILURES, len(looked["failures"]), width, coloured)


def trouble(stream: str, group: str, what: str, coloured: bool) -> Iterator[str]:
    """The page while Redis is away."""
    yield _title(stream, group, coloured)
    yield ""
    yield visible(what)
    yield "trying again"


def _title(stream: str, group: str, coloured: bool) -> str:
    title = f"{visible(group)} of {visible(stream)}, {time.strftime('%H:%M:%S', time.gmtime())} UTC (q ends)"
    return f"\x1b[1m{title}\x1b[0m" if coloured else title


def _alarm(text: str, coloured: bool) -> str:
    return f"\x1b[31mINCIDENT  {text}\x1b[0m" if coloured else f"INCIDENT  {text}"


def _section(
    name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], most: int, width: int, coloured: bool
) -> Iterator[str]:
    yield ""
    if not rows:
        yield f"no {name}"
        return
    head, *body = table(rows[:most], columns, width, colour=coloured)
    yield f"\x1b[1m{head}\x1b[0m" if coloured else head
    yield from body
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


def _rates(rates: tuple[float | None, float | None, float | None]) -> str:
    arriving, settling, caught_up_s = rates
    if arriving is None or settling is None:
        return "measuring"
    return f"{arriving:,.1f}/s arrive, {settling:,.1f}/s are settled{_until(caught_up_s)}"


def _until(caught_up_s: float | None) -> str:
    if caught_up_s is None:
        return ", not catching up"
    return f", caught up in {show('x_s', caught_up_s)}" if caught_up_s else ", caught up"
