"""The report as Markdown, for a ticket or a wiki."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from devicevault_cli.output.escapes import visible
from devicevault_cli.output.report.content import (
    Answer,
    Step,
    Table,
    devices,
    losses,
    peak,
    span_name,
    summary,
    tables,
)

BAR = 30


def markdown(answer: Answer, about: Mapping[str, str], steps: Sequence[Step]) -> str:
    """The report. `about`: names and values that say what was verified."""
    return "\n".join(_lines(answer, about, steps)) + "\n"


def _lines(answer: Answer, about: Mapping[str, str], steps: Sequence[Step]) -> Iterator[str]:
    yield f"# dvctl verify: {_escaped(about.get('stream', ''))}"
    yield from ["", f"**{_escaped(summary(answer))}**"]
    lost = losses(answer)
    if lost["lost_since"]:
        yield from ["", f"Lost since {lost['lost_since']} until {lost['lost_until']}."]
    if steps:
        yield from ["", "## Next steps", "", "```"]
        # A blank line between the steps: they are to be run one at a time.
        yield "\n\n".join(f"# {visible(step.why)}\n{visible(step.command)}" for step in steps)
        yield "```"
    if lost["timeline"]:
        yield from _table(_timeline(lost))
    if table := devices(answer):
        yield from _table(table)
    for table in tables(answer):
        yield from _table(table)
    yield from _table(Table("Scope", ["", ""], list(about.items())))


def _timeline(lost: Answer) -> Table:
    most, span_length = peak(lost["timeline"])["lost"], span_name(lost["timeline_span_s"])
    rows = [[span["start"], span["lost"], "#" * max(1, round(BAR * span["lost"] / most))] for span in lost["timeline"]]
    return Table("Timeline", [f"{span_length} from", "lost", ""], rows)


def _table(table: Table) -> Iterator[str]:
    yield from [
        "",
        f"## {_escaped(table.title)}",
        "",
        f"| {' | '.join(table.head)} |",
        f"|{' --- |' * len(table.head)}",
    ]
    yield from (f"| {' | '.join(map(_cell, row))} |" for row in table.rows)


def _cell(value: str | int | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else _escaped(value)


def _escaped(text: str) -> str:
    """Untrusted text: it neither ends a cell nor becomes markup, nor moves a cursor."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#&" else letter for letter in visible(text))
