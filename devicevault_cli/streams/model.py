"""What a stream consists of: ids, entries, pending entries, groups, consumers; and answers about them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from devicevault_cli.errors import DvctlError, Usage
from devicevault_cli.times import LAST_SHOWN_MS, iso

_ID = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?", re.ASCII)
_MAX = 2**64 - 1


class EntryId(NamedTuple):
    """A stream entry's id: milliseconds of the Unix epoch and a sequence number, both unsigned 64 bit."""

    ms: int
    seq: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    @classmethod
    def parse(cls, text: str | bytes) -> EntryId:
        """Read `MS-SEQ`, or `MS` meaning `MS-0`. Raises Usage."""
        shown = text.decode("ascii", "replace") if isinstance(text, bytes) else text
        match = _ID.fullmatch(shown)
        if match is None or int(match[1]) > _MAX or int(match[2] or 0) > _MAX:
            raise Usage(f"not an entry id: {shown[:60]!r}", hint="an id looks like 1767225600000-0")
        return cls(int(match[1]), int(match[2] or 0))

    def next(self) -> EntryId:
        """The smallest id above this one (the largest id stays itself)."""
        if self.seq < _MAX:
            return EntryId(self.ms, self.seq + 1)
        return EntryId(self.ms + 1, 0) if self.ms < _MAX else self

    def previous(self) -> EntryId:
        """The largest id below this one (0-0 stays itself)."""
        if self.seq > 0:
            return EntryId(self.ms, self.seq - 1)
        return EntryId(self.ms - 1, _MAX) if self.ms > 0 else self

    @property
    def shown(self) -> str:
        """The id for people; for a position at the end of a millisecond, which has no readable id, its time."""
        if self.seq < _MAX or self.ms > LAST_SHOWN_MS:
            return str(self)
        return f"{iso(self.ms)}, end of that millisecond"


ZERO = EntryId(0, 0)
LAST = EntryId(_MAX, _MAX)


class RepeatedFields(dict[bytes, bytes]):
    """Fields in which a name occurs more than once: as a mapping they have its last value, as DeviceVault's own
    consumer takes it; `pairs` has all of them in order.
    """

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        super().__init__(pairs)
        self.pairs = tuple(pairs)

    def clear(self) -> None:
        """Release all values."""
        super().clear()
        self.pairs = ()


def fields_of(pairs: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Names and values as a mapping that keeps all of them."""
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else RepeatedFields(pairs)


def pairs_of(fields: Mapping[bytes, bytes]) -> Iterable[tuple[bytes, bytes]]:
    """The inverse of `fields_of`."""
    return fields.pairs if isinstance(fields, RepeatedFields) else fields.items()


class Entry(NamedTuple):
    """An entry of the stream. Values are bytes, not necessarily UTF-8.

    `fields` are RepeatedFields where a field name occurs more than once.
    """

    id: EntryId
    fields: dict[bytes, bytes]


class PendingEntry(NamedTuple):
    """A delivered, unacknowledged entry: its owner, idle time in ms and how often it was delivered."""

    id: EntryId
    consumer: str
    idle_ms: int
    deliveries: int


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """XINFO STREAM. `last_id` is the last entry that exists (0-0: none).

    `entries_added` and `max_deleted_id` are None before Redis 7.0.
    """

    key: str
    length: int
    first_id: EntryId | None
    last_id: EntryId
    last_generated_id: EntryId
    entries_added: int | None = None
    max_deleted_id: EntryId | None = None

    def has_entries_after(self, position: EntryId) -> bool:
        """Whether an entry exists after a position. `last_generated_id` may name one that was deleted or never was."""
        return self.last_id > position


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """XINFO GROUPS. `entries_read` and `lag` are None before 7.0 and where Redis does not know them."""

    name: str
    consumers: int
    pending: int
    last_delivered_id: EntryId
    entries_read: int | None = None
    lag: int | None = None


@dataclass(frozen=True, slots=True)
class ConsumerInfo:
    """XINFO CONSUMERS. `idle_ms`: since its last command; `inactive_ms`: since it last got an entry (from 7.2)."""

    name: str
    pending: int
    idle_ms: int
    inactive_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PendingSummary:
    """XPENDING without a range."""

    total: int
    first_id: EntryId | None = None
    last_id: EntryId | None = None
    consumers: dict[str, int] = field(default_factory=dict)


class Added(NamedTuple):
    """Ids of the messages that Redis took; number of the first message that it did not take, and why."""

    ids: list[EntryId]
    failed: int | None = None
    error: DvctlError | None = None


class Republished(NamedTuple):
    """Ids of the copies, and ids of the entries that were not copied."""

    copies: list[EntryId]
    refused: list[EntryId]


class Claimed(NamedTuple):
    """Entries whose owner or idle time changed, with the delivery count found before; and pending entries that are no
    longer on the stream, which were acknowledged.
    """

    deliveries: dict[EntryId, int]
    gone: list[EntryId]


class Retired(NamedTuple):
    """What one step of retiring did. `spared`: consumers that are active; `done`: number of consumers finished."""

    moved: int
    gone: int
    retired: list[str]
    spared: list[str]
    done: int
