"""What `check` and `doctor` say of incidents, of a group that is missing, and of the keys beside a stream."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from devicevault_cli.errors import DvctlError, Refused, WrongType
from devicevault_cli.operations.monitoring.checks import Finding
from devicevault_cli.operations.monitoring.continuity import entries_were
from devicevault_cli.operations.monitoring.incidents import Incident, all_of, of_group, open_ones, sentence, table_ahead
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams import keys
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import StreamInfo
from devicevault_cli.streams.stream import Stream

Opened: TypeAlias = Callable[[], Repository | None]
"""Opens the database, where one is configured."""

RUNBOOK = "follow docs/runbooks/redis-flushed.md, then run `dvctl incidents acknowledge`"


def incidents_of(group: Group, repository: Repository | None = None) -> list[Incident]:
    """Unacknowledged incidents that concern the group."""
    return of_group(open_ones(all_of(group.stream, repository=repository)), group.name)


# --- check -----------------------------------------------------------------------------------------------------------


def nothing() -> None:
    """No database is configured."""


def for_check(group: Group, opened: Opened) -> list[dict[str, Any]]:
    """`group` and `incidents`, which no limit can switch off."""
    info = group.stream.info()
    found: list[Incident] | None
    try:
        known, why = all_of(group.stream), ""
        found = of_group(open_ones(known), group.name)
        if not found and (info is None or not info.length):
            found = _by_the_table(group.stream, info, opened, known)
    except (Refused, WrongType) as error:
        found, why = None, f"incidents cannot be read: {error}"
    missing = info is not None and info.length > 0 and group.info() is None
    no_group = without_group(group.name, info, found or ()) if missing and info else ""
    return [
        _item("group", "critical" if missing else "ok", 0 if missing else 1, no_group),
        _item("incidents", _severity(found), None if found is None else len(found), why or sentence(found or ())),
    ]


def _item(name: str, status: str, value: int | None, detail: str) -> dict[str, Any]:
    limits = {"warning": None, "critical": None}
    return {"name": name, "status": status, "value": value, **limits, "detail": detail}


def _severity(found: Sequence[Incident] | None) -> str:
    if found is None:
        return "unknown"
    levels = {incident.severity for incident in found}
    return next((level for level in ("critical", "warning") if level in levels), "ok")


def _by_the_table(stream: Stream, info: StreamInfo | None, opened: Opened, known: Sequence[Incident]) -> list[Incident]:
    """An empty stream beside a filled table; whether the database answers is not what is asked here."""
    try:
        repository = opened()
        return table_ahead(stream.key, info, repository, known) if repository is not None else []
    except DvctlError:
        return []


# --- doctor ----------------------------------------------------------------------------------------------------------


def incidents(group: Group, repository: Repository | None) -> Finding:
    """Unacknowledged incidents; with a database also rows that are newer than the stream."""
    found = incidents_of(group, repository)
    if not found:
        return Finding("ok", "the stream is as it was seen last")
    return Finding("problem" if _severity(found) == "critical" else "warning", sentence(found), RUNBOOK)


def group_is_missing(group: Group, info: StreamInfo) -> Finding:
    """A stream without the group."""
    if not info.length:
        return Finding("warning", f"there is no group {group.name} yet", "start `dvctl consume`, which creates it")
    return Finding(
        "problem", without_group(group.name, info, incidents_of(group)), "start `dvctl consume`, which creates it"
    )


def without_group(group: str, info: StreamInfo, found: Sequence[Incident]) -> str:
    """What to say of a stream with entries that the group does not exist on."""
    waiting = "1 entry waits" if info.length == 1 else f"{info.length:,} entries wait"
    known = next((incident for incident in reversed(found) if incident.kind == "group-gone"), None)
    said = f"no group {group}: {waiting}, start `dvctl consume`"
    return f"{said}; {known.detail}" if known else said


def removed_without_group(group: Group, info: StreamInfo | None) -> Finding:
    """How many entries left a stream without a group, and what is known of them."""
    if info is None:
        return Finding("unknown", f"there is no stream {group.stream.key}")
    known = next((incident for incident in reversed(incidents_of(group)) if incident.unread), None)
    if known is not None:
        return Finding("problem", known.detail, RUNBOOK)
    if info.entries_added is None:
        return Finding("unknown", "Redis before 7.0 does not count entries that were removed, and there is no group")
    removed = info.entries_added - info.length
    if not removed:
        return Finding("ok", "no entry was removed")
    return Finding(
        "unknown", f"{entries_were(removed)} removed; without a group dvctl cannot tell how many were unread"
    )


def side_keys(stream: Stream) -> Finding:
    """The stream and the keys beside it: of the right type, and without a time to live."""
    types = {
        stream.key: "stream",
        keys.dead(stream.key): "stream",
        keys.dead_ids(stream.key): "hash",
        keys.discarded(stream.key): "zset",
        keys.alone(stream.key): "hash",
        keys.seen(stream.key): "hash",
        keys.incidents(stream.key): "hash",
    }
    replies = stream.call_many(command for key in types for command in (("TYPE", key), ("PTTL", key)))
    found = list(zip(types.items(), map(_text, replies[::2]), map(int, replies[1::2]), strict=True))
    wrong = [(key, there, wanted) for (key, wanted), there, _ in found if there not in ("none", wanted)]
    mortal = [(key, ttl_ms) for (key, _), _, ttl_ms in found if ttl_ms >= 0]
    if wrong:
        said = "; ".join(f"{key} holds a {there}, not a {wanted}" for key, there, wanted in wrong)
        fix = "; ".join(f"redis-cli RENAME {shlex.quote(key)} {shlex.quote(f'{key}:old')}" for key, *_ in wrong)
        return Finding("problem", said, fix)
    if mortal:
        said = "; ".join(f"{key} expires in {ttl_ms / 1000:,.0f} s" for key, ttl_ms in mortal)
        return Finding(
            "problem",
            f"{said}: Redis then deletes it with everything in it",
            "; ".join(f"redis-cli PERSIST {shlex.quote(key)}" for key, _ in mortal),
        )
    return Finding("ok", "every key beside the stream has the right type, and none expires")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
