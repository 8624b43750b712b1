"""Checks of `dvctl doctor` on the group: consumers, pending entries, entries lost unread, dead letters, incidents."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from devicevault_cli.operations.monitoring import incidents
from devicevault_cli.operations.monitoring.checks import Check, Finding, State
from devicevault_cli.operations.monitoring.continuity import Kind
from devicevault_cli.operations.monitoring.incidents import Incident, every_incident, unacknowledged_of
from devicevault_cli.operations.monitoring.lag import lag_of, trimmed_unread
from devicevault_cli.operations.monitoring.limits import CLAIM_IDLE_MS
from devicevault_cli.operations.monitoring.liveness import (
    Liveness,
    devicevault_consumers,
    foreign_consumer,
    liveness_of,
    waiting_clients,
)
from devicevault_cli.operations.wording import entries, entries_were, some
from devicevault_cli.plural import number
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ConsumerInfo, PendingEntry, StreamInfo
from devicevault_cli.times import iso, show_duration

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

INACTIVE_MS = 3_600_000
"""Idle time from which a consumer that holds nothing should be retired."""
MANY_DELIVERIES = 5
"""Deliveries from which an entry may be what ends its consumers."""
SHOWN = 3
"""Consumers whose pending entries are described one by one."""
EXAMINED_PAGES = 10
"""Pages of 1,000 pending entries that are examined, oldest first."""
TOPICS: dict[Kind, str] = {
    "stream-restarted": "redis-flushed",
    "stream-replaced": "redis-flushed",
    "group-gone": "group-destroyed",
    "entries-removed": "stream-trimmed",
    "table-ahead": "redis-restored",
}
"""The topic of `dvctl help` that helps after each kind of incident."""


def group_checks(group: Group) -> Iterator[tuple[str, Check]]:
    yield "group", lambda: _group(group)
    yield "consumers", lambda: _consumers(group)
    yield "devicevault-consumer", lambda: _devicevaults_consumer(group)
    yield "devicevault-pending", lambda: _left_behind(group)
    yield "dangling-pending", lambda: _dangling(group)
    yield "poison", lambda: _many_deliveries(group)
    yield "trimmed-unread", lambda: _trimmed_unread(group)
    yield "dead-letters", lambda: _dead_letters(group)


def _group(group: Group) -> Finding:
    info = group.stream.info()
    if info is None:
        return Finding("warning", f"there is no stream {group.stream.key} yet", "it appears with the first message")
    about = group.info()
    if about is not None:
        return Finding("ok", f"{group.name} is at {about.last_delivered_id.shown}, {about.pending:,} pending")
    fix = "start `dvctl consume`, which creates it"
    if not info.length:
        return Finding("warning", f"there is no group {group.name} yet", fix)
    detail = incidents.missing_group(group.name, info, _incidents(group))
    return Finding("problem", detail, f"{fix}; see `dvctl help group-destroyed`")


def _consumers(group: Group) -> Finding:
    if group.info() is None:
        return Finding("ok", "none")
    liveness = liveness_of(group)
    consumers = liveness.consumers
    stuck = [info for info in consumers if info.pending and info.idle_ms >= CLAIM_IDLE_MS]
    if stuck:
        held = entries(sum(info.pending for info in stuck))
        detail = f"dead or stuck consumers hold {held}: {some([info.name for info in stuck])}"
        fix = "start `dvctl consume` to take them over, or run `dvctl consumers retire`; see `dvctl help dead-consumer`"
        return Finding("problem", detail, fix)
    inactive = [info.name for info in consumers if info.idle_ms >= INACTIVE_MS and not liveness.alive(info)]
    if inactive:
        detail = f"{number(len(inactive), 'consumer')} idle for more than an hour without entries: {some(inactive)}"
        return Finding("warning", detail, "dvctl consumers retire --dead-for 1h")
    alive = sum(liveness.alive(consumer) is True for consumer in consumers)
    if holding := [info for info in consumers if info.pending and liveness.alive(info) is False]:
        held = entries(sum(info.pending for info in holding))
        detail = f"{alive} alive; {len(holding)} not alive, holding {held}: {some([info.name for info in holding])}"
        idle = show_duration(CLAIM_IDLE_MS)
        fix = f"`dvctl consume` takes them over once they are idle for {idle}; see `dvctl help dead-consumer`"
        return Finding("warning", detail, fix)
    return Finding("ok" if alive else "warning", f"{alive} alive", "" if alive else "start `dvctl consume`")


def _devicevaults_consumer(group: Group) -> Finding:
    if group.info() is None:
        return Finding("ok", "not running")
    liveness = liveness_of(group)
    fix = "stop it; until then `dvctl db index` prevents duplicate rows"
    if alive := foreign_consumer(liveness):
        return Finding("problem", f"{alive}; such a consumer acknowledges messages that failed", fix)
    named = devicevault_consumers(liveness)
    if waits := waiting_clients(liveness):
        certain = liveness.candidates and all(candidate in named for candidate in liveness.candidates)
        remove = "remove inactive consumers with `dvctl consumers retire NAME --force`"
        fix = f"if that is DeviceVault's consumer, {fix}; {remove}"
        return Finding("problem" if certain else "unknown", waits, fix)
    if liveness.clients is not None and (unclear := [consumer.name for consumer in liveness.unclear]):
        detail = f"{some(unclear)}: alive, without a connection named by dvctl: DeviceVault's own, or dvctl before 1.0"
        return Finding("unknown", detail, f"if that is DeviceVault's consumer, {fix}")
    if liveness.clients is None:
        return Finding("unknown", "CLIENT LIST is not permitted: waiting consumers cannot be detected")
    left = f" ({number(len(named), 'inactive consumer')} left)" if named else ""
    return Finding("ok", f"not running{left}")


def _left_behind(group: Group) -> Finding:
    """What DeviceVault's own consumers hold that are gone: it starts under another name, and reads only new entries."""
    if group.info() is None:
        return Finding("ok", "nothing is pending")
    liveness = liveness_of(group)
    holding = [one for one in devicevault_consumers(liveness) if one.pending and _is_gone(liveness, one)]
    if not holding:
        return Finding("ok", "no inactive consumer of DeviceVault's holds entries")
    held = "; ".join(_held(group, consumer) for consumer in holding[:SHOWN])
    more = f"; and {number(len(holding) - SHOWN, 'more consumer')}" if len(holding) > SHOWN else ""
    names = " ".join(shlex.quote(consumer.name) for consumer in holding[:SHOWN])
    fix = f"start `dvctl consume`, which takes them over, or run `dvctl consumers retire {names}`"
    fix += "; see `dvctl help dead-consumer`"
    return Finding("problem", f"DeviceVault's own consumer left entries pending: {held}{more}", fix)


def _is_gone(liveness: Liveness, consumer: ConsumerInfo) -> bool:
    alive = liveness.alive(consumer)
    return alive is False or (alive is None and consumer.idle_ms >= CLAIM_IDLE_MS)


def _held(group: Group, consumer: ConsumerInfo) -> str:
    oldest = next(iter(group.pending(count=1, consumer=consumer.name)), None)
    since = f", the oldest from {iso(oldest.id.ms)}" if oldest is not None else ""
    return f"{consumer.name} holds {entries(consumer.pending)}{since}"


def _examined(group: Group) -> Iterator[list[PendingEntry]]:
    return islice(group.pending_pages(), EXAMINED_PAGES)


def _dangling(group: Group) -> Finding:
    if group.info() is None:
        return Finding("ok", "nothing is pending")
    examined = gone = 0
    for page in _examined(group):
        examined += len(page)
        gone += len(page) - len(group.stream.get(entry.id for entry in page))
    if gone:
        detail = f"{gone:,} of {examined:,} pending entries no longer exist on the stream"
        fix = "run `dvctl claim --release --idle 0` to clear them; see `dvctl help stream-trimmed`"
        return Finding("problem", detail, fix)
    return Finding("ok", f"{examined:,} pending entries, all on the stream")


def _many_deliveries(group: Group) -> Finding:
    if group.info() is None:
        return Finding("ok", "nothing is pending")
    found = [entry.id for page in _examined(group) for entry in page if entry.deliveries >= MANY_DELIVERIES]
    if found:
        detail = f"{entries_were(len(found))} delivered {MANY_DELIVERIES} times or more, e.g. {found[0]}"
        return Finding("warning", detail, f"run `dvctl show {found[0]}`; see `dvctl help poison-messages`")
    return Finding("ok", f"no entry was delivered {MANY_DELIVERIES} times or more")


def _trimmed_unread(group: Group) -> Finding:
    info, about = group.stream.info(), group.info()
    if info is None or about is None:
        return _removed_without_group(group, info)
    unread = trimmed_unread(group.stream, info, about, lag_of(group.stream, info, about))
    if unread is None:
        return Finding("unknown", "Redis does not record whether removed entries had been read")
    if unread:
        detail = f"{entries_were(unread)} removed from the stream before the group read them"
        return Finding("problem", detail, "restore them from a copy, if there is one; see `dvctl help stream-trimmed`")
    return Finding("ok", "no entry was removed unread")


def _removed_without_group(group: Group, info: StreamInfo | None) -> Finding:
    """The same without a group, from the incidents and the number of removed entries."""
    if info is None:
        return Finding("unknown", f"there is no stream {group.stream.key}")
    known = next((incident for incident in reversed(_incidents(group)) if incident.unread), None)
    if known is not None:
        return Finding("problem", known.detail, _after([known]))
    if info.entries_added is None:
        return Finding("unknown", "Redis before 7.0 does not count removed entries, and there is no group")
    removed = info.entries_added - info.length
    if not removed:
        return Finding("ok", "no entry was removed")
    detail = f"{entries_were(removed)} removed; without a group dvctl cannot tell how many were unread"
    return Finding("unknown", detail)


def _dead_letters(group: Group) -> Finding:
    count = sum(len(page) for page in DeadLetters(group.stream, group.name).pages())
    detail = number(count, "dead letter needs attention", "dead letters need attention")
    fix = "run `dvctl dlq stats`; see `dvctl help dead-letters`"
    return Finding("warning", detail, fix) if count else Finding("ok", "none")


def incidents_check(group: Group, repository: Repository | None) -> Finding:
    """Unacknowledged incidents; with a database also whether rows are newer than the stream."""
    found = _incidents(group, repository)
    if not found:
        return Finding("ok", "none")
    status: State = "problem" if incidents.severity(found) == "critical" else "warning"
    return Finding(status, incidents.sentence(found), _after(found))


def _after(found: Iterable[Incident]) -> str:
    """What to do after incidents."""
    commands = dict.fromkeys(f"`dvctl help {TOPICS[incident.kind]}`" for incident in found)
    return f"follow {' and '.join(commands)}, then run `dvctl incidents acknowledge`"


def _incidents(group: Group, repository: Repository | None = None) -> list[Incident]:
    return unacknowledged_of(group, every_incident(group.stream, repository=repository))
