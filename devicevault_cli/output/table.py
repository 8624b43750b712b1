"""Plain tables that fit the terminal: long values are folded, and cut above a limit, with a note of their length."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any, Literal

from devicevault_cli.output.escapes import to_json, visible
from devicevault_cli.streams.model import LAST, EntryId
from devicevault_cli.times import show_duration

GAP = 2
LEAST = 6
"""The least width of a column, unless its content is narrower."""
COLOURS = {
    "status": {"ok": "green", "warning": "yellow", "unknown": "yellow", "problem": "red", "critical": "red"},
    "state": {"stuck": "yellow", "gone": "red", "lost": "red", "lost_invalid": "red"},
    "alive": {"yes": "green", "no": "yellow"},
}
"""Colours of values by column, on a terminal."""
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
        return "  ".join(f"{text(name)}={number}" for name, number in value.items())
    if isinstance(value, Mapping):
        return "  ".join(f"{visible(str(name))}={show(str(name), item)}" for name, item in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return " ".join(text(to_json(item)) if isinstance(item, dict) else show("", item) for item in value) or "-"
    return text(position(str(value)))


def position(value: str) -> str:
    """A position at the end of a millisecond as its time; any other text as it is."""
    match = _END_OF_MILLISECOND.fullmatch(value)
    return EntryId(int(match[1]), LAST.seq).shown if match else value


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
    return f"{value:.1f}" if isinstance(value, float) else str(value)


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
    cells = [[show(key, row.get(key)) for key in columns] for row in rows]
    right = [all(isinstance(row.get(key), (int, float, type(None))) for row in rows) for key in columns]
    colours = [COLOURS.get(key, {}) for key in columns] if colour else None
    return lines_of([[heading(key) for key in columns], *cells], width, right, colours=colours)


def lines_of(
    cells: Sequence[Sequence[str]],
    width: int,
    right: Sequence[bool] | None = None,
    sizes: Sequence[int] | None = None,
    colours: Sequence[Mapping[str, str]] | None = None,
) -> list[str]:
    """Lay inert text out in columns of these sizes, or of what they need; what does not fit is folded.

    colours: for each column, the values that have a colour.
    """
    columns = list(zip(*cells, strict=True))
    widths = sizes or fit(
        [max(1, *map(cell_width, column)) for column in columns], width, list(map(_longest_word, columns))
    )
    to_right = right or [False] * len(widths)
    if not colours and all(cell_width(cell) <= size for row in cells for cell, size in zip(row, widths, strict=True)):
        # Without Rich: its import costs a command about 30 ms.
        padded = (map(_pad, row, widths, to_right) for row in cells)
        return [(" " * GAP).join(row).rstrip() for row in padded]
    return _fold(cells, widths, to_right, colours)


def _pad(cell: str, size: int, to_right: bool) -> str:
    padding = " " * (size - cell_width(cell))
    return padding + cell if to_right else cell + padding


def _fold(
    cells: Sequence[Sequence[str]],
    widths: Sequence[int],
    to_right: Sequence[bool],
    colours: Sequence[Mapping[str, str]] | None,
) -> list[str]:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, GAP, 0, 0))
    for size, is_right in zip(widths, to_right, strict=True):
        grid.add_column(width=max(1, size), justify="right" if is_right else "left", overflow="fold")
    for row in cells:
        grid.add_row(
            *(Text(cell, styles.get(cell, "")) for cell, styles in zip(row, colours or [{}] * len(row), strict=True))
        )
    page = StringIO()
    # Lines of very many columns are longer than the terminal: Rich would cut them at the width of its console.
    total = sum(widths) + GAP * len(widths) + 1
    system: Literal["standard"] | None = "standard" if colours else None
    console = Console(
        file=page, width=total, color_system=system, force_terminal=True, highlight=False, markup=False, emoji=False
    )
    console.print(grid)
    return [line.rstrip() for line in page.getvalue().splitlines()]


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
