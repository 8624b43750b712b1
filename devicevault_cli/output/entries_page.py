"""The pictures of `dvctl tail` and `dvctl show`: entries one a line, and entries whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from devicevault_cli.output.escapes import visible
from devicevault_cli.output.table import cell_width, lines_of, show, shown_time, text
from devicevault_cli.output.view import Cell, View
from devicevault_cli.plural import number
from devicevault_cli.times import now_iso, show_duration

Answer: TypeAlias = Mapping[str, Any]
Entry: TypeAlias = Mapping[str, Any]

STATUSES = {"success": "green", "failure": "red"}
STATES = {
    "persisted": "green", "pending": "yellow", "dead": "yellow", "gone": "red", "lost": "red", "lost_invalid": "red",
}  # fmt: skip
"""Colours of the classes of `verify`."""
WIDE = 120
"""Columns from which there is room for the whole time, the size and the log."""
STATUSES_NAMED = 5
"""Statuses that the summary names at most: any text may stand there."""
GAP = 2
NAME = 22
"""Columns of the names of fields."""


class Column(NamedTuple):
    """A column of `tail`: its head, its width, what stands in it, and whether it is aligned to the right."""

    head: str
    width: int
    cell: Callable[[Entry], Cell]
    right: bool = False


def tail_lines(entries: Iterable[Entry], view: View) -> Iterator[str]:
    """A line for each entry, under a heading that waits for the first; what does not fit is cut, never folded.

    At the end, which comes only where nothing is waited for, stands how many there were, by status.
    """
    columns = _columns(view.width)
    right = [column.right for column in columns]
    widths = [column.width for column in columns]
    statuses: Counter[str] = Counter()
    for entry in entries:
        if not statuses:
            heads = [Cell(column.head, "bold") for column in columns]
            yield from lines_of([heads], 0, right, widths, coloured=view.coloured)
        statuses[_status(entry).text] += 1
        cells = [_cut(column.cell(entry), column.width) for column in columns]
        yield from lines_of([cells], 0, right, widths, coloured=view.coloured)
    counts = ", ".join(f"{count:,} {text(status)}" for status, count in statuses.most_common(STATUSES_NAMED))
    yield ""
    total = sum(statuses.values())
    yield from view.folded(f"{number(total, 'entry', 'entries')}{': ' * bool(counts)}{counts}", "bold", "  ")


def _columns(width: int) -> list[Column]:
    """Those that fit; the last one has what is left."""
    wide = width >= WIDE
    found = [
        Column("TIME", 20 if wide else 11, lambda entry: Cell(_time(entry["time"], whole=wide))),
        Column("ID", 17, lambda entry: Cell(str(entry["id"]))),
        Column("DEVICE", 6, lambda entry: Cell(_field(entry["device_id"])), right=True),
        Column("STATUS", 7, _status),
    ]
    identifier = Column("TASK IDENTIFIER", 40, lambda entry: Cell(_field(entry["task_identifier"])))
    if wide:
        found += [Column("SIZE", 9, lambda entry: Cell(show("bytes", entry["bytes"])), right=True), identifier]
        last = Column("LOG", 0, lambda entry: Cell(_field(entry["log"])))
    else:
        last = identifier
    left = width - sum(column.width + GAP for column in found)
    return [*found, last._replace(width=max(15, left))]


def _time(at: str, *, whole: bool) -> str:
    """A time of today without its date, where there is no room for the whole."""
    if whole:
        return f"{at[:19].replace('T', ' ')}Z"
    return at[11:19] if at[:10] == now_iso()[:10] else at[5:16].replace("T", " ")


def _status(entry: Entry) -> Cell:
    """An absent or empty status is a failure, as consuming takes it."""
    status = entry["status"]
    return Cell(_field(status), STATUSES.get(status or "failure", "yellow"))


def _field(value: str | None) -> str:
    return "-" if value is None or value == "" else visible(value)


def _cut(cell: Cell, width: int) -> Cell:
    if cell_width(cell.text) <= width:
        return cell
    shown = cell.text[:width]
    while cell_width(shown) > width - 3:
        shown = shown[:-1]
    return cell._replace(text=f"{shown}...")


def show_lines(answer: Answer, view: View) -> Iterator[str]:
    """Each entry whole: id, time and state, its fields, then who holds it, its row and what consuming it would do."""
    entries = answer["entries"]
    if len(entries) > 1:
        states = Counter(entry["state"] for entry in entries)
        counts = ", ".join(f"{count:,} {_words(state)}" for state, count in states.items())
        yield from view.folded(f"{number(len(entries), 'entry', 'entries')}: {counts}", "bold", "  ")
        yield ""
    for at, entry in enumerate(entries):
        if at:
            yield ""
        state = view.paint(_words(entry["state"]), f"bold {STATES.get(entry['state'], '')}".strip())
        yield from _whole(entry, state, _facts(entry), view)
        if not entry["fields"]:
            yield f"  {visible(entry['would'])}"


def show_letters_lines(answer: Answer, view: View) -> Iterator[str]:
    """Each dead letter whole: id, time and reason, its fields, since when it is dead, how often it was retried."""
    for at, letter in enumerate(answer["entries"]):
        if at:
            yield ""
        reason = view.paint(text(letter["reason"]), "bold yellow")
        yield from _whole(letter, reason, _history(letter), view)


def _whole(entry: Entry, about: str, facts: Iterable[tuple[str, str]], view: View) -> Iterator[str]:
    """Values are not folded: a terminal does that, and copies them in one piece."""
    yield f"{view.paint(str(entry['id']), 'bold')}  {shown_time(entry['id'])}  {about}"
    for name, value in _field_lines(entry["fields"]):
        yield f"  {view.paint(visible(f'{name:<{NAME}}'), 'dim')}  {visible(value)}".rstrip()
    for name, value in facts:
        yield f"  {view.paint(f'{name:<{NAME}}', 'bold')}  {visible(value)}"


def _field_lines(fields: Mapping[str, str | list[str]]) -> Iterator[tuple[str, str]]:
    """The names and values of the fields; the values of a repeated name with a note which one is used."""
    for name, value in fields.items():
        if isinstance(value, str):
            yield name, value
            continue
        for at, one in enumerate(value, 1):
            yield name, f"{one}  ({at} of {len(value)} values{', used' if at == len(value) else ''})"


def _words(state: str) -> str:
    return state.replace("_", " ")


def _facts(entry: Entry) -> Iterator[tuple[str, str]]:
    """What is not in the message."""
    if held := entry.get("pending"):
        times = number(held["deliveries"], "delivery", "deliveries")
        yield "held by", f"{text(held['consumer'])}, idle for {show_duration(held['idle_ms'])}, {times}"
    if row := entry["row"]:
        yield "row", f"{row['id']}: device {row['device_id']}, status {row['status']}"
    if entry["fields"]:
        yield "consuming would", entry["would"]


def _history(letter: Entry) -> Iterator[tuple[str, str]]:
    at = text(letter["at"])
    yield "detail", text(letter["detail"])
    yield "dead since", f"{at[:19].replace('T', ' ')}Z, after {number(letter['deliveries'], 'delivery', 'deliveries')}"
    yield "given up by", text(letter["consumer"])
    yield "retried", number(letter["attempts"], "time")
