"""A consumer's memory of its stream: notices and reports that the stream fell back, was replaced or trimmed unread."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from devicevault_cli.consumer.counters import Counters
from devicevault_cli.consumer.in_hand import InHand
from devicevault_cli.errors import DvctlError, MemoryFull, Refused, WrongType
from devicevault_cli.log_fields import fields
from devicevault_cli.operations.monitoring.continuity import RESTARTS, StreamChange, compare
from devicevault_cli.operations.monitoring.incidents import (
    Incident,
    incident_of,
    parse_records,
    record_incident,
    table_ahead,
    unacknowledged,
)
from devicevault_cli.streams import marker
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.marker import Comparison, Observation
from devicevault_cli.streams.model import ZERO
from devicevault_cli.times import now_ms

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

log = logging.getLogger("dvctl.consume")

LOOK_S = 2.0
REPORT_S = 60.0
"""Entries that are removed unread again and again are reported so often."""
ATTEMPTS = 3


class StreamWatch:
    """Compares the stream every two seconds with what this process and the marker beside the stream know of it.

    The marker outlives the process, the memory outlives a flush: together they notice both. When the stream restarted,
    what is in hand begins a new generation.
    """

    def __init__(self, group: Group, counters: Counters, in_hand: InHand) -> None:
        self._group = group
        self._counters = counters
        self._in_hand = in_hand
        self._memory: Observation | None = None
        self._taken_then = 0
        self._beside = True
        self._marked = self._table_compared = False
        self._unrecorded: list[Incident] = []
        self._next_look = 0.0
        self._reported: dict[str, float] = {}
        self._wrong_type = False

    def tick(self) -> None:
        """Comparison now and then."""
        if time.monotonic() >= self._next_look:
            self.look()

    def look(self) -> StreamChange | None:
        """Look now. -> what is wrong, if this process has not said so before. Does not raise dvctl's errors."""
        try:
            return self._examine(self._look())
        except DvctlError as error:
            log.debug("could not look at the stream: %s", error)
            return None
        finally:
            self._next_look = time.monotonic() + LOOK_S

    def look_at_table(self, repository: Repository) -> None:
        """At the start: rows newer than the stream are all that tells of a flush while no consumer ran."""
        stream = self._group.stream
        if not self._beside or self._table_compared or stream.shares_table:
            return
        try:
            for incident in table_ahead(stream.key, stream.info(), repository, parse_records(self._look().incidents)):
                about = fields(incident=incident.kind)
                log.warning("%s; see it with `dvctl incidents`", incident.detail, extra=about)
                record_incident(stream, incident)
            self._table_compared = True
        except (Refused, WrongType, MemoryFull) as error:
            log.debug("could not compare the table with the stream: %s", error)

    def _look(self) -> Comparison:
        try:
            return marker.observe(self._group, now_ms(), stored=self._beside)
        except Refused as error:
            if not self._beside:
                raise
            log.warning("incidents of the stream will not be recorded: %s (%s)", error, error.hint)
            self._beside = False
            return marker.observe(self._group, now_ms(), stored=False)

    def _examine(self, looked: Comparison) -> StreamChange | None:
        now = self._with_lag(looked.now)
        marked = Observation.from_json(looked.marker) if looked.marker and not self._unrecorded else None
        mine = self._compare(self._memory, now, self._counters.taken - self._taken_then)
        shared = self._compare(marked, now, 0)
        known = marked is not None and self._memory is not None and marked.epoch > self._memory.epoch
        if mine and mine.kind == "group-gone" and self._marked and not looked.marker:
            mine = None  # `dvctl destroy-group` removed both
        change, before = (mine, self._memory) if mine and not (known and shared) else (shared, marked)
        self._count(looked)
        self._alarm(now)
        if change is None or before is None:
            self._keep(now, max(seen.epoch if seen else 0 for seen in (self._memory, marked)), looked)
            return None
        self._report(change)
        if known and not shared:
            self._keep(now, marked.epoch if marked else 0, looked)  # another process has recorded it
        else:
            self._record(change, before, now, looked)
        if change.kind in RESTARTS:
            self._restarted(now)
        return change

    def _compare(self, before: Observation | None, now: Observation, taken: int) -> StreamChange | None:
        sole = before is not None and before.consumers <= 1 and before.added is not None
        return compare(self._group.stream.key, self._group.name, before, now, taken, sole=sole)

    def _with_lag(self, now: Observation) -> Observation:
        """Redis 6.2 does not count what is left; the lag that was counted lately is about right."""
        known = now.left is not None or now.added is not None or now.position is None
        return now if known else replace(now, left=self._counters.lag)

    def _keep(self, now: Observation, epoch: int, looked: Comparison) -> None:
        """Nothing is wrong: take over what was seen, and write the marker if it says something else."""
        self._memory, self._taken_then = replace(now, epoch=epoch), self._counters.taken
        old = Observation.from_json(looked.marker) if looked.marker else None
        if self._unrecorded:
            self._write(looked, [(None, incident.to_json()) for incident in self._unrecorded])
        elif now.kind == "stream" and (old is None or replace(old, at_ms=0) != replace(self._memory, at_ms=0)):
            self._write(looked, [])

    def _record(self, change: StreamChange, before: Observation, now: Observation, looked: Comparison) -> None:
        incident = incident_of(change, self._group.stream.key, self._group.name, before, now)
        self._count_change(change)
        epoch = 1 + max(before.epoch, self._memory.epoch if self._memory else 0)
        self._memory, self._taken_then = replace(now, epoch=epoch), self._counters.taken
        number, incident = _merged(incident, unacknowledged(parse_records(looked.incidents)))
        self._unrecorded.append(incident)
        for _ in range(ATTEMPTS):
            if self._write(looked, [(number, incident.to_json())]):
                return
            looked = self._look()
            other = Observation.from_json(looked.marker)
            if other is not None and other.epoch >= epoch:
                self._unrecorded.clear()  # another process noticed it in the same moment
                return

    def _write(self, looked: Comparison, incidents: list[tuple[int | None, str]]) -> bool:
        """Write the marker, and incidents. -> False where another process was quicker"""
        if not self._beside:
            return True
        try:
            done = marker.remember(self._group, looked.marker, self._memory, incidents)
        except DvctlError as error:
            self._warn_once(f"the marker beside stream {self._group.stream.key} cannot be written: {error}")
            return True
        if done is not None:
            self._marked = True
            self._unrecorded.clear()
            self._reported.pop("marker", None)
        return done is not None

    def _warn_once(self, text: str) -> None:
        if "marker" not in self._reported:
            self._reported["marker"] = time.monotonic()
            log.warning("%s", text)

    def _restarted(self, now: Observation) -> None:
        self._in_hand.begin_generation()
        if now.position is not None and now.position > now.last_id:
            # What is there, and what comes next, lies below the group's position and would never be delivered.
            self._group.move(ZERO)
            log.error(
                "group %s was at %s, beyond the end: moved to the start; messages that already have a row are skipped",
                self._group.name,
                now.position,
                extra=fields(position=str(now.position)),
            )

    def _report(self, change: StreamChange) -> None:
        last = self._reported.get(change.kind)
        if change.kind != "entries-removed" or last is None or time.monotonic() - last > REPORT_S:
            self._reported[change.kind] = time.monotonic()
            about = fields(incident=change.kind, count=change.unread)
            log.error("%s; see it with `dvctl incidents`", change.detail, extra=about)

    def _alarm(self, now: Observation) -> None:
        wrong = now.kind == "other"
        if wrong and not self._wrong_type:
            log.error("key %s is no stream; waiting until it is one (redis-cli TYPE)", self._group.stream.key)
        elif self._wrong_type and not wrong:
            log.warning("key %s no longer holds another type of value", self._group.stream.key)
        self._wrong_type = wrong

    def _count_change(self, change: StreamChange) -> None:
        self._counters.stream_restarts += change.kind in RESTARTS
        self._counters.entries_never_read += change.unread or 0

    def _count(self, looked: Comparison) -> None:
        recorded = unacknowledged(parse_records(looked.incidents))
        self._counters.incidents_unacknowledged = len(recorded) + len(self._unrecorded)
        self._counters.dead_letters = looked.dead_letters


def _merged(incident: Incident, known: list[Incident]) -> tuple[int | None, Incident]:
    """A removal is added to the one that nobody has acknowledged yet: a producer may trim with each message."""
    last = next((old for old in reversed(known) if old.group == incident.group), None)
    if incident.kind != "entries-removed" or last is None or last.kind != incident.kind:
        return None, incident
    total = (last.unread or 0) + (incident.unread or 0)
    detail = f"{total:,} entries were removed from stream {incident.stream} before group {incident.group} read them"
    detail += f" (since {last.at})"
    return last.id, replace(incident, at=last.at, unread=total, detail=detail)
