"""The answers of a command about several streams, made one: all of them, totals, tables with a column `stream`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from devicevault_cli.output.escapes import to_json, visible
from devicevault_cli.output.printer import Answer, Printer, Row
from devicevault_cli.output.table import cell_of, heading, show
from devicevault_cli.output.view import Cell, View

STREAM = "stream"
OF_TABLE = ("rows", "duplicate_rows", "rows_without_entry", "rows_without_entry_in_range")
"""Numbers that tell of the table, which the streams share: no sum of them makes sense."""
NO_SUM = ("_s", "_ms")
"""Ends of keys of durations and rates; only the time that the command took adds up."""
ALL = ("ok", "applied")
"""Keys that are true of several streams if they are true of each."""

Columns: TypeAlias = Sequence[str] | Callable[[Answer], Row]
"""What a table shows: keys of the rows, or a function that makes the one row of a stream of its answer."""


@dataclass(slots=True)
class _Gathered:
    """What a command handed to its printer for one stream."""

    stream: str
    answer: Answer
    rows: str | None
    ids: Callable[[Answer], Iterable[object]] | None
    lines: Callable[[Answer], Iterable[str]] | None
    view: Callable[[Answer, View], Iterable[str]] | None
    keys: Sequence[str]

    @property
    def listed(self) -> list[Row]:
        """The rows, or the answer as the only one, with the stream."""
        items: Iterable[Any] = self.answer[self.rows] if self.rows else [self.answer]
        return [named(self.stream, item if isinstance(item, Mapping) else {"id": item}) for item in items]


@dataclass(slots=True)
class Gathering:
    """What the printers of all streams gather. `columns`: see Columns; None: each answer is shown below its stream."""

    columns: Columns | None = None
    found: list[_Gathered] = field(default_factory=list)
    hints: dict[str, None] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    streamed: str = ""
    """The key of rows that were printed as they came."""
    several: int = 0
    """How many of them."""


class GatheringPrinter(Printer):
    """Keeps the answers for one stream, and prints at once what has no end or must not wait."""

    def __init__(self, printer: Printer, stream: str, gathering: Gathering) -> None:
        super().__init__(printer.terminal, printer.output, errors=printer.errors, quiet=printer.quiet)
        self._of = stream
        self._gathering = gathering

    def answer(
        self,
        answer: Answer,
        rows: str | None = None,
        columns: Sequence[str] | None = None,
        *,
        ids: Callable[[Answer], Iterable[object]] | None = None,
        lines: Callable[[Answer], Iterable[str]] | None = None,
        view: Callable[[Answer, View], Iterable[str]] | None = None,
        keys: Sequence[str] = (),
    ) -> None:
        """Keep an answer."""
        self._gathering.found.append(_Gathered(self._of, answer, rows, ids, lines, view, keys or columns or ()))

    def stream(
        self,
        rows: Iterable[Row],
        columns: Mapping[str, int],
        key: str = "entries",
        *,
        view: Callable[[Iterable[Row], View], Iterable[str]] | None = None,
    ) -> None:
        """Print rows as they come, each with the stream."""
        gathering = self._gathering
        gathering.streamed = key
        for row in rows:
            first, gathering.several = gathering.several == 0, gathering.several + 1
            shown = named(self._of, row)
            if self.output == "ids":
                lines = [visible(f"{self._of} {row['id']}")]
            elif self.output == "json":
                self._clear()
                self.terminal.stdout.write(f"{f'{{{to_json(key)}: [' if first else ', '}{to_json(shown)}")
                continue
            elif self.output == "jsonl":
                lines = [to_json(shown)]
            elif self.output == "csv":
                lines = list(self._csv_lines([shown], [STREAM, *columns]))[0 if first else 1 :]
            else:
                widths = {STREAM: max(len(STREAM), len(self._of)), **columns}
                lines = list(self._fixed_lines([shown], widths))[0 if first else 1 :]
            self._flush(lines)

    def note(self, *lines: str) -> None:
        """Tell each note once."""
        for line in lines:
            if line not in self._gathering.notes:
                self._gathering.notes[line] = None
                super().note(line)

    def warn(self, text: str) -> None:
        """Warn of something, of this stream."""
        super().warn(text if self._of in text else f"{self._of}: {text}")

    def hint(self, text: str) -> None:
        """Keep a hint for the end."""
        self._gathering.hints[text] = None

    def step(self, command: str, why: str) -> None:
        """Keep a step for the end."""
        self._gathering.hints[f"{command}  # {why}"] = None

    def error(self, text: str, hint: str | None = None, code: int | None = None) -> None:
        """Report an error, of this stream."""
        super().error(text if self._of in text else f"{self._of}: {text}", hint, code)


def named(stream: str, row: Row) -> dict[str, Any]:
    """A row or answer that says which stream it is of; where `stream` holds facts, they are given its name as `key`."""
    if STREAM in row and not isinstance(row[STREAM], str):
        return {STREAM: {"key": stream} | (row[STREAM] or {})} | {
            key: value for key, value in row.items() if key != STREAM
        }
    return {STREAM: stream} | {key: value for key, value in row.items() if key != STREAM}


def print_gathered(printer: Printer, gathering: Gathering) -> None:
    """Print what was gathered as one answer, then the hints."""
    if gathering.streamed and printer.output == "json":
        begin = "" if gathering.several else f"{{{to_json(gathering.streamed)}: ["
        printer.terminal.stdout.write(f"{begin}]}}\n")
    found = gathering.found
    if found:
        _print(printer, found, gathering.columns)
    for hint in gathering.hints:
        printer.hint(hint)


def _print(printer: Printer, found: Sequence[_Gathered], columns: Columns | None) -> None:
    each = [named(one.stream, one.answer) for one in found]
    if printer.output == "json":
        printer.answer({"streams": each} | totals([one.answer for one in found]))
    elif printer.output in ("jsonl", "csv"):
        rows = [row for one in found for row in one.listed]
        printer.answer({"rows": rows}, "rows", keys=(STREAM, *found[0].keys))
    elif printer.output == "ids":
        ids = [f"{one.stream} {name}" for one in found for name in _ids(one)]
        printer.answer({"ids": ids}, "ids")
    else:
        printer.answer({}, view=lambda _, view: _page(found, columns, view))


def _ids(one: _Gathered) -> Iterable[object]:
    return one.ids(one.answer) if one.ids else [row["id"] for row in one.listed]


def totals(answers: Sequence[Answer]) -> dict[str, Any]:
    """What can be said of all streams: sums of counts, and what is the same for each."""
    keys = dict.fromkeys(key for answer in answers for key in answer if key != STREAM)
    return {key: value for key in keys if (value := _total(key, [answer.get(key) for answer in answers])) is not None}


def _total(key: str, values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    if not known:
        return None
    if key in ALL:
        return all(known)
    if key.endswith(NO_SUM) and key != "elapsed_s":
        return None
    if key in OF_TABLE and isinstance(known[0], int):
        return known[-1]
    if all(isinstance(value, Mapping) for value in known) and all(map(_is_count, known)):
        names = dict.fromkeys(name for value in known for name in value)
        return {name: _total(name, [value.get(name) for value in known]) for name in names}
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return round(sum(known), 3)
    same = len(known) == len(values) and all(value == known[0] for value in known)
    return known[0] if same and not isinstance(known[0], list | tuple) else None


def _is_count(value: Mapping[str, Any]) -> bool:
    return all(type(count) is int or count is None for count in value.values())


def _page(found: Sequence[_Gathered], columns: Columns | None, view: View) -> Iterator[str]:
    if columns is None:
        yield from _below_each_other(found, view)
    elif callable(columns):
        rows = [{STREAM: one.stream} | dict(columns(one.answer)) for one in found]
        yield from _table([*rows, {STREAM: "total"} | totals(rows)], list(rows[0]), view)
    else:
        listed = [row for one in found for row in one.listed]
        if listed:
            yield from _table(listed, [STREAM, *columns], view)
        else:
            yield f"none on {len(found)} streams"


def _table(rows: Sequence[Row], columns: Sequence[str], view: View) -> Iterator[str]:
    numbers = (int, float, type(None))
    right = {heading(key): all(isinstance(row.get(key), numbers) for row in rows) for key in columns}
    cells: list[list[Cell]] = [
        [Cell("") if key not in row else cell_of(key, row[key]) for key in columns] for row in rows
    ]
    yield from view.table(right, cells)


def _below_each_other(found: Sequence[_Gathered], view: View) -> Iterator[str]:
    for number, one in enumerate(found):
        if number:
            yield ""
        yield view.paint(visible(one.stream), "bold")
        if one.view:
            yield from one.view(one.answer, view)
        elif one.lines:
            yield from map(visible, one.lines(one.answer))
        else:
            for key, value in one.answer.items():
                yield f"{heading(key).lower()}  {show(key, value)}"
