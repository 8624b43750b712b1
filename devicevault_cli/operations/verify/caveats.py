"""Why a verification proves nothing: no stream, an empty one beside a filled table, entries never read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from devicevault_cli.errors import DvctlError
from devicevault_cli.operations.monitoring.continuity import RESTARTS
from devicevault_cli.operations.monitoring.incidents import Incident, every_incident, parse_records, unacknowledged_of
from devicevault_cli.plural import number
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.marker import recorded
from devicevault_cli.streams.model import StreamInfo
from devicevault_cli.streams.stream import Stream

NAMES = 5


def caveats(
    group: Group, info: StreamInfo | None, rows: int, repository: Repository
) -> tuple[str | None, tuple[Mapping[str, Any], ...]]:
    """`problem` (a sentence, or None) and `incidents` of the answer."""
    problem = nothing_to_verify(group.stream, info, rows)
    try:
        # An empty stream beside a filled table is reported already then.
        incidents = every_incident(group.stream, repository=None if problem else repository)
    except DvctlError:
        incidents = []  # without the right to read them; `doctor` and `check` say so
    found = unacknowledged_of(group, incidents)
    return problem or never_read(found), tuple(incident.to_dict() for incident in found)


def nothing_to_verify(stream: Stream, info: StreamInfo | None, rows: int) -> str | None:
    """Why there is nothing to compare; None where there is, or where stream and table are both empty.

    Beside other streams that fill the table an empty one is as it should be.
    """
    if info is None:
        return f'nothing to verify: there is no stream "{stream.key}"{_others(stream)}'
    if info.length or not rows or stream.shares_table:
        return None
    removed = f"; {info.entries_added:,} entries were removed from it" if info.entries_added else ""
    return f'nothing to verify: stream "{stream.key}" is empty, but the table holds {rows:,} rows{removed}'


def never_read(found: Sequence[Incident]) -> str | None:
    """Entries that were lost because they were removed from the stream before they were read."""
    lost = [incident for incident in found if incident.unread != 0 and incident.kind != "table-ahead"]
    return f"{lost[-1].detail}; acknowledge it with `dvctl incidents acknowledge`" if lost else None


def acknowledged_losses(group: Group) -> str | None:
    """A sentence about acknowledged incidents in which entries were lost unread; None without any."""
    try:
        known = parse_records(recorded(group.stream))
    except DvctlError:
        return None  # without the right to read them; `doctor` and `check` say so
    lost = [
        incident
        for incident in known
        if incident.acknowledged_at is not None
        and incident.unread != 0
        and incident.kind != "table-ahead"
        and (incident.group == group.name or incident.kind in RESTARTS)
    ]
    if not lost:
        return None
    return f"{number(len(lost), 'acknowledged incident')} in which entries were lost: see `dvctl incidents --all`"


def _others(stream: Stream) -> str:
    """The names of the streams there are, the nearest first."""
    try:
        names = stream.neighbours()
    except DvctlError:
        return ""  # without the right to list keys
    if not names:
        return "; there is no stream at all in this database of Redis"
    close = get_close_matches(stream.key, names, NAMES, 0.0)
    return f"; streams there are: {', '.join(close or names[:NAMES])}"
