"""How far a group is behind: a figure only with its source, never a false zero."""

from __future__ import annotations

from typing import Literal, NamedTuple

from devicevault_cli.streams.model import EntryId, GroupInfo, StreamInfo
from devicevault_cli.streams.stream import Stream

COUNT_LIMIT = 100_000


class Lag(NamedTuple):
    """Undelivered entries that exist (None: unknown), where the figure is from, and the oldest of them."""

    entries: int | None
    source: Literal["redis", "counted", "unknown"]
    oldest: EntryId | None

    def seconds(self, now_ms: int) -> float | None:
        """Age of the oldest undelivered entry; 0 without one."""
        if self.entries == 0:
            return 0.0
        return None if self.oldest is None else max(0.0, (now_ms - self.oldest.ms) / 1000)


def lag_of(stream: Stream, info: StreamInfo, group: GroupInfo, limit: int = COUNT_LIMIT) -> Lag:
    """Redis's own figure where it can be trusted, else a count up to `limit`, else unknown.

    Redis counts from entries-read: right only if nothing behind the position was deleted, and nothing before it trimmed
    unread (7.0: after 10 added, 2 read, 4 trimmed unread it says 8).  What was trimmed unread stays in its figure for
    good; that shows where it leaves no room for the first entry, and else makes the figure too high, never too low.
    """
    position = group.last_delivered_id
    if info.length == 0 or info.last_id <= position:
        return Lag(0, "counted", None)
    oldest = next(iter(stream.range(position.next(), count=1)), None)
    if oldest is None:
        return Lag(0, "counted", None)
    trusted = (
        group.lag is not None
        and info.max_deleted_id is not None
        and info.max_deleted_id <= position
        and info.first_id is not None
        and info.first_id <= position
        and group.lag < info.length
    )
    if trusted:
        return Lag(group.lag, "redis", oldest.id)
    if info.first_id is not None and info.first_id > position:
        return Lag(info.length, "counted", oldest.id)
    counted = 0
    for page in stream.pages(position.next()):
        counted += len(page)
        if counted > limit:
            return Lag(None, "unknown", oldest.id)
    return Lag(counted, "counted", oldest.id)


def trimmed_unread(info: StreamInfo, group: GroupInfo, lag: Lag) -> int | None:
    """Entries that left the stream before the group read them; None where Redis cannot tell.

    Redis 6.2 counts nothing. From 7.2 on (and Valkey) a group that reads past a gap counts what is missing as read: so
    0 is certain only where nothing ever left the stream.
    """
    if info.entries_added is None or group.entries_read is None or lag.entries is None:
        return None
    unread = max(0, info.entries_added - group.entries_read - lag.entries)
    return None if unread == 0 and info.length < info.entries_added else unread
