"""How far a group is behind: a figure only with its source, checked against the entries that exist."""

from __future__ import annotations

from typing import Literal, NamedTuple

from devicevault_cli.streams.model import EntryId, GroupInfo, StreamInfo
from devicevault_cli.streams.stream import Stream

COUNT_LIMIT = 100_000
CHECK_BYTES = 8 * 1024 * 1024
"""How much of what waits is read to check Redis's figure, in some 50 ms; beyond that it has to be plausible only."""


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


def lag_of(
    stream: Stream,
    info: StreamInfo,
    group: GroupInfo,
    limit: int = COUNT_LIMIT,
    check_bytes: int = CHECK_BYTES,
) -> Lag:
    """Redis's own figure where it agrees with what exists, else a count up to `limit`, else unknown.

    Redis derives its figure from entries-read, which `XGROUP CREATE` and `SETID ... ENTRIESREAD` set to anything, and
    which is wrong once entries were trimmed unread or deleted behind the position. So the figure has to be plausible,
    and has to agree with a count as far as `check_bytes` of entries allow one.
    """
    position = group.last_delivered_id
    first = stream.range(position.next(), count=1) if info.has_entries_after(position) else []
    if not first:
        return Lag(0, "counted", None)
    oldest, figure = first[0].id, _plausible(info, group)
    if figure is None and info.first_id is not None and info.first_id > position:
        return Lag(info.length, "counted", oldest)
    counted, size = 1, stream.size_of(first)
    pages = stream.pages(oldest.next())
    while counted <= limit:
        if figure is not None and size > check_bytes and counted <= figure:
            return Lag(figure, "redis", oldest)
        page = next(pages, None)
        if page is None:
            return Lag(counted, "redis" if counted == figure else "counted", oldest)
        counted += len(page)
        size += stream.size_of(page)
    agrees = figure is not None and counted <= figure
    return Lag(figure, "redis", oldest) if agrees else Lag(None, "unknown", oldest)


def _plausible(info: StreamInfo, group: GroupInfo) -> int | None:
    """Redis's figure, or None where it cannot be right: an entry is behind the position, and one is not."""
    position, figure = group.last_delivered_id, group.lag
    if figure is None or info.max_deleted_id is None or info.first_id is None:
        return None
    undisturbed = info.max_deleted_id <= position and info.first_id <= position
    return figure if undisturbed and 1 <= figure < info.length else None


def trimmed_unread(info: StreamInfo, group: GroupInfo, lag: Lag) -> int | None:
    """Entries that left the stream before the group read them; None where Redis cannot tell.

    Redis 6.2 counts nothing. From 7.2 on (and Valkey) a group that reads past a gap counts what is missing as read: so
    0 is certain only where nothing ever left the stream.
    """
    if info.entries_added is None or group.entries_read is None or lag.entries is None:
        return None
    # Entries-read may have been set to anything: no more can be missing than ever left the stream.
    left = info.entries_added - info.length
    unread = max(0, min(left, info.entries_added - group.entries_read - lag.entries))
    return None if unread == 0 and left > 0 else unread
