"""Whether a stream is still the one that was observed before: restarts, entries removed unread, deleted groups."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

from devicevault_cli.operations.wording import entries, entries_were
from devicevault_cli.streams.marker import Observation, observation_of
from devicevault_cli.streams.model import ZERO, EntryId, StreamInfo
from devicevault_cli.streams.stream import Stream
from devicevault_cli.times import iso, now_ms

Kind: TypeAlias = Literal[
    "stream-restarted", "stream-replaced", "group-gone", "entries-removed", "table-ahead", "rows-restored"
]

RESTARTS: tuple[Kind, ...] = ("stream-restarted", "stream-replaced")
"""After these, an entry id no longer means the same entry."""

UNKNOWN_AFTER = "how many were added and removed unread after that is unknown: Redis before 7.0 does not count them"

CHECK_S = 1.0
"""How often a follower checks its stream."""


class StreamChange(NamedTuple):
    """An event and a sentence about it. `unread`: number of entries the group can no longer read (None: unknown)."""

    kind: Kind
    detail: str
    unread: int | None


def compare(
    stream: str, group: str, before: Observation | None, now: Observation, taken: int = 0, *, sole: bool = True
) -> StreamChange | None:
    """Compare two observations of a stream and a group. -> what happened, or None if it is still the same stream

    taken: entries that the caller itself read in between. sole: no other consumer of the group read any in between, so
    that the number of entries left before is a lower bound.
    """
    if before is None or before.kind != "stream":
        return None
    if before.last_id == ZERO and now.kind != "other":
        return None  # the stream had never had an entry
    if restarted(before, now):
        return _restart(stream, group, before, now, taken, sole=sole)
    if before.position is not None and now.position is None:
        return _group_gone(stream, group, before, now, taken)
    removed = removed_unread(before, now)
    if removed:
        detail = f"{entries_were(removed)} removed from stream {stream} before group {group} read them"
        detail += period(before, now)
        exact = now.added is not None and now.left is not None
        return StreamChange("entries-removed", detail if exact else f"at least {detail}", removed)
    return None


def restarted(before: Observation, now: Observation) -> bool:
    """Whether this is no longer the same stream: Redis never lowers its counters and adds entries only at the end."""
    if now.kind != "stream" or now.last_id < before.last_id:
        return True
    nothing_left = now.first_id is not None and now.first_id > before.last_id
    if before.added is not None and now.added is not None:
        return now.added < before.added or (nothing_left and now.added - before.added < now.length)
    # Redis 6.2 has no counter. Trimming keeps the groups of a stream.
    return nothing_left and before.length > 0 and before.position is not None and now.position is None


def removed_unread(before: Observation, now: Observation) -> int:
    """Entries removed between two observations before the group read them: a lower bound."""
    if before.position is None:
        return 0
    old, new = before.removed_unread, now.removed_unread
    moved_on = now.position is not None and now.position >= before.position
    if moved_on and old is not None and new is not None and (now.read or 0) >= (before.read or 0):
        return max(0, new - old)
    position, following = now.position or before.position, before.next_id
    if following is None or position >= following or (now.first_id is not None and now.first_id <= following):
        return 0
    # The oldest undelivered entry is gone, and nothing was delivered.
    if before.added is not None and now.added is not None:
        return max(1, (before.left or 0) + now.added - before.added - now.length)
    nothing_left = now.first_id is None or now.first_id > before.last_id
    return max(1, (before.left or 0) - (0 if nothing_left else now.length))


def removed_after_position(before: Observation, now: Observation) -> int | None:
    """Entries after the position of a group that is gone which are no longer on the stream: a lower bound.

    The group had not read them at the time of `before`. None before Redis 7.0 if there may be some that `before` did
    not count.
    """
    if before.position is None:
        return 0
    if before.added is None or now.added is None:
        return None if _all_newer(before, now) else removed_unread(before, now)
    if before.position > before.last_id:
        return 0  # set by hand: entries that were added since may be before the position
    older = now.first_id is not None and now.first_id <= before.position
    there = now.length - older  # at most so many are after the position
    return max(0, (before.left or 0) + now.added - before.added - there)


def _all_newer(before: Observation, now: Observation) -> bool:
    """Whether entries were added since, and nothing of what was there before is left."""
    return now.last_id > before.last_id and (now.first_id is None or now.first_id > before.last_id)


def never_read(before: Observation, now: Observation, taken: int) -> int | None:
    """Entries that were lost unread in a restart: a lower bound; None if they were not counted."""
    if before.position is None:
        return before.length
    if before.left is None:
        return None
    left = max(0, before.left - taken)
    if not left and now.kind == "stream" and now.added is None and _all_newer(before, now):
        return None  # or the group was destroyed, and entries that `before` did not count were trimmed
    if left and now.left and now.first_id is not None and now.first_id <= before.last_id:
        return max(0, left - now.left)  # an older copy of the stream: its entries can still be read
    return left


def _restart(stream: str, group: str, before: Observation, now: Observation, taken: int, *, sole: bool) -> StreamChange:
    unread = never_read(before, now, taken)
    pending = f"; {before.pending:,} were pending then" if before.pending else ""
    return StreamChange(
        "stream-replaced" if now.kind == "other" else "stream-restarted",
        f"{what_happened(stream, before, now)}; length before {before.length:,} ({iso(before.at_ms)});"
        f" {_unread(unread, group, before, sole=sole)}{period(before, now) if unread else ''}{pending}",
        unread,
    )


def what_happened(stream: str, before: Observation, now: Observation) -> str:
    """A restart in one sentence."""
    if now.kind == "other":
        return f"stream {stream} was replaced by another type of value: its last id was {before.last_id}"
    if now.kind == "none":
        return f"stream {stream} is gone (flushed or deleted): its last id went from {before.last_id} to none"
    counted = before.added is not None and now.added is not None and now.added < before.added
    added = f", and its count of entries added from {before.added:,} to {now.added:,}" if counted else ""
    return f"stream {stream} restarted: its last id went from {before.last_id} to {now.last_id}{added}"


def _unread(unread: int | None, group: str, before: Observation, *, sole: bool) -> str:
    if unread is None and before.left is not None:
        return f"group {group} had read all of them; {UNKNOWN_AFTER}"
    if unread is None:
        return f"how many entries group {group} had not read is unknown"
    if not unread:
        return f"group {group} had read all of them"
    return f"{'at least' if sole else 'about'} {entries_were(unread)} never read by group {group}"


def period(before: Observation, now: Observation) -> str:
    """When the entries that were lost between two observations had been added; empty where that is unknown.

    They came after the group's position, and before the oldest entry that exists now, or the end of an older copy.
    """
    start, end_ms = before.next_id or before.position, now.at_ms
    if start is None:
        return ""
    if now.first_id is not None and now.first_id > start:
        end_ms = now.first_id.ms
    elif now.last_id < before.last_id:
        start = max(start, now.last_id)
    elif now.first_id is not None:
        return ""  # some in the middle
    return f" (added between {iso(start.ms)} and {iso(end_ms)})" if start.ms <= end_ms else ""


def _group_gone(stream: str, group: str, before: Observation, now: Observation, taken: int) -> StreamChange:
    removed = removed_after_position(before, now)
    removed = None if removed is None else max(0, removed - taken)
    if removed is None:
        lost = f"; {UNKNOWN_AFTER}"
    else:
        after = f"{entries(removed)} after that position {'was' if removed == 1 else 'were'} removed"
        when = period(before, now)
        lost = f"; {after}{when}, unread unless the group read them after that time" if removed else ""
    return StreamChange(
        "group-gone",
        f"group {group} of stream {stream} is gone: it was at {before.position} with {before.pending:,} pending"
        f" ({iso(before.at_ms)}); entries that still are on the stream will be delivered again{lost}",
        removed,
    )


class Restart(NamedTuple):
    """A sentence about a restart, and the id after which to continue reading."""

    detail: str
    resume_after: EntryId


class Followed:
    """A stream followed without a group: detects that the stream restarted between two observations."""

    def __init__(self, stream: Stream, info: StreamInfo | None) -> None:
        self._stream = stream
        self._seen = observation_of(info, None, now_ms())
        self._next_check = time.monotonic() + CHECK_S

    def restart(self, position: EntryId) -> Restart | None:
        """Check at most once a second, given that everything up to `position` was read."""
        if time.monotonic() < self._next_check:
            return None
        self._next_check = time.monotonic() + CHECK_S
        return self.compare(self._stream.info(), position)

    def compare(self, info: StreamInfo | None, position: EntryId = ZERO) -> Restart | None:
        """Compare an observation with the one before."""
        before, now = self._seen, observation_of(info, None, now_ms())
        self._seen = now
        if position > now.last_id:
            before = replace(before, last_id=max(before.last_id, position))
        if before.kind != "stream" or before.last_id == ZERO or not restarted(before, now):
            return None
        detail = what_happened(self._stream.key, before, now)
        if now.kind == "stream" and now.added is not None and _entries_of(now) == _entries_of(before):
            return Restart(detail, now.last_id)  # XSETID lowered the last id, the entries are the same
        # Entries above the position were shown already, or will be.
        return Restart(f"{detail}; following it from its start", position if ZERO < position <= now.last_id else ZERO)


def _entries_of(seen: Observation) -> tuple[object, ...]:
    return seen.added, seen.length, seen.first_id
