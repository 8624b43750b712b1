"""The picture of `dvctl status`: a verdict, then stream, groups and consumers as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from devicevault_cli.output.escapes import visible
from devicevault_cli.output.table import show, shown_time, text
from devicevault_cli.output.view import Cell, View
from devicevault_cli.plural import number
from devicevault_cli.times import show_duration

Answer: TypeAlias = Mapping[str, Any]

GROUPS = {"GROUP": False, "CONSUMERS": True, "LAG": True, "BEHIND": True, "PENDING": True, "OLDEST": True}
CONSUMERS = {"CONSUMER": False, "PENDING": True, "IDLE": True, "STATE": False}
STATES = {True: Cell("alive", "green"), False: Cell("dead", "red"), None: Cell("unknown", "yellow")}
LATE_S, VERY_LATE_S = 60, 600
"""Seconds behind from which a time is yellow, and red."""


def status_lines(answer: Answer, view: View, state: str, verdict: str, dispatch: str) -> Iterator[str]:
    """The whole picture. `state` and `verdict`: what is said of it in one sentence."""
    for line in view.folded(f"{state.upper()}: {visible(verdict)}", indent="  "):
        yield view.state(state, line)
    yield ""
    yield from view.grid([[Cell(name, "bold"), cell] for name, cell in _facts(answer, dispatch)])
    for section in (_groups(answer["groups"]), _consumers(answer["consumers"], len(answer["groups"]))):
        if section:
            heads, rows = section
            yield ""
            yield from view.table(heads, rows)


def _facts(answer: Answer, dispatch: str) -> Iterator[tuple[str, str | Cell]]:
    """What there is one of, by name."""
    yield from _stream(answer["stream"])
    if table := answer["table"]:
        yield "Table", _table(table)
    dead = answer["dead"]
    letters = f"{dead['length']:,}{_size(dead['bytes'])}"
    discarded = f", {answer['discarded']:,} discarded" if answer["discarded"] else ""
    yield "Dead letters", Cell(letters + discarded, "yellow" if dead["length"] else "")
    yield from _incidents(answer["incidents"])
    yield "Dispatch", text(dispatch)


def _stream(stream: Answer | None) -> Iterator[tuple[str, str]]:
    if stream is None:
        return
    entries = number(stream["length"], "entry", "entries")
    yield "Stream", f"{text(stream['key'])}: {entries}{_size(stream['bytes'])}"
    if stream["first_id"] and stream["last_id"]:
        yield "", f"{shown_time(stream['first_id'])} to {shown_time(stream['last_id'])}"


def _size(amount: int | None) -> str:
    return f", {show('bytes', amount)}" if amount else ""


def _table(table: Answer) -> Cell:
    name = text(table["name"])
    if "state" in table:
        return Cell(f"{name}: {text(table['state'])}", "red")
    latest = table["latest_timestamp"]
    newest = f", newest {latest[:19].replace('T', ' ')}Z" if latest else ""
    return Cell(f"{name}: {number(table['rows'], 'row')}{newest}")


def _incidents(incidents: Sequence[Answer] | None) -> Iterator[tuple[str, Cell]]:
    if incidents is None:
        yield "Incidents", Cell("unknown", "yellow")
    for at, incident in enumerate(incidents or ()):
        yield "" if at else "Incidents", Cell(text(f"{incident['at']} {incident['detail']}"), "red")


def _groups(groups: Sequence[Answer]) -> tuple[Mapping[str, bool], list[list[str | Cell]]] | None:
    """Columns that say nothing of any group are left out."""
    if not groups:
        return None
    trimmed = any(group["trimmed_unread"] for group in groups)
    rows: list[list[str | Cell]] = [
        [
            text(group["name"]),
            f"{group['consumers']:,}",
            Cell("unknown", "yellow") if group["lag"] is None else f"{group['lag']:,}",
            _late(group["lag_s"]),
            f"{group['pending']:,}",
            _late(None if group["oldest_pending_age_ms"] is None else group["oldest_pending_age_ms"] / 1000),
            *([Cell(show("", group["trimmed_unread"]), "red")] if trimmed else []),
        ]
        for group in groups
    ]
    return GROUPS | ({"REMOVED UNREAD": True} if trimmed else {}), rows


def _consumers(consumers: Sequence[Answer], groups: int) -> tuple[Mapping[str, bool], list[list[str | Cell]]] | None:
    """Dead consumers that hold entries come first; the group is named where there are several."""
    if not consumers:
        return None
    several = groups > 1
    ordered = sorted(consumers, key=lambda one: (one["alive"] is not False, -one["pending"], one["name"]))
    rows: list[list[str | Cell]] = [
        [
            *([text(one["group"])] if several else []),
            text(one["name"]),
            Cell(f"{one['pending']:,}", "red" if one["pending"] and one["alive"] is False else ""),
            show_duration(one["idle_ms"]),
            _state(one),
        ]
        for one in ordered
    ]
    return ({"GROUP": False} if several else {}) | CONSUMERS, rows


def _state(consumer: Answer) -> Cell:
    """A dead consumer is red while it holds entries, else yellow: then it is only a name that was left."""
    state = STATES[consumer["alive"]]
    return Cell("dead", "yellow") if consumer["alive"] is False and not consumer["pending"] else state


def consumers_lines(stream: str, answer: Answer, view: View) -> Iterator[str]:
    """The picture of `dvctl consumers`: how many live and hold what, then each."""
    consumers, group = answer["consumers"], text(answer["group"])
    if not consumers:
        yield from view.folded(f"no consumers: group {group} of {text(stream)} has none, or is not there yet", "", "  ")
        return
    dead = [one for one in consumers if one["alive"] is False]
    held, stuck = (sum(one["pending"] for one in those) for those in (consumers, dead))
    state = "problem" if stuck else "warning" if dead else "ok"
    count, verb = number(len(consumers), "consumer"), "is" if len(dead) == 1 else "are"
    found = [f"{len(dead):,} of {count} in group {group} {verb} dead" if dead else f"{count} in group {group}"]
    found += [f"{number(held, 'entry', 'entries')} pending"]
    found += [f"{'all' if stuck == held else f'{stuck:,} of them'} held by dead consumers"] if stuck else []
    for line in view.folded(f"{state.upper()}: {', '.join(found)}", indent="  "):
        yield view.state(state, line)
    heads, rows = _consumers([{**one, "group": answer["group"]} for one in consumers], 1) or ({}, [])
    yield ""
    yield from view.table(heads, rows)


def _late(seconds: float | None) -> Cell:
    if not seconds:
        return Cell("-")
    colour = "red" if seconds >= VERY_LATE_S else "yellow" if seconds >= LATE_S else ""
    return Cell(show_duration(seconds * 1000), colour)
