"""Choosing entries: by id, time, device, task or status, from the stream or from a file of `dvctl export`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from devicevault_cli.errors import Usage
from devicevault_cli.messages import first_id
from devicevault_cli.operations import sealed
from devicevault_cli.operations.message_files import parse_line
from devicevault_cli.streams.model import LAST, ZERO, Entry, EntryId
from devicevault_cli.streams.stream import Stream

Source: TypeAlias = Callable[[], Iterator[list[Entry]]]
"""Reads the chosen entries, a page at a time; may be called again, for the plan and for its application."""

PER_GET = 64
"""Entries fetched by their ids at once: should all be firmware images, memory still holds them."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries; what is None does not matter, but no ids are no entries. `task`: a task id or identifier."""

    ids: Sequence[EntryId] | None = None
    start: EntryId = ZERO
    end: EntryId = LAST
    device: int | None = None
    task: str | None = None
    status: str | None = None

    def matches(self, entry: Entry) -> bool:
        """Whether an entry is one of them."""
        fields = entry.fields
        if not self.start <= entry.id <= self.end:
            return False
        if self.device is not None and fields.get(b"device_id", b"").lstrip(b"0") != b"%d" % self.device:
            return False
        if self.task is not None:
            wanted = self.task.encode("utf-8", "surrogateescape")
            if wanted not in (fields.get(b"task_id"), fields.get(b"task_identifier")):
                return False
        return self.status is None or (fields.get(b"status") or b"failure") == self.status.encode()


def from_stream(stream: Stream, selection: Selection) -> Source:
    """The chosen entries of a stream."""

    def read() -> Iterator[list[Entry]]:
        start, end = selection.start, selection.end
        for page in stream.pages(start, end) if selection.ids is None else _by_id(stream, selection.ids):
            yield [entry for entry in page if selection.matches(entry)]

    return read


def _by_id(stream: Stream, ids: Sequence[EntryId]) -> Iterator[list[Entry]]:
    for start in range(0, len(ids), PER_GET):
        yield list(stream.get(ids[start : start + PER_GET]).values())


def from_file(path: Path, selection: Selection, name: str | None = None) -> Source:
    """The chosen entries of an export, which is read through first; `name`: what messages call it.

    Raises Damaged for one that was cut or edited, Usage for another file.
    """
    sealed.check_seal(path, name)

    def read() -> Iterator[list[Entry]]:
        wanted = None if selection.ids is None else frozenset(selection.ids)
        page: list[Entry] = []
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.startswith(sealed.SEAL_LINE):
                    break
                entry = _entry(line, f"{name or path.name}, line {number}")
                if selection.matches(entry) and (wanted is None or entry.id in wanted):
                    page.append(entry)
                if len(page) == PER_GET:
                    yield page
                    page = []
        if page:
            yield page

    for _ in read():
        pass
    return read


def _entry(line: bytes, where: str) -> Entry:
    fields = dict(parse_line(line, where))
    first = first_id(fields)
    if first is None:
        raise Usage(f"{where}: no entry id", hint="replay --file reads what `dvctl export` wrote")
    return Entry(EntryId(*first), fields)
