"""replay: save chosen entries straight to the table; no group is touched."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devicevault_cli.errors import RecordRejected
from devicevault_cli.messages import Decoded, Rejected
from devicevault_cli.operations.answer import ChosenAnswer
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.named import NO_NAMES, Named
from devicevault_cli.operations.rate_limit import RateLimiter
from devicevault_cli.operations.replay.preview import ReplayPreview
from devicevault_cli.operations.replay.selection import Source
from devicevault_cli.operations.save import Outcome, conflicting, rejection, save_batches
from devicevault_cli.operations.wording import chosen_number, entries, entries_were
from devicevault_cli.paging import read_ahead
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.plural import number
from devicevault_cli.records import Record
from devicevault_cli.streams.model import Entry

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

log = logging.getLogger("dvctl.replay")

BATCH, BATCH_BYTES = 1000, 16 * 1024 * 1024
"""Records in one transaction, and the bytes of their logs together."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """missing: only entries without a row.  overwrite: replace a row that has another device or status.

    rate: at most so many entries per second.
    """

    missing: bool = False
    overwrite: bool = False
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class ReplayAnswer(ChosenAnswer):
    """The answer of `replay`; selected = inserted + duplicates + skipped + the sum of rejected.

    `overwritten` and `conflicting` are among the duplicates.
    """

    selected: int = 0
    inserted: int = 0
    duplicates: int = 0
    overwritten: int = 0
    conflicting: int = 0
    skipped: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Done:
    """Entries by what became of them, so far; `counts` by the names of the answer."""

    counts: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)

    @property
    def saved(self) -> int:
        """Entries whose transaction is committed."""
        return self.counts["inserted"] + self.counts["duplicates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay(Change[ReplayAnswer]):
    """Saves the entries of a source.

    The plan's numbers may age: each record is looked up again in the transaction that saves it.
    """

    source: Source
    pipeline: Pipeline
    repository: Repository
    options: ReplayOptions
    progress: Progress

    def apply(self) -> ReplayAnswer:
        done = _Done()
        try:
            self._save(done)
        except BaseException:
            log.warning(
                "at least %s replayed; run the command again to continue: existing rows are not duplicated",
                entries_were(done.saved),
            )
            raise
        number_of = done.counts
        return ReplayAnswer(
            number_of["selected"], number_of["inserted"], number_of["duplicates"], number_of["overwritten"],
            number_of["conflicting"], number_of["skipped"], done.rejected, unknown=tuple(map(str, self.source.unknown)),
        )  # fmt: skip

    def _save(self, done: _Done) -> None:
        limiter = RateLimiter(self.options.rate)
        limited = 0
        with closing(read_ahead(self.source())) as pages:
            wanted = (_wanted(page, self.pipeline, self.repository, self.options) for page in pages)
            batches = self._batches(wanted, done, limiter.at_once(BATCH))
            for records, outcomes in save_batches(self.repository, batches):
                for record, outcome in zip(records, outcomes, strict=True):
                    self._count(record, outcome, done)
                selected = done.counts["selected"]
                self.progress(selected)
                time.sleep(limiter.after(selected - limited))
                limited = selected

    def _batches(
        self, pages: Iterable[list[Entry]], done: _Done, most: int
    ) -> Iterator[tuple[list[Record], list[Record]]]:
        """Batches of records, each twice: what `save_batches` saves and the value that belongs to it."""
        records: list[Record] = []
        size = 0
        for page in pages:
            for entry in page:
                done.counts["selected"] += 1
                decision = self.pipeline.decode_entry(entry, self.repository.device_id_max)
                if isinstance(decision, Decoded):
                    records.append(decision.record)
                    size += len(decision.record.log)
                    if len(records) >= most or size > BATCH_BYTES:
                        yield records, records
                        records, size = [], 0
                elif isinstance(decision, Rejected):
                    done.rejected[decision.reason] += 1
                else:
                    done.counts["skipped"] += 1
        yield records, records

    def _count(self, record: Record, outcome: Outcome, done: _Done) -> None:
        bad = rejection(outcome, record)
        if bad is not None or isinstance(outcome, Rejected):
            done.rejected[bad.reason if bad else ""] += 1
        elif outcome.outcome == "inserted":
            done.counts["inserted"] += 1
        else:
            conflicts = conflicting(outcome.existing, record)
            if conflicts and self.options.overwrite and outcome.existing is not None:
                try:
                    done.counts["overwritten"] += self.repository.overwrite(outcome.existing, record)
                except RecordRejected:  # the row stays as it was
                    done.rejected["database-rejected"] += 1
                    return
            done.counts["duplicates"] += 1
            done.counts["conflicting"] += conflicts

    def failure(self, done: ReplayAnswer) -> str:
        if done.inserted or done.duplicates or done.skipped:
            return ""
        if not done.selected:
            return "nothing was persisted: the entries are no longer on the stream"
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in done.rejected.items())
        return f"nothing was persisted: {entries(done.selected)} rejected ({reasons})"


def plan_replay(
    source: Source,
    pipeline: Pipeline,
    repository: Repository,
    options: ReplayOptions,
    progress: Progress = quietly,
    *,
    most: int | None = None,
) -> Replay:
    """Save entries through the consumer's write path, with the time of each entry.

    Of more than `most` entries the plan has no numbers: to work them out costs nearly as much as the replay.
    """
    preview = ReplayPreview(pipeline, repository)
    for page in source():
        preview.add(_wanted(page, pipeline, repository, options))
        progress(preview.entries)
        if most is not None and preview.entries > most:
            break
    counted = most is None or preview.entries <= most
    named = source.named() if counted else NO_NAMES
    answer = _planned(preview, options, named)
    return Replay(
        command="replay", says=tuple(_says(answer, options, None if counted else most)), answer=answer,
        size=preview.entries, named=named, counted=counted,
        source=source, pipeline=pipeline, repository=repository, options=options, progress=progress,
    )  # fmt: skip


def _planned(preview: ReplayPreview, options: ReplayOptions, named: Named) -> ReplayAnswer:
    return ReplayAnswer(
        selected=preview.entries,
        inserted=preview.inserts,
        duplicates=preview.present,
        overwritten=preview.conflicting if options.overwrite else 0,
        conflicting=preview.conflicting,
        skipped=preview.skipped,
        rejected=preview.rejected,
        unknown=named.unknown,
    )


def _says(answer: ReplayAnswer, options: ReplayOptions, more_than: int | None) -> Iterator[str]:
    if more_than is not None:
        yield f"more than {entries(more_than)} are replayed; each is looked up in the transaction that saves it"
        return
    yield (
        f"{chosen_number(answer.selected, 'entry', 'entries')} would be replayed: {answer.inserted:,} inserted, "
        f"{answer.duplicates:,} have their row already, {sum(answer.rejected.values()):,} rejected"
    )
    for reason, count in Counter(answer.rejected).most_common():
        yield f"  {reason}: {count:,}"
    if answer.conflicting:
        fate = "would be OVERWRITTEN" if options.overwrite else "stay as they are (--overwrite replaces them)"
        yield f"{number(answer.conflicting, 'row')} of another device or status {fate}"


def _wanted(page: list[Entry], pipeline: Pipeline, repository: Repository, options: ReplayOptions) -> list[Entry]:
    """With `missing`: valid entries without a row."""
    if not options.missing:
        return page
    decided = [(entry, pipeline.decode_entry(entry, repository.device_id_max)) for entry in page]
    records = [(entry, decision.record) for entry, decision in decided if isinstance(decision, Decoded)]
    found = repository.find([record for _, record in records]) if records else []
    return [entry for (entry, _), rows in zip(records, found, strict=True) if not rows]
