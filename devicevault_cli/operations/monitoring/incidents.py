"""Incidents of a stream: recorded ones, those that only looking shows, and acknowledging them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from devicevault_cli.errors import DvctlError, Refused, Usage, WrongType
from devicevault_cli.operations.changes.plan import Answer, Plan, number
from devicevault_cli.operations.monitoring.continuity import RESTARTS, Change, Kind, compare
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams import marker
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.marker import Seen
from devicevault_cli.streams.model import ZERO, EntryId, GroupInfo, StreamInfo
from devicevault_cli.streams.stream import Stream
from devicevault_cli.times import iso, now_ms

log = logging.getLogger("dvctl.incidents")

NEWEST = 100
"""Rows that are compared with the end of the stream."""
WRITTEN_BY_DEVICEVAULT = frozenset({"missed_window"})
"""Statuses of rows that DeviceVault's scheduler writes by itself: no entry ever stood for them."""


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that happened to a stream. `id` is None for what only looking shows: nobody has recorded it yet.

    `unread`: entries that the group never read and cannot read any more (None: unknown).
    """

    id: int | None
    at: str
    kind: Kind
    stream: str
    group: str
    detail: str
    last_id_before: str | None = None
    last_id_after: str | None = None
    length_before: int | None = None
    unread: int | None = None
    pending: int | None = None
    acknowledged_at: str | None = None

    @property
    def severity(self) -> str:
        """`critical`; `warning` where the evidence is only that rows are newer than the stream."""
        return "warning" if self.kind == "table-ahead" else "critical"

    def to_dict(self) -> dict[str, Any]:
        """An element of `incidents[]`."""
        return asdict(self)

    def to_json(self) -> str:
        """As it is recorded: without the number, which is its key."""
        return json.dumps({name: value for name, value in self.to_dict().items() if name != "id"})


def incident_of(change: Change, stream: str, group: str, before: Seen, now: Seen) -> Incident:
    """The record of a change that was noticed between two looks."""
    return Incident(
        None,
        iso(now.at_ms),
        change.kind,
        stream,
        group,
        change.detail,
        str(before.last_id),
        str(now.last_id) if now.kind == "stream" else None,
        before.length,
        change.unread,
        before.pending,
    )


def read(records: dict[int, bytes]) -> list[Incident]:
    """Recorded incidents, oldest first; what dvctl did not write is passed over."""
    found = []
    for key, record in sorted(records.items()):
        try:
            found.append(Incident(key, **json.loads(record)))
        except (TypeError, ValueError, RecursionError):
            continue
    return found


def all_of(
    stream: Stream,
    info: StreamInfo | None = None,
    groups: Sequence[GroupInfo] | None = None,
    repository: Repository | None = None,
) -> list[Incident]:
    """Every incident of the stream: recorded ones, and those that nobody has recorded yet.

    `info` and `groups` are what the caller knows already.  With a repository the newest rows are compared too.
    """
    recorded = read(marker.recorded(stream))
    try:
        if groups is None:
            info, groups = stream.info(), stream.groups()
        found = _noticed(stream, info, groups)
        if found:
            # The looks before were several: a stream may have been deleted between them.
            info = stream.info()
            found = _noticed(stream, info, stream.groups())
    except WrongType:
        return [*recorded, *_noticed(stream, None, (), kind="other")]
    if repository is not None and not found:
        with suppress(DvctlError):  # whether the database answers is not what is asked here
            found = table_ahead(stream.key, info, repository, recorded)
    return [*recorded, *found]


def open_ones(incidents: Iterable[Incident]) -> list[Incident]:
    """Those that nobody has acknowledged."""
    return [incident for incident in incidents if incident.acknowledged_at is None]


def shown_open(
    stream: Stream, info: StreamInfo | None, groups: Sequence[GroupInfo], repository: Repository | None
) -> list[dict[str, Any]] | None:
    """`incidents[]` of status; None where the user may not read them, or their key holds something else."""
    try:
        return [incident.to_dict() for incident in open_ones(all_of(stream, info, groups, repository))]
    except (Refused, WrongType) as error:
        log.warning("incidents cannot be read: %s%s", error, f" ({error.hint})" if error.hint else "")
        return None


def of_group(incidents: Iterable[Incident], group: str) -> list[Incident]:
    """Those that concern a group: its own, and what befell the whole stream."""
    return [incident for incident in incidents if incident.group in (group, "") or incident.kind in RESTARTS]


def _noticed(stream: Stream, info: StreamInfo | None, groups: Sequence[GroupInfo], kind: str = "") -> list[Incident]:
    """What the markers tell: the stream or a group is not what a consumer saw last. `kind`: what it is instead."""
    there = {group.name: group for group in groups}
    found = []
    for name, before in marker.markers(stream).items():
        now = Seen(now_ms(), kind) if kind else marker.seen_now(info, there.get(name), now_ms())
        if change := compare(stream.key, name, before, now):
            found.append(incident_of(change, stream.key, name, before, now))
    return found


def table_ahead(
    stream: str, info: StreamInfo | None, repository: Repository, recorded: Sequence[Incident]
) -> list[Incident]:
    """Rows that are newer than the last entry that ever stood on the stream, unless a recorded incident explains them.

    For a Redis that was flushed or restored while no consumer ran: nothing in Redis tells of it.
    """
    last = info.last_generated_id if info else ZERO
    rows = [moment for moment, status in repository.newest(NEWEST) if status not in WRITTEN_BY_DEVICEVAULT]
    ahead = [moment for moment in rows if moment // 1000 > last.ms]
    if not ahead or (last != ZERO and not _times_of_entries(ahead)):
        return []
    newest = EntryId(max(ahead) // 1000, 0)
    if any(_explains(incident, newest) for incident in recorded):
        return []
    where = (
        f"the last entry of stream {stream} ({iso(last.ms)})" if last != ZERO else f"stream {stream}, which is empty"
    )
    detail = (
        f"table {repository.spec.name} holds rows up to {iso(newest.ms)}, newer than {where}:"
        " the stream may have been flushed, or restored from an old dump"
    )
    last_id = None if info is None else str(last)
    return [Incident(None, iso(now_ms()), "table-ahead", stream, "", detail, str(newest), last_id)]


def _times_of_entries(moments: Sequence[int]) -> bool:
    """Whether rows carry the times of entries: milliseconds, and a small sequence number as microseconds.

    DeviceVault's own consumer writes the time of consumption, which always is later than the entry's.
    """
    most = 20 if len(moments) < 3 else 250
    return sum(moment % 1000 < most for moment in moments) >= 0.9 * len(moments)


def _explains(incident: Incident, newest: EntryId) -> bool:
    try:
        return EntryId.parse(incident.last_id_before or "0").ms >= newest.ms
    except Usage:
        return False


def sentence(found: Sequence[Incident]) -> str:
    """The incidents in one line: the newest, and how many there are besides."""
    more = f" (and {number(len(found) - 1, 'more incident')})" if len(found) > 1 else ""
    return f"{found[-1].detail}{more}" if found else "none"


# --- acknowledging ---------------------------------------------------------------------------------------------------


def list_incidents(stream: Stream, repository: Repository | None, *, everything: bool) -> Answer:
    """The answer of `incidents -o json`."""
    found = all_of(stream, repository=repository)
    return {"incidents": [incident.to_dict() for incident in (found if everything else open_ones(found))]}


def plan_acknowledge(stream: Stream, ids: Sequence[int], repository: Repository | None) -> Plan:
    """Acknowledge incidents (no ids: all, also those that nobody has recorded). Raises DvctlError for unknown ids."""
    found = open_ones(all_of(stream, repository=repository))
    chosen = [incident for incident in found if not ids or incident.id in ids]
    unknown = [each for each in dict.fromkeys(ids) if each not in {incident.id for incident in found}]
    if ids and not chosen:
        raise DvctlError(
            f"no unacknowledged incident {', '.join(map(str, unknown))} of stream {stream.key}",
            hint="list them with `dvctl incidents`",
        )
    names = [incident.id for incident in chosen if incident.id is not None]

    def still_true() -> bool:
        there = {incident.id for incident in read(marker.recorded(stream))}
        return there.issuperset(names)

    def apply() -> Answer:
        at = iso(now_ms())
        done = [replace(incident, acknowledged_at=at) for incident in chosen]
        marker.rewrite(stream, {each.id: each.to_json() for each in done if each.id is not None})
        new = [record(stream, each) for each in done if each.id is None]
        return {"acknowledged": [*names, *(key for keys in new for key in keys)]}

    says = [f"{number(len(chosen), 'incident')} of stream {stream.key} would be acknowledged:"] if chosen else []
    says += [f"  {incident.at} {incident.kind}: {incident.detail}" for incident in chosen]
    return Plan(
        command="incidents acknowledge",
        says=tuple(says or [f"no unacknowledged incident of stream {stream.key}"]),
        answer={"acknowledged": names, "unknown": unknown, "unrecorded": len(chosen) - len(names)},
        size=len(chosen),
        apply=apply,
        still_true=still_true,
    )


def record(stream: Stream, incident: Incident) -> list[int]:
    """Record what nobody has recorded, and take the stream as it is now for granted. -> its number"""
    group = Group(stream, incident.group)
    looked = marker.look(group, now_ms())
    before = Seen.from_json(looked.marker) if looked.marker else None
    after = replace(looked.now, epoch=before.epoch + 1 if before else 1) if incident.group else None
    return marker.remember(group, looked.marker, after, [(None, incident.to_json())]) or []
