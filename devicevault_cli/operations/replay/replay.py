"""replay: save chosen entries straight to the table; no group is touched."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from devicevault_cli.columns import decoded_parts, first_ids
from devicevault_cli.errors import RecordRejected
from devicevault_cli.messages import Decoded, Rejected
from devicevault_cli.operations.answer import ChosenAnswer, optional
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.changes.undo import impossible
from devicevault_cli.operations.dispatch.hand_over import HandOver, dispatched
from devicevault_cli.operations.dispatch.tasks import Configuration, configuration_of, configurations_of
from devicevault_cli.operations.look_up import look_up
from devicevault_cli.operations.named import NO_NAMES
from devicevault_cli.operations.rate_limit import RateLimiter
from devicevault_cli.operations.replay.preview import ReplayPreview
from devicevault_cli.operations.replay.selection import Source
from devicevault_cli.operations.save import Outcome, conflicting, decided, save_batches
from devicevault_cli.operations.wording import chosen_number, entries, entries_were
from devicevault_cli.pipelines import Pipeline, original_id
from devicevault_cli.plural import number
from devicevault_cli.record_columns import RecordColumns, joined
from devicevault_cli.records import Record
from devicevault_cli.repository.model import INSERTED
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.page import Page

log = logging.getLogger("dvctl.replay")

UNDO = impossible("dvctl does not delete rows")
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

    `overwritten` and `conflicting` are among the duplicates. A failed store that a success replaces is overwritten,
    with and without `--overwrite`, and not conflicting.
    `dispatched` and `not_dispatched` are among the inserted.
    """

    selected: int = 0
    inserted: int = 0
    duplicates: int = 0
    overwritten: int = 0
    conflicting: int = 0
    skipped: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    dispatched: int | None = optional()
    not_dispatched: Mapping[str, int] | None = optional()


@dataclass(slots=True)
class _Batch:
    """Records that are saved together, and the configurations to dispatch once they are, by position.

    `size`: bytes of their logs and of the configurations.
    """

    parts: list[Sequence[Record]] = field(default_factory=list)
    configurations: dict[int, Configuration] = field(default_factory=dict)
    count: int = 0
    size: int = 0

    @property
    def records(self) -> Sequence[Record]:
        return joined(self.parts)

    def add(self, records: Sequence[Record], configurations: Mapping[int, Configuration]) -> None:
        """Add records, and those configurations that they bring, by the position in `records`."""
        logs = records.column("log") if isinstance(records, RecordColumns) else [record.log for record in records]
        self.size += sum(map(len, logs)) + sum(len(each.text) for each in configurations.values())
        self.configurations.update((self.count + number, each) for number, each in configurations.items())
        self.parts.append(records)
        self.count += len(records)


@dataclass(slots=True)
class _Replay:
    """Saves the entries of a source, and counts what became of them by the names of the answer.

    The plan's numbers may age: each record is looked up again in the transaction that saves it.
    """

    source: Source
    pipeline: Pipeline
    repository: Repository
    options: ReplayOptions
    hand_over: HandOver | None = None
    counts: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)

    def run(self, progress: Progress) -> ReplayAnswer:
        try:
            self._save(progress)
        except BaseException:
            log.warning(
                "at least %s replayed; run the command again to continue: existing rows are not duplicated",
                entries_were(self.counts["inserted"] + self.counts["duplicates"]),
            )
            raise
        count = self.counts
        return ReplayAnswer(
            count["selected"], count["inserted"], count["duplicates"], count["overwritten"], count["conflicting"],
            count["skipped"], self.rejected, unknown=tuple(map(str, self.source.unknown)), **dispatched(self.hand_over),
        )  # fmt: skip

    def wanted(self, page: Page) -> Page:
        """With `missing`: valid entries without a row."""
        if not self.options.missing:
            return page
        found = look_up(page, self.pipeline, self.repository)
        return page.where([isinstance(decision, Decoded) and not rows for _, decision, rows in found])

    def _save(self, progress: Progress) -> None:
        limiter = RateLimiter(self.options.rate)
        limited = 0
        with closing(self.source()) as pages:
            batches = self._batches(map(self.wanted, pages), limiter.at_once(BATCH))
            for (batch, records), outcomes in save_batches(self.repository, batches):
                self.counts["inserted"] += outcomes.count(INSERTED)
                for number, outcome in enumerate(outcomes):
                    if outcome != INSERTED:
                        self._count(records[number], outcome)
                if self.hand_over is not None:
                    inserted = {n: config for n, config in batch.configurations.items() if outcomes[n] == INSERTED}
                    self.hand_over(inserted)
                selected = self.counts["selected"]
                progress(selected)
                time.sleep(limiter.after(selected - limited))
                limited = selected

    def _batches(
        self, pages: Iterable[Page], most: int
    ) -> Iterator[tuple[tuple[_Batch, Sequence[Record]], Sequence[Record]]]:
        """Batches with their records, and the records that `save_batches` saves."""
        batch = _Batch()
        for page in pages:
            start = 0
            while start < len(page):
                fitting = (BATCH_BYTES - batch.size) // (page.largest + 1)
                some = page[start : start + max(1, min(most - batch.count, fitting))]
                start += len(some)
                self._add(batch, some)
                if batch.count >= most or batch.size > BATCH_BYTES:
                    records = batch.records
                    yield (batch, records), records
                    batch = _Batch()
        records = batch.records
        yield (batch, records), records

    def _add(self, batch: _Batch, page: Page) -> None:
        """Decode entries, by column where they are usual, and add their records to the batch."""
        self.counts["selected"] += len(page)
        for part, records in decoded_parts(page, self.pipeline.decode_columns, self.repository.device_id_max):
            if records is None:
                self._add_each(batch, part)
            elif self.hand_over is None:
                batch.add(records, {})
            else:
                batch.add(records, configurations_of(part, records, first_ids(part)))

    def _add_each(self, batch: _Batch, page: Page) -> None:
        records: list[Record] = []
        configurations: dict[int, Configuration] = {}
        for entry in page:
            decision = self.pipeline.decode_entry(entry, self.repository.device_id_max)
            if isinstance(decision, Decoded):
                found = configuration_of(original_id(entry), decision.record, entry.fields) if self.hand_over else None
                if found is not None:
                    configurations[len(records)] = found
                records.append(decision.record)
            elif isinstance(decision, Rejected):
                self.rejected[decision.reason] += 1
            else:
                self.counts["skipped"] += 1
        batch.add(records, configurations)

    def _count(self, record: Record, outcome: Outcome) -> None:
        outcome = decided(outcome, record)
        if isinstance(outcome, Rejected):
            self.rejected[outcome.reason] += 1
        elif outcome.outcome == "replaced":
            self.counts["duplicates"] += 1
            self.counts["overwritten"] += 1
        else:
            conflicts = conflicting(outcome.existing, record)
            if conflicts and self.options.overwrite and outcome.existing is not None:
                try:
                    self.counts["overwritten"] += self.repository.overwrite(outcome.existing, record)
                except RecordRejected:  # the row stays as it was
                    self.rejected["database-rejected"] += 1
                    return
            self.counts["duplicates"] += 1
            self.counts["conflicting"] += conflicts


def _failure(done: ReplayAnswer) -> str:
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
    hand_over: HandOver | None = None,
) -> Change[ReplayAnswer]:
    """Save entries through the consumer's write path, with the time of each entry.

    `hand_over`: hands the configurations of the inserted to the storage workers.
    Of more than `most` entries the plan has no numbers: to work them out costs nearly as much as the replay.
    """
    replay = _Replay(source, pipeline, repository, options, hand_over)
    preview = ReplayPreview(pipeline, repository)
    counted = preview.add_entries(map(replay.wanted, source()), progress, most)
    named = source.named() if counted else NO_NAMES
    overwritten = preview.replaces + (preview.conflicting if options.overwrite else 0)
    answer = ReplayAnswer(
        preview.entries, preview.inserts, preview.present + preview.replaces, overwritten, preview.conflicting,
        preview.skipped, preview.rejected, unknown=named.unknown,
    )  # fmt: skip
    return Change(
        command="replay", says=tuple(_says(answer, options, None if counted else most)), undo=UNDO, answer=answer,
        size=preview.entries, named=named, counted=counted, apply=lambda: replay.run(progress), failure=_failure,
    )  # fmt: skip


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
    if replaced := answer.overwritten - (answer.conflicting if options.overwrite else 0):
        yield f"{number(replaced, 'row')} of a failed store would be replaced by a success"
