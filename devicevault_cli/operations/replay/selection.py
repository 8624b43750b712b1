"""Choosing entries: by id, time, device, task or status, from the stream or from a file of `dvctl export`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from devicevault_cli.errors import Usage
from devicevault_cli.messages import first_id
from devicevault_cli.operations.entries import checksummed
from devicevault_cli.operations.entries.message_files import parse_line
from devicevault_cli.operations.named import Named, named_entries
from devicevault_cli.paging import paged
from devicevault_cli.streams.model import LAST, ZERO, Entry, EntryId
from devicevault_cli.streams.page import Page, page_of
from devicevault_cli.streams.stream import Stream

Reader: TypeAlias = Callable[["list[EntryId]"], Generator[Page, None, None]]
"""Reads the chosen entries, a page at a time, and adds the ids that do not exist to a list."""

PER_GET = 64
"""Entries fetched by their ids at once: should all be firmware images, memory still holds them."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries; None does not matter, but an empty list of ids selects nothing. `task`: an id or identifier."""

    ids: Sequence[EntryId] | None = None
    start: EntryId = ZERO
    end: EntryId = LAST
    device: int | None = None
    task: str | None = None
    status: str | None = None

    def among(self, page: Page) -> Page:
        """The chosen ones of entries that are in the range."""
        if (self.device, self.task, self.status) == (None, None, None):
            return page
        return page.where([self.matches(entry) for entry in page])

    def matches(self, entry: Entry) -> bool:
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


class Source:
    """The chosen entries, a page at a time; may be called again, for the plan and for its application.

    unknown: which of the chosen ids the last reading did not find.
    """

    def __init__(self, read: Reader, named: Callable[[list[EntryId]], Named]) -> None:
        self._read = read
        self._named = named
        self.unknown: list[EntryId] = []

    def __call__(self) -> Generator[Page, None, None]:
        """Close the generator where it may be left early."""
        self.unknown = []
        return self._read(self.unknown)

    def named(self) -> Named:
        """About the ids that were chosen, after a reading."""
        return self._named(self.unknown)


def from_stream(stream: Stream, selection: Selection) -> Source:

    def read(unknown: list[EntryId]) -> Generator[Page, None, None]:
        start, end, ids = selection.start, selection.end, selection.ids
        if ids is not None:
            yield from _by_id(stream, ids, selection, unknown)
            return
        with closing(stream.column_pages(start, end)) as pages:
            yield from map(selection.among, pages)

    return Source(read, lambda unknown: named_entries(stream.key, stream, selection.ids, unknown))


def _by_id(stream: Stream, ids: Sequence[EntryId], selection: Selection, unknown: list[EntryId]) -> Iterator[Page]:
    for some_ids in paged(ids, PER_GET):
        found = stream.get(some_ids)
        unknown += (key for key in some_ids if key not in found)
        yield page_of([entry for entry in found.values() if selection.matches(entry)])


def from_file(path: Path, selection: Selection, name: str | None = None) -> Source:
    """The chosen entries of an export, which is read through first; `name`: what messages call it.

    Raises Damaged for one that was cut or edited, Usage for another file.
    """
    checksummed.check(path, name)

    def chosen(unknown: list[EntryId]) -> Iterator[Entry]:
        wanted = None if selection.ids is None else frozenset(selection.ids)
        left = set(wanted or ())
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.startswith(checksummed.CHECKSUM_LINE):
                    break
                entry = _entry(line, f"{name or path.name}, line {number}")
                left.discard(entry.id)
                if selection.matches(entry) and (wanted is None or entry.id in wanted):
                    yield entry
        unknown += sorted(left)

    def read(unknown: list[EntryId]) -> Generator[Page, None, None]:
        yield from map(page_of, paged(chosen(unknown), PER_GET))

    source = Source(read, lambda unknown: named_entries(name or path.name, None, selection.ids, unknown))
    for _ in source():
        pass
    return source


def _entry(line: bytes, where: str) -> Entry:
    fields = dict(parse_line(line, where))
    first = first_id(fields)
    if first is None:
        raise Usage(f"{where}: no entry id", hint="replay --file reads what `dvctl export` wrote")
    return Entry(EntryId(*first), fields)
