"""The report of a verification as Markdown, for a ticket or a wiki."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from devicevault_cli.output.escapes import visible
from devicevault_cli.output.report.content import (
    Answer,
    Step,
    Table,
    busiest,
    devices,
    losses,
    span_name,
    summary,
    tables,
)

BAR = 30


def markdown(answer: Answer, about: Mapping[str, str], steps: Sequence[Step]) -> str:
    """The report. `about`: what was verified, in a few names and values."""
    return "\n".join(_lines(answer, about, steps)) + "\n"


def _lines(answer: Answer, about: Mapping[str, str], steps: Sequence[Step]) -> Iterator[str]:
    yield f"# dvctl verify: {_inert(about.get('stream', ''))}"
    yield from ["", f"**{_inert(summary(answer))}**"]
    lost = losses(answer)
    if lost["lost_since"]:
        yield from ["", f"Lost since {lost['lost_since']} until {lost['lost_until']}."]
    if steps:
        yield from ["", "## What to type next", "", "```"]
        # A blank line between the steps: they are to be typed one at a time.
        yield "\n\n".join(f"# {visible(each.why)}\n{visible(each.command)}" for each in steps)
        yield "```"
    if lost["timeline"]:
        yield from _table(_when(lost))
    if table := devices(answer):
        yield from _table(table)
    for each in tables(answer):
        yield from _table(each)
    yield from _table(Table("What was verified", ["", ""], [[name, value] for name, value in about.items()]))


def _when(lost: Answer) -> Table:
    most, span = busiest(lost["timeline"])["lost"], span_name(lost["timeline_span_s"])
    rows = [[each["start"], each["lost"], "#" * max(1, round(BAR * each["lost"] / most))] for each in lost["timeline"]]
    return Table("When", [f"{span} from", "lost", ""], rows)


def _table(table: Table) -> Iterator[str]:
    yield from ["", f"## {_inert(table.title)}", "", f"| {' | '.join(table.head)} |", f"|{' --- |' * len(table.head)}"]
    yield from (f"| {' | '.join(map(_cell, row))} |" for row in table.rows)


def _cell(value: str | int | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else _inert(value)


def _inert(text: str) -> str:
    """Text of messages must not end a cell or become markup, nor move a cursor."""
    return "".join(f"\\{each}" if each in "\\`*_[]<>|#&" else each for each in visible(text))
