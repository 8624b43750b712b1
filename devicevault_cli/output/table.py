"""Plain tables that fit the terminal: a long value goes on in the next line, an absurd one is cut and says so."""

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
"""A column is never narrower, if its content is wider."""
COLOURS = {
    "status": {"ok": "green", "warning": "yellow", "unknown": "yellow", "problem": "red", "critical": "red"},
    "state": {"stuck": "yellow", "gone": "red", "lost": "red", "lost_invalid": "red"},
    "alive": {"yes": "green", "no": "yellow"},
}
"""On a terminal: what is well, what wants a look, what is wrong."""
BESIDE = {"lag_s": "behind"}
"""Names of columns that would be called as their neighbour is, without their unit."""
_END_OF_MILLISECOND = re.compile(rf"([0-9]{{1,20}})-{LAST.seq}", re.ASCII)
LONGEST = 1000
"""Characters of a value; a message may hold millions, which would roll everything else off the screen."""


def show(key: str, value: Any) -> str:
    """A value for people; the key's suffix tells its unit (`_ms`, `_s`, `bytes`)."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return _number(key, value)
    if is_count(value):
        return "  ".join(f"{text(name)}={number}" for name, number in value.items())
    if isinstance(value, Mapping):
        return "  ".join(f"{visible(str(name))}={show(str(name), each)}" for name, each in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return " ".join(text(to_json(each)) if isinstance(each, dict) else show("", each) for each in value) or "-"
    return text(position(str(value)))


def position(value: str) -> str:
    """A position at the end of a millisecond as its time; any other text as it is."""
    match = _END_OF_MILLISECOND.fullmatch(value)
    return EntryId(int(match[1]), LAST.seq).shown if match else value


def text(value: object) -> str:
    """Foreign text, inert."""
    whole = str(value)
    return visible(whole) if len(whole) <= LONGEST else f"{visible(whole[:LONGEST])}... ({len(whole):,} characters)"


def is_count(value: Any) -> bool:
    """Whether this is numbers by names that are data: such a name is shown as it is, and tells no unit."""
    return isinstance(value, Mapping) and bool(value) and all(type(each) is int for each in value.values())


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
    """`idle_ms` -> `idle`: the value is shown with its unit."""
    if key in BESIDE:
        return BESIDE[key]
    text = visible(key)
    return (text if text.endswith("per_s") else text.removesuffix("_ms").removesuffix("_s")).replace("_", " ")


def heading(key: str) -> str:
    """`idle_ms` -> `IDLE`."""
    return label(key).upper()


def columns_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys of all rows, in the order in which they first stand."""
    return list(dict.fromkeys(key for row in rows for key in row))


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], width: int, *, colour: bool = False) -> list[str]:
    """The lines of a table with a heading; numbers stand to the right."""
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
    """Lay cells out in columns of these sizes, else of what they need, folding until all fit. They are inert text.

    colours: for each column, which of its values have one.
    """
    if not cells:
        return []
    if sizes and len(cells) == 1 and all(cell_width(each) <= size for each, size in zip(cells[0], sizes, strict=True)):
        # A row of a stream, of which there may be millions.
        filled = (each + " " * (size - cell_width(each)) for each, size in zip(cells[0], sizes, strict=True))
        return [(" " * GAP).join(filled).rstrip()]
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = list(zip(*cells, strict=True))
    widths = sizes or fit(
        [max(1, *map(cell_width, each)) for each in columns], width, list(map(_longest_word, columns))
    )
    grid = Table.grid(padding=(0, GAP, 0, 0))
    for size, to_right in zip(widths, right or [False] * len(widths), strict=True):
        grid.add_column(width=max(1, size), justify="right" if to_right else "left", overflow="fold")
    for row in cells:
        grid.add_row(
            *(Text(each, styles.get(each, "")) for each, styles in zip(row, colours or [{}] * len(row), strict=True))
        )
    page = StringIO()
    # `soft_wrap` would cut what is wider than the page; beyond many narrow columns a line is simply long.
    total = sum(widths) + GAP * len(widths) + 1
    system: Literal["standard"] | None = "standard" if colours else None
    console = Console(
        file=page, width=total, color_system=system, force_terminal=True, highlight=False, markup=False, emoji=False
    )
    console.print(grid)
    return [line.rstrip() for line in page.getvalue().splitlines()]


def fit(widths: Sequence[int], width: int, least: Sequence[int] | None = None) -> list[int]:
    """Narrow the widest columns until the sum fits; beyond many narrow columns nothing helps.

    least: how narrow a column may become before others have to; an id that is torn apart can't be read or copied.
    """
    fitted = list(widths)
    excess = sum(fitted) + GAP * (len(fitted) - 1) - width
    for floors in ([max(LEAST, each) for each in least or ()], [LEAST] * len(fitted)):
        while excess > 0 and (wide := [at for at, floor in enumerate(floors) if fitted[at] > floor]):
            fitted[max(wide, key=fitted.__getitem__)] -= 1
            excess -= 1
    return fitted


def _longest_word(column: Sequence[str]) -> int:
    return max(cell_width(word) for each in column for word in each.split(" "))


def cell_width(text: str) -> int:
    """How many columns a terminal gives the text: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
