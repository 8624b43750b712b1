"""Whether a stream is what it was: what changed between two looks that must not happen. Pure, no I/O."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from devicevault_cli.streams.marker import Seen
from devicevault_cli.streams.model import ZERO
from devicevault_cli.times import iso

Kind: TypeAlias = Literal["stream-restarted", "stream-replaced", "group-gone", "entries-removed", "table-ahead"]

RESTARTS: tuple[Kind, ...] = ("stream-restarted", "stream-replaced")
"""After these an entry id no longer means the same entry."""


class Change(NamedTuple):
    """What happened, in a sentence. `unread`: entries that the group never read and cannot read any more."""

    kind: Kind
    detail: str
    unread: int | None


def compare(
    stream: str, group: str, before: Seen | None, now: Seen, taken: int = 0, *, sole: bool = True
) -> Change | None:
    """What is wrong with `now`, given what was seen before; None where nothing is.

    taken: entries that the caller itself read in between. sole: nobody else of the group read any meanwhile, so that
    what was left before is a lower bound.
    """
    if before is None or before.kind != "stream":
        return None
    if before.last_id == ZERO and now.kind != "other":
        return None  # nothing had ever stood on the stream
    if restarted(before, now):
        return _restart(stream, group, before, now, taken, sole=sole)
    removed = removed_unread(before, now)
    if before.position is not None and now.position is None:
        return _group_gone(stream, group, before, removed)
    if removed:
        detail = f"{entries_were(removed)} removed from stream {stream} before group {group} read them"
        exact = now.added is not None and now.left is not None
        return Change("entries-removed", detail if exact else f"at least {detail}", removed)
    return None


def restarted(before: Seen, now: Seen) -> bool:
    """Whether this is no longer the stream that was seen: Redis never lowers its counters, and adds at the end."""
    if now.kind != "stream" or now.last_id < before.last_id:
        return True
    nothing_left = now.first_id is not None and now.first_id > before.last_id
    if before.added is not None and now.added is not None:
        return now.added < before.added or (nothing_left and now.added - before.added < now.length)
    # Redis 6.2 counts nothing. Whoever trims a stream leaves its groups alone.
    return nothing_left and before.length > 0 and before.position is not None and now.position is None


def removed_unread(before: Seen, now: Seen) -> int:
    """Entries removed since then that the group had not read: at least so many."""
    if before.position is None:
        return 0
    old, new = before.removed_unread, now.removed_unread
    moved_on = now.position is not None and now.position >= before.position
    if moved_on and old is not None and new is not None and (now.read or 0) >= (before.read or 0):
        return max(0, new - old)
    position, following = now.position or before.position, before.next_id
    if following is None or position >= following or (now.first_id is not None and now.first_id <= following):
        return 0
    # The oldest entry that was waiting is gone, and nothing was delivered.
    if before.added is not None and now.added is not None:
        return max(1, (before.left or 0) + now.added - before.added - now.length)
    nothing_left = now.first_id is None or now.first_id > before.last_id
    return max(1, (before.left or 0) - (0 if nothing_left else now.length))


def never_read(before: Seen, now: Seen, taken: int) -> int | None:
    """Entries that a restart took from the group: at least so many; None where nobody counted them."""
    if before.position is None:
        return before.length
    if before.left is None:
        return None
    left = max(0, before.left - taken)
    if left and now.left and now.first_id is not None and now.first_id <= before.last_id:
        return max(0, left - now.left)  # an older copy of the stream: what is there can still be read
    return left


def _restart(stream: str, group: str, before: Seen, now: Seen, taken: int, *, sole: bool) -> Change:
    unread = never_read(before, now, taken)
    return Change(
        "stream-replaced" if now.kind == "other" else "stream-restarted",
        f"{what_happened(stream, before, now)}; length before {before.length:,} ({iso(before.at_ms)});"
        f" {_unread(unread, group, sole=sole)}{f'; {before.pending:,} were pending then' if before.pending else ''}",
        unread,
    )


def what_happened(stream: str, before: Seen, now: Seen) -> str:
    """A restart in a few words."""
    if now.kind == "other":
        return f"stream {stream} was replaced by another type of value: its last id was {before.last_id}"
    if now.kind == "none":
        return f"stream {stream} is gone (flushed or deleted): its last id went from {before.last_id} to none"
    counted = before.added is not None and now.added is not None and now.added < before.added
    added = f", and its count of entries added from {before.added:,} to {now.added:,}" if counted else ""
    return f"stream {stream} restarted: its last id went from {before.last_id} to {now.last_id}{added}"


def _unread(unread: int | None, group: str, *, sole: bool) -> str:
    if unread is None:
        return f"how many entries group {group} had not read is unknown"
    if not unread:
        return f"group {group} had read all of them"
    return f"{'at least' if sole else 'about'} {entries_were(unread)} never read by group {group}"


def _group_gone(stream: str, group: str, before: Seen, removed: int) -> Change:
    lost = f"; {entries_were(removed)} removed before the group read them" if removed else ""
    return Change(
        "group-gone",
        f"group {group} of stream {stream} is gone: it was at {before.position} with {before.pending:,} pending"
        f" ({iso(before.at_ms)}); entries that still are on the stream will be delivered again{lost}",
        removed,
    )


def entries_were(count: int) -> str:
    """The subject and verb of a sentence: `1 entry was`, `2,000 entries were`."""
    return "1 entry was" if count == 1 else f"{count:,} entries were"
