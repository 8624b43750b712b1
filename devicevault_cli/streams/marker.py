"""The marker beside a stream: its state as each group observed it last, so that a flushed stream can be noticed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

from devicevault_cli.errors import Usage
from devicevault_cli.streams import keys
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ZERO, EntryId, GroupInfo, StreamInfo
from devicevault_cli.streams.replies import entry_id, raw, text
from devicevault_cli.streams.stream import Stream

INCIDENTS_KEPT = 100
"""Older incidents are removed."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The state of a stream and of one group at one moment. None: unknown to Redis, or missing.

    `kind`: `stream`, `none`, or `other` for another type of value. `added`: entries ever added; `read`: entries ever
    read by the group. `left`: entries that exist and were not delivered; `next_id`: the oldest of them. `epoch` is the
    number of incidents of the group: a process that remembers an earlier epoch knows that another process has recorded
    what it observes.
    """

    at_ms: int
    kind: str = "none"
    length: int = 0
    first_id: EntryId | None = None
    last_id: EntryId = ZERO
    added: int | None = None
    position: EntryId | None = None
    read: int | None = None
    pending: int = 0
    consumers: int = 0
    left: int | None = None
    next_id: EntryId | None = None
    epoch: int = 0

    @property
    def removed_unread(self) -> int | None:
        """Number of entries that were removed before the group read them; None before Redis 7.0.

        A lower bound: where it is unknown how many of the existing entries are left, all of them are assumed to be.
        """
        if self.added is None or self.read is None or self.position is None:
            return None
        left = self.left
        if left is None:
            left = self.length - (self.first_id is not None and self.first_id <= self.position)
        # Entries-read may have been set to anything: no more can be missing than ever left the stream.
        return max(0, min(self.added - self.length, self.added - self.read - left))

    def to_json(self) -> str:
        """The marker: JSON, with ids as text."""
        return json.dumps({name: _plain(value) for name, value in asdict(self).items()})

    @classmethod
    def from_json(cls, marker: bytes | str) -> Observation | None:
        """The inverse of `to_json`; None for what dvctl did not write."""
        try:
            known = json.loads(marker)
            ids = {name: EntryId.parse(known[name]) if known[name] else None for name in ("first_id", "position")}
            following = EntryId.parse(known["next_id"]) if known["next_id"] else None
            return cls(**known | ids | {"last_id": EntryId.parse(known["last_id"]), "next_id": following})
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError, Usage):
            return None


def _plain(value: Any) -> Any:
    return f"{value[0]}-{value[1]}" if isinstance(value, (tuple, list)) else value


class Comparison(NamedTuple):
    """The present state, and what is stored to compare it with: JSON of the marker (b"" for none) and of the incidents
    by number. `dead_letters`: how many there are, of every group; None where that is not known."""

    now: Observation
    marker: bytes
    incidents: dict[int, bytes]
    dead_letters: int | None


def observe(group: Group, at_ms: int, *, stored: bool = True) -> Comparison:
    """Read everything at one moment, by a script; without what stands beside the stream where `stored` is False."""

    def parse(reply: Any) -> Comparison:
        kind, stream, about_group, marker, incidents, letters = reply
        now = Observation(at_ms, kind.decode()) if kind else _observation(stream, about_group, group.name, at_ms)
        numbered = _numbered(dict(zip(incidents[::2], incidents[1::2], strict=True)))
        return Comparison(now, marker, numbered, _number(letters))

    key = group.stream.key
    names = [key, keys.seen(key), keys.incidents(key), keys.dead(key)] if stored else [key]
    return group.stream.run_script("observe", names, raw(group.name), parse=parse)


def _observation(stream: list[bytes], group: list[bytes], name: str, at_ms: int) -> Observation:
    length, first, generated, added, deleted, last = stream
    info = StreamInfo("", int(length), _id(first), _id(last) or ZERO, entry_id(generated), _number(added), _id(deleted))
    if not group:
        return observation_of(info, None, at_ms)
    position, read, pending, lag, consumers, following = group
    about = GroupInfo(name, int(consumers), int(pending), entry_id(position), _number(read), _number(lag))
    return replace(observation_of(info, about, at_ms), next_id=_id(following))


def observation_of(info: StreamInfo | None, group: GroupInfo | None, at_ms: int) -> Observation:
    """The present state from the answers of XINFO, for users without the right to run scripts."""
    if info is None:
        return Observation(at_ms)
    now = Observation(at_ms, "stream", info.length, info.first_id, info.last_generated_id, info.entries_added)
    if group is None:
        return now
    position = group.last_delivered_id
    return replace(
        now,
        position=position,
        read=group.entries_read,
        pending=group.pending,
        consumers=group.consumers,
        left=_left(info, group),
        next_id=info.first_id if info.first_id is not None and info.first_id > position else None,
    )


def _left(info: StreamInfo, group: GroupInfo) -> int | None:
    """Number of existing entries after the position; None where only counting them could tell."""
    position, deleted, lag = group.last_delivered_id, info.max_deleted_id, group.lag
    if not info.has_entries_after(position):
        return 0
    if info.first_id is not None and info.first_id > position:
        return info.length
    if lag is None or deleted is None or deleted > position or not 0 < lag <= info.length:
        return None
    return lag


def _id(value: bytes) -> EntryId | None:
    return entry_id(value) if value else None


def _number(value: bytes) -> int | None:
    return int(value) if value else None


def _numbered(fields: dict[bytes, bytes]) -> dict[int, bytes]:
    return {int(name): value for name, value in fields.items() if name.isdigit() and len(name) < 20}


def markers(stream: Stream) -> dict[str, Observation]:
    """The marker of each group, by name."""
    found: dict[bytes, bytes] = stream.read(dict, "HGETALL", keys.seen(stream.key))
    return {text(name): seen for name, marker in found.items() if (seen := Observation.from_json(marker))}


def recorded(stream: Stream) -> dict[int, bytes]:
    """The stored JSON of the incidents, by number."""
    return _numbered(stream.read(dict, "HGETALL", keys.incidents(stream.key)))


def remember(
    group: Group, before: bytes, after: Observation | None, incidents: list[tuple[int | None, str]]
) -> list[int] | None:
    """Replace the group's marker and record incidents (None: under a new number), in one step.

    -> the numbers of the incidents, or None where another process replaced the marker since `before` was read
    """
    key = group.stream.key
    records = [part for number, record in incidents for part in ("" if number is None else number, record)]
    marker = "" if after is None else after.to_json()
    arguments = (raw(group.name), before, marker, INCIDENTS_KEPT, *records)
    return group.stream.run_script("remember", [keys.seen(key), keys.incidents(key)], *arguments, parse=_numbers)


def _numbers(reply: list[bytes] | None) -> list[int] | None:
    return None if reply is None else [*map(int, reply)]


def rewrite(stream: Stream, records: dict[int, str]) -> None:
    """Replace recorded incidents."""
    if records:
        stream.call("HSET", keys.incidents(stream.key), *chain.from_iterable(records.items()))


def forget(group: Group) -> None:
    """Remove the group's marker: the group was deleted on purpose, which is no incident."""
    group.stream.call("HDEL", keys.seen(group.stream.key), raw(group.name))
