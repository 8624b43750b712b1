"""The lag of a group: Redis's figure checked against the entries that exist, or a count of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

from devicevault_cli.streams.marker import observation_of
from devicevault_cli.streams.model import EntryId, GroupInfo, StreamInfo
from devicevault_cli.streams.stream import Stream

COUNT_LIMIT = 100_000
"""Undelivered entries that are counted at most where Redis's figure cannot be used."""
CHECK_BYTES = 8 * 1024 * 1024
"""Bytes of undelivered entries that are read at most to check Redis's figure (about 50 ms)."""

LagSource: TypeAlias = Literal["redis", "counted", "unknown"]


class Lag(NamedTuple):
    """Number of undelivered entries that exist (None: unknown), where it comes from, and the oldest of them."""

    entries: int | None
    source: LagSource
    oldest: EntryId | None

    def seconds(self, now_ms: int) -> float | None:
        """Age of the oldest undelivered entry in seconds; 0 without one, None if unknown."""
        if self.entries == 0:
            return 0.0
        return None if self.oldest is None else max(0.0, (now_ms - self.oldest.ms) / 1000)


def lag_of(
    stream: Stream, info: StreamInfo, group: GroupInfo, limit: int = COUNT_LIMIT, check_bytes: int = CHECK_BYTES
) -> Lag:
    """Redis's figure if it agrees with the entries that exist, else a count up to `limit`, else unknown.

    Redis derives its figure from entries-read, which `XGROUP CREATE` and `SETID ... ENTRIESREAD` set to any value, and
    which is wrong once entries were trimmed unread or deleted behind the position, and before Redis 7.4 after a
    fail-over or a restart. Therefore the figure must be plausible, must agree with a count of the first `check_bytes`
    of undelivered entries, and beyond these must come from a server that has counted every read itself.
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
            if stream.counts_every_read():
                return Lag(figure, "redis", oldest)
            figure = None
        page = next(pages, None)
        if page is None:
            return Lag(counted, "redis" if counted == figure else "counted", oldest)
        counted += len(page)
        size += stream.size_of(page)
    agrees = figure is not None and counted <= figure and stream.counts_every_read()
    return Lag(figure, "redis", oldest) if agrees else Lag(None, "unknown", oldest)


def _plausible(info: StreamInfo, group: GroupInfo) -> int | None:
    """Redis's figure, or None if it cannot be right: entries exist before and after the position."""
    position, figure = group.last_delivered_id, group.lag
    if figure is None or info.max_deleted_id is None or info.first_id is None:
        return None
    undisturbed = info.max_deleted_id <= position and info.first_id <= position
    return figure if undisturbed and 1 <= figure < info.length else None


def trimmed_unread(stream: Stream, info: StreamInfo, group: GroupInfo, lag: Lag) -> int | None:
    """Entries that were removed from the stream before the group read them; None if Redis cannot tell.

    Redis 6.2 does not count. From 7.2 on (and Valkey), a group that reads past a gap counts the missing entries as
    read: 0 is certain only if nothing was ever removed from the stream. Before Redis 7.4 entries that were read count
    as unread after a fail-over or a restart.
    """
    if lag.entries is None:
        return None
    unread = replace(observation_of(info, group, 0), left=lag.entries).removed_unread
    if unread and not stream.counts_every_read():
        return None
    return None if unread == 0 and info.entries_added != info.length else unread
