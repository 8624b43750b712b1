"""dvctl incidents: what happened to a stream that must not happen, as recorded or as found now; acknowledging it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from devicevault_cli.errors import DvctlError, Usage, WrongType
from devicevault_cli.operations.answer import Answer, ChangeAnswer
from devicevault_cli.operations.changes.change import Change
from devicevault_cli.operations.changes.undo import impossible
from devicevault_cli.operations.monitoring.continuity import RESTARTS, Kind, StreamChange, compare
from devicevault_cli.plural import number
from devicevault_cli.streams import marker
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.marker import Observation
from devicevault_cli.streams.model import ZERO, EntryId, GroupInfo, StreamInfo
from devicevault_cli.streams.stream import Stream
from devicevault_cli.times import iso, now_ms

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

NEWEST = 100
"""Rows that are compared with the end of the stream."""
SOON_MS = 5_000
WRITTEN_BY_DEVICEVAULT = frozenset({"missed_window"})
"""Statuses of rows that DeviceVault's scheduler writes itself: these rows never had an entry."""


@dataclass(frozen=True, slots=True)
class Incident(Answer):
    """An element of `incidents[]`. `id` is None for an incident that was found now and is not recorded yet.

    `unread`: entries that the group can no longer read (None: unknown). Times are ISO 8601 UTC.
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

    def to_json(self) -> str:
        """The record: JSON without the id, which is the key of the record."""
        return json.dumps({name: value for name, value in self.to_dict().items() if name != "id"})


def incident_of(change: StreamChange, stream: str, group: str, before: Observation, now: Observation) -> Incident:
    last_id = str(now.last_id) if now.kind == "stream" else None
    known = str(before.last_id), last_id, before.length, change.unread, before.pending
    return Incident(None, iso(now.at_ms), change.kind, stream, group, change.detail, *known)


def parse_records(records: dict[int, bytes]) -> list[Incident]:
    """Recorded incidents, oldest first; records that dvctl did not write are skipped."""
    found = []
    for key, record in sorted(records.items()):
        with suppress(TypeError, ValueError, RecursionError):
            found.append(Incident(key, **json.loads(record)))
    return found


def every_incident(
    stream: Stream,
    info: StreamInfo | None = None,
    groups: Sequence[GroupInfo] | None = None,
    repository: Repository | None = None,
) -> list[Incident]:
    """Every incident of the stream, recorded or found now. Pass `info` and `groups` if they were read already.

    With a repository, its newest rows are compared with the end of the stream, if no other stream fills the table.
    """
    recorded = parse_records(marker.recorded(stream))
    try:
        if groups is None:
            info, groups = stream.info(), stream.groups()
        found = _noticed(stream, info, groups)
        if found:
            # Not read at one moment: the stream may have been deleted in between.
            info = stream.info()
            found = _noticed(stream, info, stream.groups())
    except WrongType:
        return [*recorded, *_noticed(stream, None, (), kind="other")]
    if repository is not None and not found and not stream.shares_table:
        with suppress(DvctlError):  # an unreachable database is reported elsewhere
            found = table_ahead(stream.key, info, repository, recorded)
    return [*recorded, *found]


def unacknowledged(incidents: Iterable[Incident]) -> list[Incident]:
    return [incident for incident in incidents if incident.acknowledged_at is None]


def unacknowledged_of(group: Group, incidents: Iterable[Incident]) -> list[Incident]:
    """Unacknowledged incidents that concern a group: its own, and those of the whole stream."""
    return [
        incident
        for incident in unacknowledged(incidents)
        if incident.group in (group.name, "") or incident.kind in RESTARTS
    ]


def _noticed(stream: Stream, info: StreamInfo | None, groups: Sequence[GroupInfo], kind: str = "") -> list[Incident]:
    """Incidents that the markers show. `kind`: of a value that is no stream."""
    there = {group.name: group for group in groups}
    found = []
    for name, before in marker.markers(stream).items():
        now = Observation(now_ms(), kind) if kind else marker.observation_of(info, there.get(name), now_ms())
        if change := compare(stream.key, name, before, now):
            found.append(incident_of(change, stream.key, name, before, now))
    return found


def table_ahead(
    stream: str, info: StreamInfo | None, repository: Repository, recorded: Sequence[Incident]
) -> list[Incident]:
    """An incident if rows are newer than the last entry ever added, unless a recorded incident explains them.

    Finds a Redis that was flushed or restored while no consumer ran, which leaves no trace in Redis.
    """
    last = info.last_generated_id if info else ZERO
    rows = [moment for moment, status in repository.newest(NEWEST) if status not in WRITTEN_BY_DEVICEVAULT]
    ahead = [moment for moment in rows if moment // 1000 > last.ms]
    if not ahead or (last != ZERO and not _times_of_entries(ahead, last.ms)):
        return []
    newest = EntryId(max(ahead) // 1000, 0)
    if any(_explains(incident, newest) for incident in recorded):
        return []
    end = f"stream {stream}, which is empty" if last == ZERO else f"the last entry of stream {stream} ({iso(last.ms)})"
    detail = (
        f"table {repository.spec.name} holds rows up to {iso(newest.ms)}, newer than {end}:"
        " the stream may have been flushed, or restored from an old dump"
    )
    last_id = None if info is None else str(last)
    return [Incident(None, iso(now_ms()), "table-ahead", stream, "", detail, str(newest), last_id)]


def _times_of_entries(moments: Sequence[int], last_ms: int) -> bool:
    """Whether the times of rows are those of entries: milliseconds, with a small sequence number as microseconds.

    DeviceVault's own consumer writes the time of consumption, which is always later than that of the entry. One in
    fifty looks like the time of an entry, so a single row soon after the last entry shows nothing.
    """
    if len(moments) == 1 and moments[0] // 1000 - last_ms < SOON_MS:
        return False
    most = 20 if len(moments) < 3 else 250
    return sum(moment % 1000 < most for moment in moments) >= 0.9 * len(moments)


def _explains(incident: Incident, newest: EntryId) -> bool:
    try:
        return EntryId.parse(incident.last_id_before or "0").ms >= newest.ms
    except Usage:
        return False


def sentence(found: Sequence[Incident]) -> str:
    """The incidents in one line: the newest, and how many more there are."""
    if not found:
        return "none"
    return found[-1].detail + (f" (and {number(len(found) - 1, 'more incident')})" if len(found) > 1 else "")


def severity(found: Sequence[Incident]) -> Literal["critical", "warning", "ok"]:
    """The highest severity of some incidents; `warning` if only newer rows in the table indicate them, and for rows
    that were lost and are back."""
    if all(incident.kind in ("table-ahead", "rows-restored") for incident in found):
        return "warning" if found else "ok"
    return "critical"


def missing_group(group: str, info: StreamInfo, found: Sequence[Incident]) -> str:
    """A sentence about a stream that has entries but not this group."""
    waiting = number(info.length, "entry waits", "entries wait")
    known = next((incident for incident in reversed(found) if incident.kind == "group-gone"), None)
    said = f"no group {group}: {waiting}, start `dvctl consume`"
    return f"{said}; {known.detail}" if known else said


@dataclass(frozen=True, slots=True)
class IncidentsAnswer(Answer):
    incidents: Sequence[Incident]


def list_incidents(stream: Stream, repository: Repository | None, *, everything: bool) -> IncidentsAnswer:
    """Unacknowledged incidents; with `everything` also acknowledged ones."""
    found = every_incident(stream, repository=repository)
    return IncidentsAnswer(found if everything else unacknowledged(found))


@dataclass(frozen=True, slots=True)
class AcknowledgeAnswer(ChangeAnswer):
    """The answer of `incidents acknowledge`. `unrecorded`: number of incidents found now, which get an id."""

    acknowledged: Sequence[int]
    unknown: Sequence[int]
    unrecorded: int


UNDO = impossible("`dvctl incidents --all` still lists them")


def plan_acknowledge(stream: Stream, ids: Sequence[int], repository: Repository | None) -> Change[AcknowledgeAnswer]:
    """Acknowledge incidents; without ids all, also those not recorded yet. Raises DvctlError if no id is known."""
    found = unacknowledged(every_incident(stream, repository=repository))
    chosen = [incident for incident in found if not ids or incident.id in ids]
    unknown = [key for key in dict.fromkeys(ids) if key not in {incident.id for incident in found}]
    if ids and not chosen:
        raise DvctlError(
            f"no unacknowledged incident {', '.join(map(str, unknown))} of stream {stream.key}",
            hint="list them with `dvctl incidents`",
        )
    known = [incident.id for incident in chosen if incident.id is not None]
    says = [f"{number(len(chosen), 'incident')} of stream {stream.key} would be acknowledged:"] if chosen else []
    says += [f"  {incident.at} {incident.kind}: {incident.detail}" for incident in chosen]
    answer = AcknowledgeAnswer(known, unknown, len(chosen) - len(known))
    return Change(
        command="incidents acknowledge", says=tuple(says or [f"no unacknowledged incident of stream {stream.key}"]),
        undo=UNDO, answer=answer, size=len(chosen),
        apply=lambda: replace(answer, acknowledged=_acknowledge(stream, chosen)),
        still_true=lambda: {incident.id for incident in parse_records(marker.recorded(stream))}.issuperset(known),
    )  # fmt: skip


def _acknowledge(stream: Stream, incidents: Sequence[Incident]) -> list[int]:
    """Record incidents as acknowledged. -> their ids"""
    at = iso(now_ms())
    done = [replace(incident, acknowledged_at=at) for incident in incidents]
    recorded = {incident.id: incident.to_json() for incident in done if incident.id is not None}
    marker.rewrite(stream, recorded)
    return [*recorded, *(key for incident in done if incident.id is None for key in record_incident(stream, incident))]


def record_incident(stream: Stream, incident: Incident) -> list[int]:
    """Record an incident that was found now, and the present state of the stream as the known one. -> its number"""
    group = Group(stream, incident.group)
    looked = marker.observe(group, now_ms())
    before = Observation.from_json(looked.marker) if looked.marker else None
    after = replace(looked.now, epoch=before.epoch + 1 if before else 1) if incident.group else None
    return marker.remember(group, looked.marker, after, [(None, incident.to_json())]) or []
