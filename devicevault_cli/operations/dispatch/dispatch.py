"""dispatch: hand the configurations of chosen entries to the storage workers, or those that were never stored."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devicevault_cli.messages import SUCCESS, Decision, Decoded, Rejected
from devicevault_cli.operations.answer import ChosenAnswer
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.changes.undo import impossible
from devicevault_cli.operations.dispatch.hand_over import HandOver
from devicevault_cli.operations.dispatch.tasks import (
    NO_LOCATION,
    OTHER_TYPE,
    Configuration,
    Tasks,
    configuration_of,
    make_tasks,
    not_stored,
)
from devicevault_cli.operations.look_up import look_up
from devicevault_cli.operations.named import NO_NAMES
from devicevault_cli.operations.rate_limit import RateLimiter
from devicevault_cli.operations.replay.selection import Source
from devicevault_cli.operations.wording import chosen_number, entries, entries_were
from devicevault_cli.paging import read_ahead
from devicevault_cli.pipelines import Pipeline, original_id
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.model import Entry, EntryId

if TYPE_CHECKING:
    from devicevault_cli.broker.publisher import Publisher

log = logging.getLogger("dvctl.dispatch")

UNDO = impossible("a task that was handed over cannot be taken back")
NOT_SUCCESS, NO_ROW = "not-success", "no-row"
NOT_MISSING = frozenset((NOT_SUCCESS, NO_ROW, NO_LOCATION, OTHER_TYPE))
"""Reasons for which an entry is not missing a stored backup: `--missing` does not select it."""


@dataclass(frozen=True, slots=True)
class DispatchOptions:
    """missing: only what lacks a stored backup.  again: also what has one.  rate: most entries per second.

    typed: ids were typed, so that entries that are no success are reported; else they are not selected.
    """

    missing: bool = False
    again: bool = False
    rate: float | None = None
    typed: bool = False


@dataclass(frozen=True, slots=True)
class DispatchAnswer(ChosenAnswer):
    """The answer of `dispatch`; selected = dispatched + already_stored + the sum of not_dispatched."""

    selected: int = 0
    dispatched: int = 0
    already_stored: int = 0
    not_dispatched: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Dispatch:
    """Decides for each chosen entry whether its configuration is handed over, and counts."""

    stream: str
    source: Source
    pipeline: Pipeline
    repository: Repository
    options: DispatchOptions
    already_stored: int = 0
    tasks: int = 0
    not_dispatched: Counter[str] = field(default_factory=Counter)

    @property
    def selected(self) -> int:
        return self.tasks + self.already_stored + self.not_dispatched.total()

    def pages(self) -> Iterator[Tasks[EntryId]]:
        """The tasks of a page of entries after the other."""
        with closing(read_ahead(self.source())) as pages:
            for page in pages:
                yield self._tasks(page)

    def _tasks(self, page: Sequence[Entry]) -> Tasks[EntryId]:
        configurations: dict[EntryId, Configuration] = {}
        for entry, decision, rows in look_up(page, self.pipeline, self.repository):
            why = _why_not(decision, has_row=bool(rows))
            if why is None and isinstance(decision, Decoded):
                configuration = configuration_of(original_id(entry), decision.record, entry.fields)
                if configuration is not None:
                    configurations[entry.id] = configuration
            elif why is not None and not (self.options.missing or (why == NOT_SUCCESS and not self.options.typed)):
                self.not_dispatched[why] += 1
        left = configurations
        if not self.options.again:
            left = not_stored(self.stream, self.repository, configurations, successfully=True)
        made = make_tasks(self.stream, self.repository, left)
        if not self.options.missing:
            self.already_stored += len(configurations) - len(left)
        for reason in made.refused.values():
            if not (self.options.missing and reason in NOT_MISSING):
                self.not_dispatched[reason] += 1
        self.tasks += len(made.tasks)
        return made

    def count(self, progress: Progress, most: int | None) -> bool:
        """Count without handing anything over. -> whether all were counted: it ends where there are more than `most`"""
        for _ in self.pages():
            progress(self.selected)
            if most is not None and self.selected > most:
                return False
        return True

    def run(self, publisher: Publisher, progress: Progress) -> DispatchAnswer:
        limiter = RateLimiter(self.options.rate)
        hand_over = HandOver(self.stream, self.repository, publisher)
        try:
            for made in self.pages():
                for part in _parts(made, limiter):
                    size = len(part.tasks)
                    hand_over.deliver(part)
                    time.sleep(limiter.after(size))
                progress(self.selected)
        except BaseException:
            log.warning("at least %s dispatched; run the command again to continue", entries_were(hand_over.dispatched))
            raise
        reasons = self.not_dispatched + hand_over.not_dispatched
        unknown = tuple(map(str, self.source.unknown))
        return DispatchAnswer(self.selected, hand_over.dispatched, self.already_stored, reasons, unknown=unknown)


def _why_not(decision: Decision, *, has_row: bool) -> str | None:
    if isinstance(decision, Rejected):
        return decision.reason
    if not isinstance(decision, Decoded) or decision.record.status != SUCCESS:
        return NOT_SUCCESS
    return None if has_row else NO_ROW


def _parts(made: Tasks[EntryId], limiter: RateLimiter) -> Iterator[Tasks[EntryId]]:
    """The tasks in pieces that fit the rate."""
    while made.tasks:
        part: Tasks[EntryId] = Tasks()
        for key in list(made.tasks)[: limiter.at_once(len(made.tasks))]:
            part.tasks[key] = made.tasks.pop(key)
        yield part


def plan_dispatch(
    stream: str,
    source: Source,
    pipeline: Pipeline,
    repository: Repository,
    publisher: Publisher | None,
    options: DispatchOptions,
    progress: Progress = quietly,
    *,
    most: int | None = None,
) -> Change[DispatchAnswer]:
    """Hand configurations to the storage workers.

    `publisher` None: nothing is going to be applied. Of more than `most` entries the plan has no numbers, as that of a
    replay.
    """

    def dispatch() -> _Dispatch:
        return _Dispatch(stream, source, pipeline, repository, options)

    planned = dispatch()
    counted = planned.count(progress, most)
    named = source.named() if counted else NO_NAMES
    answer = DispatchAnswer(
        planned.selected, planned.tasks, planned.already_stored, planned.not_dispatched, unknown=named.unknown
    )

    def apply() -> DispatchAnswer:
        assert publisher is not None  # noqa: S101
        return dispatch().run(publisher, progress)

    return Change(
        command="dispatch", says=tuple(_says(answer, publisher, None if counted else most)), undo=UNDO, answer=answer,
        size=planned.selected, named=named, counted=counted, apply=apply, failure=_failure,
    )  # fmt: skip


def _says(answer: DispatchAnswer, publisher: Publisher | None, more_than: int | None) -> Iterator[str]:
    if more_than is not None:
        yield f"the configurations of more than {entries(more_than)} are handed to the storage workers"
    else:
        yield (
            f"{chosen_number(answer.selected, 'entry', 'entries')}: {answer.dispatched:,} would be dispatched,"
            f" {answer.already_stored:,} are stored already"
        )
        for reason, count in Counter(answer.not_dispatched).most_common():
            yield f"  not dispatched, {reason}: {count:,}"
    if publisher is not None:
        yield f"through {publisher.shown}"


def _failure(done: DispatchAnswer) -> str:
    if done.dispatched or done.already_stored:
        return ""
    if not done.selected:
        return "nothing was dispatched: the entries are no longer on the stream"
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in done.not_dispatched.items())
    return f"nothing was dispatched: {reasons}"
