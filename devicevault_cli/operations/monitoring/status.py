"""The state of a stream, its groups and consumers, the table and the dead letters, at one moment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from devicevault_cli.errors import DvctlError, Refused, Unavailable, WrongType
from devicevault_cli.operations.answer import OPTIONAL, Answer, optional
from devicevault_cli.operations.monitoring.incidents import Incident, every_incident, unacknowledged
from devicevault_cli.operations.monitoring.lag import COUNT_LIMIT, LagSource, lag_of, trimmed_unread
from devicevault_cli.operations.monitoring.liveness import Liveness, liveness_of
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId, GroupInfo, StreamInfo
from devicevault_cli.streams.stream import Stream
from devicevault_cli.times import iso_micros, now_ms

if TYPE_CHECKING:
    from devicevault_cli.operations.dispatch.state import DispatchState
    from devicevault_cli.repository.repository import Repository


log = logging.getLogger("dvctl.incidents")


@dataclass(frozen=True, slots=True)
class StreamStatus(Answer):
    """`stream` of `status -o json`. `entries_added` is None before Redis 7.0, `bytes` without the right to ask."""

    key: str
    length: int
    first_id: EntryId | None
    last_id: EntryId | None
    last_generated_id: EntryId
    entries_added: int | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class GroupStatus(Answer):
    """An element of `groups`. `lag`, `lag_s` and `trimmed_unread` are None where they are unknown."""

    name: str
    consumers: int
    pending: int
    lag: int | None
    lag_source: LagSource
    lag_s: float | None
    last_delivered_id: EntryId
    oldest_pending_id: EntryId | None
    oldest_pending_age_ms: int | None
    trimmed_unread: int | None


@dataclass(frozen=True, slots=True)
class ConsumerStatus(Answer):
    """An element of `consumers`. `inactive_ms` is None before Redis 7.2, `alive` where it is unknown.

    `group` is a key of `status` and `top`, not of `consumers`.
    """

    group: str | None = field(metadata=OPTIONAL)
    name: str
    pending: int
    idle_ms: int
    inactive_ms: int | None
    alive: bool | None


@dataclass(frozen=True, slots=True)
class TableStatus(Answer):
    """`table` of `status -o json`. `error` is why the table could not be read."""

    name: str
    rows: int | None = None
    latest_timestamp: str | None = None
    error: DvctlError | None = optional()

    @property
    def summary(self) -> dict[str, Any]:
        """The answer for a terminal, which shows the error separately."""
        return self.to_dict() if self.error is None else {"name": self.name, "state": database_state(self.error)}


@dataclass(frozen=True, slots=True)
class DeadLettersStatus(Answer):
    """`dead` of `status -o json`: the stream of dead letters."""

    key: str
    length: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StatusAnswer(Answer):
    """The answer of `status`. `stream` is None if it does not exist, `incidents` if they cannot be read."""

    stream: StreamStatus | None
    groups: Sequence[GroupStatus]
    consumers: Sequence[ConsumerStatus]
    table: TableStatus | None
    dead: DeadLettersStatus
    discarded: int
    incidents: Sequence[Incident] | None
    dispatch: DispatchState | None = optional()


def status(
    stream: Stream,
    letters: DeadLetters,
    table: TableStatus | None = None,
    lag_limit: int = COUNT_LIMIT,
    repository: Repository | None = None,
    dispatch: DispatchState | None = None,
) -> StatusAnswer:
    """Read the state of everything; `table` and `dispatch` are passed on.

    lag_limit: how many entries are counted where Redis does not know the lag. With a repository, its newest rows are
    compared with the end of the stream.
    """
    info = stream.info()
    groups = stream.groups() if info else []
    length = letters.length()
    return StatusAnswer(
        _stream_status(stream, info) if info else None,
        [_group_status(stream, info, group, lag_limit) for group in groups if info],
        [row for group in groups for row in consumer_statuses(liveness_of(Group(stream, group.name)), group.name)],
        table,
        DeadLettersStatus(letters.letters.key, length, (letters.letters.bytes_used() or 0) if length else 0),
        letters.discarded_count(),
        _incidents(stream, info, groups, repository),
        dispatch=dispatch,
    )


def _incidents(
    stream: Stream, info: StreamInfo | None, groups: Sequence[GroupInfo], repository: Repository | None
) -> list[Incident] | None:
    """Unacknowledged incidents; None, with a warning, if this user may not read them or their key has another type."""
    try:
        return unacknowledged(every_incident(stream, info, groups, repository))
    except (Refused, WrongType) as error:
        log.warning("incidents cannot be read: %s%s", error, f" ({error.hint})" if error.hint else "")
        return None


def _stream_status(stream: Stream, info: StreamInfo) -> StreamStatus:
    last, generated = info.last_id if info.length else None, info.last_generated_id
    return StreamStatus(info.key, info.length, info.first_id, last, generated, info.entries_added, stream.bytes_used())


def _group_status(stream: Stream, info: StreamInfo, group: GroupInfo, lag_limit: int) -> GroupStatus:
    now = now_ms()
    lag = lag_of(stream, info, group, lag_limit)
    oldest = Group(stream, group.name).summary().first_id
    age_ms = max(0, now - oldest.ms) if oldest else None
    return GroupStatus(
        group.name, group.consumers, group.pending, lag.entries, lag.source, lag.seconds(now),
        group.last_delivered_id, oldest, age_ms, trimmed_unread(stream, info, group, lag),
    )  # fmt: skip


def consumer_statuses(liveness: Liveness, group: str | None = None) -> list[ConsumerStatus]:
    return [
        ConsumerStatus(group, info.name, info.pending, info.idle_ms, info.inactive_ms, liveness.alive(info))
        for info in liveness.consumers
    ]


def table_status(name: str, opened: Callable[[], Repository]) -> TableStatus:
    """Read the table; if the database is unreachable or refuses, that is its status."""
    try:
        repository = opened()
        rows, latest = repository.count(), repository.latest_timestamp()
    except DvctlError as error:
        return TableStatus(name, error=error)
    return TableStatus(name, rows, None if latest is None else iso_micros(latest))


def database_state(error: DvctlError) -> str:
    """What is wrong with a database, in a word or two."""
    if isinstance(error, Unavailable):
        return "unreachable"
    return "refused" if isinstance(error, Refused) else "not usable"
