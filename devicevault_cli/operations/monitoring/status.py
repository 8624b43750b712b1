"""One look at everything: stream, groups, consumers, table, dead letters."""

from __future__ import annotations

import time
from typing import Any

from devicevault_cli.operations.monitoring.incidents import shown_open
from devicevault_cli.operations.monitoring.lag import COUNT_LIMIT, lag_of, trimmed_unread
from devicevault_cli.operations.monitoring.liveness import liveness_of
from devicevault_cli.records import LATEST, Micros
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import GroupInfo, StreamInfo
from devicevault_cli.streams.stream import Stream


def iso(micros: Micros | None) -> str | None:
    """ISO 8601 UTC; a year past 9999 is shown as the last moment of 9999."""
    if micros is None:
        return None
    seconds, fraction = divmod(min(micros, LATEST), 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:06d}Z"


def status(
    stream: Stream,
    letters: DeadLetters,
    table: dict[str, Any] | None = None,
    lag_limit: int = COUNT_LIMIT,
    repository: Repository | None = None,
) -> dict[str, Any]:
    """The answer of `status -o json`; `stream` is None where there is none; `table` is passed on.

    lag_limit: how many entries are counted where Redis does not know the lag. With a repository its newest rows are
    compared with the end of the stream.
    """
    info = stream.info()
    groups = stream.groups() if info else []
    length = letters.length()
    return {
        "stream": _stream(stream, info),
        "groups": [_group(stream, info, group, lag_limit) for group in groups if info],
        "consumers": [
            {
                "group": group.name,
                "name": each.name,
                "pending": each.pending,
                "idle_ms": each.idle_ms,
                "inactive_ms": each.inactive_ms,
                "alive": liveness.alive(each),
            }
            for group in groups
            for liveness in [liveness_of(Group(stream, group.name))]
            for each in liveness.consumers
        ],
        "table": table,
        "dead": {
            "key": letters.letters.key,
            "length": length,
            "bytes": (letters.letters.bytes_used() or 0) if length else 0,
        },
        "discarded": letters.discarded_count(),
        "incidents": shown_open(stream, info, groups, repository),
    }


def _stream(stream: Stream, info: StreamInfo | None) -> dict[str, Any] | None:
    if info is None:
        return None
    return {
        "key": info.key,
        "length": info.length,
        "first_id": str(info.first_id) if info.first_id else None,
        "last_id": str(info.last_id) if info.length else None,
        "last_generated_id": str(info.last_generated_id),
        "entries_added": info.entries_added,
        "bytes": stream.bytes_used(),
    }


def _group(stream: Stream, info: StreamInfo, group: GroupInfo, lag_limit: int) -> dict[str, Any]:
    now_ms = time.time_ns() // 1_000_000
    lag = lag_of(stream, info, group, lag_limit)
    oldest = Group(stream, group.name).summary().first_id
    return {
        "name": group.name,
        "consumers": group.consumers,
        "pending": group.pending,
        "lag": lag.entries,
        "lag_source": lag.source,
        "lag_s": lag.seconds(now_ms),
        "last_delivered_id": str(group.last_delivered_id),
        "oldest_pending_id": str(oldest) if oldest else None,
        "oldest_pending_age_ms": max(0, now_ms - oldest.ms) if oldest else None,
        "trimmed_unread": trimmed_unread(info, group, lag),
    }
