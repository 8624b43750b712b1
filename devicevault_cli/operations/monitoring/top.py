"""dvctl top: the state of one group, its rates, and its newest dead letters, read periodically."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING, NamedTuple

from devicevault_cli.errors import DvctlError
from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.entries.fields import field_text
from devicevault_cli.operations.monitoring.continuity import Followed
from devicevault_cli.operations.monitoring.status import ConsumerStatus, GroupStatus, StatusAnswer, StreamStatus, status
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.letters import read_letter
from devicevault_cli.streams.model import EntryId
from devicevault_cli.times import iso, now_ms

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

WINDOW_S = 15.0
"""The period over which a rate is averaged."""
LETTERS_READ = 30
"""Newest dead letters that are read to find those of the group: each contains a whole message."""
LAG_LIMIT = 10_000
LOOKS_KEPT = 600
RESTARTS_SHOWN = 3
PROBE_S = 5.0
"""How often the database is checked."""


class Sample(NamedTuple):
    """Counters at one moment of time.monotonic(); None if Redis cannot tell."""

    at: float
    added: int | None
    processed: int | None


class Look(NamedTuple):
    """What one look found: entries, messages a second since the look before, dead letters. None is unknown."""

    lag: int | None
    arriving: float | None
    processed: float | None
    dead: int


class Rates(NamedTuple):
    """Messages a second, and the time until nothing is left at these rates (None: unknown, or never)."""

    arriving: float | None = None
    processed: float | None = None
    caught_up_s: float | None = None


@dataclass(frozen=True, slots=True)
class RecentDeadLetter(Answer):
    """A dead letter of the group. `at`: ISO 8601 UTC."""

    id: EntryId
    reason: str
    device_id: str | None
    at: str
    detail: str


class TopAnswer(NamedTuple):
    """What `top` shows, the most active consumers first. `group` is None if it does not exist."""

    status: StatusAnswer
    group: GroupStatus | None
    consumers: Sequence[ConsumerStatus]
    rates: Rates
    failures: Sequence[RecentDeadLetter]
    incidents: Sequence[str]
    looks: Sequence[Look] = ()


class Top:
    """Reads the state of one group periodically; rates are averages over the last seconds."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._letters = DeadLetters(group.stream, group.name)
        self._samples: deque[Sample] = deque()
        self._looks: deque[Look] = deque(maxlen=LOOKS_KEPT)
        self._newest: tuple[tuple[EntryId, int] | None, list[RecentDeadLetter]] = (None, [])
        self._followed: Followed | None = None
        self._restarts: deque[str] = deque(maxlen=RESTARTS_SHOWN)

    def read(self, failures: int) -> TopAnswer:
        """Read the present state, with at most so many dead letters."""
        found = status(self.group.stream, self._letters, lag_limit=LAG_LIMIT)
        self._detect_restart()
        group = next((group for group in found.groups if group.name == self.group.name), None)
        averages = self._rates(found.stream, group)
        self._looks.append(self._look(group, found.dead.length))
        return TopAnswer(
            found,
            group,
            most_active_first(consumer for consumer in found.consumers if consumer.group == self.group.name),
            averages,
            self._failures(failures),
            [incident.detail for incident in found.incidents or ()] or [*self._restarts],
            [*self._looks],
        )

    def _look(self, group: GroupStatus | None, dead: int) -> Look:
        before, now = self._samples[-2 if len(self._samples) > 1 else -1], self._samples[-1]
        present = rates(before, now, None)
        return Look(group.lag if group else None, present.arriving, present.processed, dead)

    def _detect_restart(self) -> None:
        """After a restart, earlier samples say nothing about the present stream."""
        info = self.group.stream.info()
        if self._followed is None:
            self._followed = Followed(self.group.stream, info)
        elif restart := self._followed.compare(info):
            self._samples.clear()
            self._newest = (None, [])
            self._restarts.append(f"{iso(now_ms())} {restart.detail}")

    def _rates(self, stream: StreamStatus | None, group: GroupStatus | None) -> Rates:
        left = None if group is None or group.lag is None else group.lag + group.pending
        # Redis before 7.0 does not count added entries; the length is the same as long as nothing is trimmed.
        added = None if stream is None else stream.length if stream.entries_added is None else stream.entries_added
        processed = None if added is None or left is None else added - left
        self._samples.append(Sample(time.monotonic(), added, processed))
        while self._samples[-1].at - self._samples[0].at > WINDOW_S:
            self._samples.popleft()
        return rates(self._samples[0], self._samples[-1], left)

    def _failures(self, count: int) -> list[RecentDeadLetter]:
        """The newest dead letters of the group, read again only if any was added or removed."""
        info = self._letters.letters.info()
        if info is None:
            return []
        state = (info.last_generated_id, info.length)
        if self._newest[0] != state:
            self._newest = (state, self._read_failures(count))
        return self._newest[1]

    def _read_failures(self, count: int) -> list[RecentDeadLetter]:
        letters = map(read_letter, reversed(self._letters.letters.last(LETTERS_READ)))
        found = [letter for letter in letters if letter is not None and letter.group == self.group.name][:count]
        device = b"device_id"
        return [
            RecentDeadLetter(letter.id, letter.reason, field_text(letter.fields, device), letter.at, letter.detail)
            for letter in found
        ]


def most_active_first(consumers: Iterable[ConsumerStatus]) -> list[ConsumerStatus]:
    """Consumers that are alive first, then those that hold the most entries."""
    return sorted(consumers, key=lambda consumer: (not consumer.alive, -consumer.pending, consumer.name))


def rates(first: Sample, last: Sample, left: int | None) -> Rates:
    """The rates between two samples. A counter that decreased (after a trim or reset) gives no rate."""
    seconds = last.at - first.at
    arriving, processed = _rate(first.added, last.added, seconds), _rate(first.processed, last.processed, seconds)
    if left is None or processed is None or arriving is None:
        return Rates(arriving, processed)
    gaining = processed - arriving
    return Rates(arriving, processed, 0.0 if left == 0 else left / gaining if gaining > 0 else None)


def _rate(before: int | None, now: int | None, seconds: float) -> float | None:
    return None if before is None or now is None or now < before or seconds <= 0 else (now - before) / seconds


class DatabaseProbe:
    """Checks the database periodically in its own thread, so that a database that hangs does not stop the screen."""

    def __init__(self, opened: Callable[[], Repository] | None) -> None:
        self._opened = opened
        self._ended = Event()
        self.error: DvctlError | None = None

    def __enter__(self) -> DatabaseProbe:
        if self._opened is not None:
            Thread(target=self._run, args=(self._opened,), name="database-probe", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _run(self, opened: Callable[[], Repository]) -> None:
        repository: Repository | None = None
        while not self._ended.is_set():
            try:
                repository = repository or opened()
                repository.check(writing=False)
                self.error = None
            except DvctlError as error:
                self.error = error
            self._ended.wait(PROBE_S)
        if repository is not None:
            repository.close()
