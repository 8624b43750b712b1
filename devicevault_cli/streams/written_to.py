"""Beside a stream: which database server each group writes to, and which entries it was working on when.

After a promotion of a standby the entries of the last minutes are looked up again: where they begin is known from here,
also to a process that starts after the fail-over, and to `trim`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from devicevault_cli.errors import Usage
from devicevault_cli.streams import keys
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.marker import INCIDENTS_KEPT
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.replies import raw, text
from devicevault_cli.streams.stream import Stream

MARKS = 10
"""A mark is set so often within the time that is looked up again, but not more often than once a second."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Every row that the group saved after this moment is of this entry or a later one. `at_ms`: since 1970."""

    at_ms: int
    id: EntryId


@dataclass(frozen=True, slots=True)
class WrittenTo:
    """A database server, as a repository tells it, and how far the group was.

    `unchecked`: the server was accepted by an operator, and recent entries are not looked up on it yet. `recheck_ms`:
    how far back entries are looked up. `marks`: oldest first, back to one that is older than that.
    """

    system: str
    timeline: int
    position: str
    recheck_ms: int
    marks: tuple[Mark, ...] = ()
    unchecked: bool = False

    def with_mark(self, mark: Mark) -> WrittenTo:
        """The same with one more mark, without those that are not needed any more."""
        marks = (*self.marks, mark)
        return replace(self, marks=marks[_newest_before(marks, mark.at_ms - self.recheck_ms) :])

    @property
    def recheck_from(self) -> EntryId | None:
        """Where the entries begin that have to be looked up after a fail-over; None: no entry was saved.

        Counted back from the last mark, not from now: the database may have been away for hours.
        """
        return self._saved_since(self.marks[-1].at_ms - self.recheck_ms) if self.marks else None

    def needed_from(self, now_ms: int) -> EntryId | None:
        """Where the entries begin that a fail-over now would make necessary; None: there are none."""
        since = now_ms - self.recheck_ms
        if not self.marks or self.marks[-1].at_ms + self.interval_ms < since:
            return None  # had anything been saved since, there would be a later mark
        return self._saved_since(since)

    @property
    def interval_ms(self) -> int:
        """While batches are saved, a mark is set so often."""
        return max(1000, self.recheck_ms // MARKS)

    def _saved_since(self, at_ms: int) -> EntryId:
        return self.marks[_newest_before(self.marks, at_ms)].id

    def to_json(self) -> str:
        return json.dumps(
            {
                "system": self.system,
                "timeline": self.timeline,
                "position": self.position,
                "recheck_ms": self.recheck_ms,
                "marks": [[mark.at_ms, str(mark.id)] for mark in self.marks],
                "unchecked": self.unchecked,
            }
        )

    @classmethod
    def from_json(cls, record: bytes | str) -> WrittenTo | None:
        """The inverse of `to_json`; None for what dvctl did not write."""
        try:
            known = json.loads(record)
            marks = tuple(Mark(int(at_ms), EntryId.parse(key)) for at_ms, key in known["marks"])
            return cls(
                str(known["system"]), int(known["timeline"]), str(known["position"]), int(known["recheck_ms"]), marks,
                bool(known["unchecked"]),
            )  # fmt: skip
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError, Usage):
            return None


def _newest_before(marks: Sequence[Mark], at_ms: int) -> int:
    """The place of the last mark that is no younger; 0 if all are."""
    return max((place for place, mark in enumerate(marks) if mark.at_ms <= at_ms), default=0)


@dataclass(frozen=True, slots=True)
class Stored:
    """What stands beside the stream, and what it means. `record`: the JSON, b"" for none."""

    record: bytes
    known: WrittenTo | None


def read(group: Group) -> Stored:
    """What is remembered of a group. Raises Refused for a user without the right to the key."""
    found: dict[bytes, bytes] = group.stream.read(dict, "HGETALL", keys.written_to(group.stream.key))
    record = found.get(raw(group.name), b"")
    return Stored(record, WrittenTo.from_json(record) if record else None)


def read_all(stream: Stream) -> dict[str, WrittenTo]:
    """What is remembered of each group, by name."""
    found: dict[bytes, bytes] = stream.read(dict, "HGETALL", keys.written_to(stream.key))
    return {text(name): known for name, record in found.items() if (known := WrittenTo.from_json(record))}


def remember(group: Group, before: Stored, after: WrittenTo, incident: str | None = None) -> bool:
    """Replace what is remembered, and record an incident (its JSON), in one step.

    -> False where another process replaced it since `before` was read
    """
    key = group.stream.key
    records = () if incident is None else ("", incident)
    arguments: tuple[Any, ...] = (raw(group.name), before.record, after.to_json(), INCIDENTS_KEPT, *records)
    names = [keys.written_to(key), keys.incidents(key)]
    return group.stream.run_script("remember", names, *arguments, parse=lambda reply: reply is not None)


def forget(group: Group) -> None:
    """Remove what is remembered: the group was deleted on purpose, and will read everything again."""
    group.stream.call("HDEL", keys.written_to(group.stream.key), raw(group.name))


def low_water(group: Group) -> EntryId | None:
    """The first entry that is pending, or else not delivered yet; None without a group."""
    info = group.info()
    if info is None:
        return None
    following, oldest = info.last_delivered_id.next(), group.summary().first_id
    return following if oldest is None else min(oldest, following)
