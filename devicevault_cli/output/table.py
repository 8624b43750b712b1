"""Plain tables that fit the terminal: long values are folded, and cut above a limit, with a note of their length."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any

from devicevault_cli.output.escapes import to_json, visible
from devicevault_cli.output.view import STATES, Cell, paint
from devicevault_cli.streams.model import LAST, EntryId
from devicevault_cli.times import iso, show_duration

GAP = 2
LEAST = 6
"""The least width of a column, unless its content is narrower."""
COLOURS = {
    "status": STATES,
    "state": {"stuck": "yellow", "gone": "red", "lost": "red", "lost_invalid": "red"},
    "alive": {"yes": "green", "no": "yellow"},
}
"""Colours of values by column, on a terminal."""
NUMBERED = ("id", "ids", "row", "pid", "port")
"""Last words of keys whose numbers count nothing: shown without separators of thousands."""
BESIDE = {"lag_s": "behind"}
"""Headings of columns that would have their neighbour's heading without the unit."""
_END_OF_MILLISECOND = re.compile(rf"([0-9]{{1,20}})-{LAST.seq}", re.ASCII)
LONGEST = 1000
"""Characters of a value that are shown; a message may hold millions."""


def show(key: str, value: Any) -> str:
    """A value for people; the suffix of its key is its unit (`_ms`, `_s`, `bytes`)."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return _number(key, value)
    if is_count(value):
        return "  ".join(f"{text(name)}={number:,}" for name, number in value.items())
    if isinstance(value, Mapping):
        return "  ".join(f"{visible(str(name))}={show(str(name), item)}" for name, item in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return " ".join(text(to_json(item)) if isinstance(item, dict) else show("", item) for item in value) or "-"
    return text(position(str(value)))


def position(value: str) -> str:
    """A position at the end of a millisecond as its time; any other text as it is."""
    match = _END_OF_MILLISECOND.fullmatch(value)
    return EntryId(int(match[1]), LAST.seq).shown if match else value


def shown_time(entry_id: str) -> str:
    """The time of an entry id, to the second: `2026-01-12 04:47:00Z`."""
    return f"{iso(EntryId.parse(entry_id).ms)[:19].replace('T', ' ')}Z"


def text(value: object) -> str:
    """Untrusted text, inert, and cut above `LONGEST` characters."""
    whole = str(value)
    return visible(whole) if len(whole) <= LONGEST else f"{visible(whole[:LONGEST])}... ({len(whole):,} characters)"


def is_count(value: Any) -> bool:
    """Whether the value is a mapping of names to counts. The names are data: shown as they are, without a unit."""
    return isinstance(value, Mapping) and bool(value) and all(type(count) is int for count in value.values())


def _number(key: str, value: float) -> str:
    if key.endswith("_ms"):
        return show_duration(value)
    if key.endswith("_s") and not key.endswith("per_s"):
        return show_duration(value * 1000)
    if key == "bytes" or key.endswith("_bytes"):
        return _size(value)
    if key.rsplit("_", maxsplit=1)[-1] in NUMBERED:
        return str(value)
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"


def _size(amount: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def label(key: str) -> str:
    """`idle_ms` -> `idle`, because the value is shown with its unit."""
    if key in BESIDE:
        return BESIDE[key]
    text = visible(key)
    return (text if text.endswith("per_s") else text.removesuffix("_ms").removesuffix("_s")).replace("_", " ")


def heading(key: str) -> str:
    """`idle_ms` -> `IDLE`."""
    return label(key).upper()


def columns_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys of all rows, in order of first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], width: int, *, colour: bool = False) -> list[str]:
    """The lines of a table with a heading; numbers are aligned to the right."""
    cells = [[cell_of(key, row.get(key)) for key in columns] for row in rows]
    right = [all(isinstance(row.get(key), (int, float, type(None))) for row in rows) for key in columns]
    return lines_of([[Cell(heading(key), "bold") for key in columns], *cells], width, right, coloured=colour)


def cell_of(key: str, value: Any) -> Cell:
    """A value for people, in the colour that it has by its key."""
    shown = show(key, value)
    return Cell(shown, COLOURS.get(key, {}).get(shown, ""))


def lines_of(
    cells: Sequence[Sequence[str | Cell]],
    width: int,
    right: Sequence[bool] | None = None,
    sizes: Sequence[int] | None = None,
    *,
    coloured: bool = False,
) -> list[str]:
    """Lay inert text out in columns of these sizes, or of what they need; what does not fit is folded."""
    rows = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in cells]
    columns = [[cell.text for cell in column] for column in zip(*rows, strict=True)]
    widths = sizes or fit(
        [max(1, *map(cell_width, column)) for column in columns], width, list(map(_longest_word, columns))
    )
    to_right = right or [False] * len(widths)
    if all(cell_width(cell.text) <= size for row in rows for cell, size in zip(row, widths, strict=True)):
        # Without Rich: its import costs a command about 30 ms.
        padded = ([_pad(*each, coloured) for each in zip(row, widths, to_right, strict=True)] for row in rows)
        return [(" " * GAP).join(row).rstrip() for row in padded]
    return folded(rows, widths, to_right, coloured=coloured)


def _pad(cell: Cell, size: int, to_right: bool, coloured: bool) -> str:
    padding = " " * (size - cell_width(cell.text))
    painted = paint(cell.text, cell.style) if coloured else cell.text
    return padding + painted if to_right else painted + padding


def folded(
    rows: Sequence[Sequence[Cell]], widths: Sequence[int], to_right: Sequence[bool], *, coloured: bool = False
) -> list[str]:
    """Columns of these widths; what does not fit goes on in the next line of its column."""
    from itertools import zip_longest

    from rich.console import Console
    from rich.text import Text

    console = Console(file=StringIO(), width=max(1, *widths))
    lines = []
    for row in rows:
        parts = [
            [Cell(part.plain.rstrip(), cell.style) for part in Text(cell.text).wrap(console, size, overflow="fold")]
            for cell, size in zip(row, widths, strict=True)
        ]
        for line in zip_longest(*parts, fillvalue=Cell("")):
            cells = [_pad(*each, coloured) for each in zip(line, widths, to_right, strict=True)]
            lines.append((" " * GAP).join(cells).rstrip())
    return lines


def fit(widths: Sequence[int], width: int, least: Sequence[int] | None = None) -> list[int]:
    """Narrow the widest columns, none below LEAST, until they fit.

    least: widths that are only undercut if nothing else helps: an id that is folded cannot be copied.
    """
    fitted = list(widths)
    excess = sum(fitted) + GAP * (len(fitted) - 1) - width
    for floors in ([max(LEAST, size) for size in least or ()], [LEAST] * len(fitted)):
        while excess > 0 and (wide := [at for at, floor in enumerate(floors) if fitted[at] > floor]):
            fitted[max(wide, key=fitted.__getitem__)] -= 1
            excess -= 1
    return fitted


def _longest_word(column: Sequence[str]) -> int:
    return max(cell_width(word) for cell in column for word in cell.split(" "))


def cell_width(text: str) -> int:
    """How many columns a terminal gives the text: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
