"""dvctl tail: the newest entries of a stream, and those that are added."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge

from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.entries.fields import field_text
from devicevault_cli.operations.monitoring.continuity import Followed
from devicevault_cli.streams.model import ZERO, Entry, EntryId
from devicevault_cli.streams.stream import Stream
from devicevault_cli.times import iso_micros

LOG_SHOWN = 500
"""Characters of the log."""
BLOCK_MS = 1000
ROUND_S = 0.2
"""Pause between two looks at several streams, of which none had anything new."""


@dataclass(frozen=True, slots=True)
class TailedEntry(Answer):
    """An entry in brief, without its configuration. Fields that are absent are None; `bytes`: size of the values."""

    id: EntryId
    time: str
    device_id: str | None
    task_identifier: str | None
    status: str | None
    log: str
    bytes: int


def tailed(entry: Entry) -> TailedEntry:
    key, fields = entry.id, entry.fields
    device, task, status = (field_text(fields, name) for name in (b"device_id", b"task_identifier", b"status"))
    log, size = (field_text(fields, b"log") or "")[:LOG_SHOWN], sum(map(len, fields.values()))
    return TailedEntry(key, iso_micros(key.ms * 1000), device, task, status, log, size)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are shown (None: all). An absent or empty status is `failure`, as consuming takes it."""

    device: str | None = None
    status: str | None = None

    def select(self, entries: Iterable[Entry]) -> Iterator[TailedEntry]:
        for entry in entries:
            shown = tailed(entry)
            if self.device in (None, shown.device_id) and self.status in (None, shown.status or "failure"):
                yield shown


def tail(
    stream: Stream,
    since: EntryId | None,
    last: int,
    chosen: Filter,
    *,
    follow: bool = True,
    warn: Callable[[str], None] = lambda text: None,
) -> Iterator[TailedEntry]:
    """Entries from `since` (else the newest `last`), then those that are added; read-only.

    A stream that restarted is followed from its new start, after a warning.
    """
    info = stream.info()
    position = info.last_id if info else ZERO
    for page in stream.pages(since, position) if since is not None else iter([stream.last(last)] if last else []):
        yield from chosen.select(page)
    followed = Followed(stream, info)
    while follow:
        for entry in stream.wait_for(position, BLOCK_MS):
            position = entry.id
            yield from chosen.select([entry])
        if (restart := followed.restart(position)) is not None:
            warn(restart.detail)
            position = restart.resume_after


def tail_together(
    streams: Sequence[Stream],
    since: EntryId | None,
    last: int,
    chosen: Filter,
    *,
    follow: bool = True,
    warn: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[str, TailedEntry]]:
    """As `tail`, of several streams, each entry with the stream it is of; the first ones in the order of their ids."""
    followed = [_FollowedStream(stream) for stream in streams]
    found = merge(*(one.present(since, last) for one in followed), key=lambda pair: pair[1].id)
    for key, entry in found if since is not None else deque(found, last):
        yield from ((key, shown) for shown in chosen.select([entry]))
    while follow:
        added = [(one.stream.key, entry) for one in followed for entry in one.added(warn)]
        for key, entry in added:
            yield from ((key, shown) for shown in chosen.select([entry]))
        if not added:
            time.sleep(ROUND_S)


class _FollowedStream:
    """One of several streams, and up to where it was read."""

    def __init__(self, stream: Stream) -> None:
        info = stream.info()
        self.stream = stream
        self._position = info.last_id if info else ZERO
        self._followed = Followed(stream, info)

    def present(self, since: EntryId | None, last: int) -> Iterator[tuple[str, Entry]]:
        """The entries from `since`, else the newest `last`."""
        stream, position = self.stream, self._position
        for page in stream.pages(since, position) if since is not None else iter([stream.last(last)] if last else []):
            yield from ((stream.key, entry) for entry in page)

    def added(self, warn: Callable[[str], None]) -> list[Entry]:
        """A page of entries that were added since."""
        found = self.stream.range(self._position.next())
        self._position = found[-1].id if found else self._position
        if (restart := self._followed.restart(self._position)) is not None:
            warn(restart.detail)
            self._position = restart.resume_after
        return found
