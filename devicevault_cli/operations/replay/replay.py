"""Replaying: chosen entries go straight to the table, or as copies onto the stream; no group is touched."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from devicevault_cli.errors import RecordRejected
from devicevault_cli.messages import Decision, Decoded, Rejected
from devicevault_cli.operations.changes.interruption import interruptible
from devicevault_cli.operations.changes.plan import Answer, Plan, Progress, chosen_number, entries, number, quietly
from devicevault_cli.operations.rate_limit import Pace
from devicevault_cli.operations.replay.preview import Census
from devicevault_cli.operations.replay.selection import Source
from devicevault_cli.operations.save import Outcome, conflicting, rejection, save_ahead
from devicevault_cli.paging import paged
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.records import Record
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams import admin
from devicevault_cli.streams.model import Entry, EntryId
from devicevault_cli.streams.prefetch import read_ahead
from devicevault_cli.streams.stream import Stream

log = logging.getLogger("dvctl.replay")

BATCH, BATCH_BYTES = 1000, 16 * 1024 * 1024
"""Records in one transaction, and what their logs may take together."""
MOST_COPIES = 3
"""A message republished so often already is not republished again: somebody feeds a loop."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """`missing`: only what has no row. `overwrite`: replace a row that speaks of another device or status."""

    missing: bool = False
    overwrite: bool = False
    rate: float | None = None


@dataclass(slots=True)
class Replayed:
    """What a replay did; selected = inserted + duplicates + skipped + the sum of rejected."""

    selected: int = 0
    inserted: int = 0
    duplicates: int = 0
    overwritten: int = 0
    conflicting: int = 0
    skipped: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    @property
    def saved(self) -> int:
        """Entries whose transaction is over."""
        return self.inserted + self.duplicates

    def answer(self) -> Answer:
        """The keys of `replay -o json`; an overwritten row is one of the duplicates."""
        return {
            "selected": self.selected,
            "inserted": self.inserted,
            "duplicates": self.duplicates,
            "overwritten": self.overwritten,
            "conflicting": self.conflicting,
            "skipped": self.skipped,
            "rejected": dict(self.rejected),
        }


def plan_replay(
    source: Source,
    pipeline: Pipeline,
    repository: Repository,
    options: ReplayOptions,
    progress: Progress = quietly,
    *,
    most: int | None = None,
) -> Plan:
    """Persist entries by the code that consume uses, with the entry's own time.

    The plan's numbers may age: each record is judged anew in the transaction that saves it, so nothing comes twice.
    Of more than `most` entries there are none: to work them out costs nearly as much as the replay.
    """
    census = Census()

    def apply() -> Answer:
        done = Replayed()
        try:
            _replay(source, pipeline, repository, options, progress, done)
        except BaseException:
            log.warning(
                "at least %s replayed; run the command again to continue: existing rows are not duplicated",
                _were(done.saved),
            )
            raise
        return done.answer() | {"unknown": [*map(str, source.unknown)]}

    for page in source():
        census.add(_wanted(page, pipeline, repository, options), pipeline, repository)
        progress(census.entries)
        if most is not None and census.entries > most:
            says: tuple[str, ...] = (
                f"more than {entries(most)} are replayed; each is judged in the transaction that saves it",
            )
            return Plan("replay", says, {}, census.entries, apply, still_true=lambda: True, failure=_all_rejected)
    planned = Replayed(
        census.entries,
        census.inserts,
        census.present,
        census.conflicting if options.overwrite else 0,
        census.conflicting,
        census.skipped,
        census.rejected,
    )
    named = source.named()
    answer = planned.answer() | {"unknown": list(named.unknown)}
    says = tuple(_says(census, options))
    return Plan(
        "replay", says, answer, census.entries, apply, still_true=lambda: True, named=named, failure=_all_rejected
    )


def _all_rejected(answer: Answer) -> str:
    if answer["inserted"] or answer["duplicates"] or answer["skipped"]:
        return ""
    if not answer["selected"]:
        return "nothing was persisted: the entries are no longer on the stream"
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in answer["rejected"].items())
    return f"nothing was persisted: {entries(answer['selected'])} rejected ({reasons})"


def _says(census: Census, options: ReplayOptions) -> Iterator[str]:
    yield (
        f"{chosen_number(census.entries, 'entry', 'entries')} would be replayed: {census.inserts:,} inserted, "
        f"{census.present:,} have their row already, {census.rejected.total():,} rejected"
    )
    for reason, count in census.rejected.most_common():
        yield f"  {reason}: {count:,}"
    if census.conflicting:
        fate = "would be OVERWRITTEN" if options.overwrite else "stay as they are (--overwrite replaces them)"
        yield f"{number(census.conflicting, 'row')} of another device or status {fate}"


def _replay(
    source: Source,
    pipeline: Pipeline,
    repository: Repository,
    options: ReplayOptions,
    progress: Progress,
    done: Replayed,
) -> None:
    paced = 0
    pace = Pace(options.rate)
    with closing(read_ahead(source())) as pages:
        wanted = (_wanted(page, pipeline, repository, options) for page in pages)
        batches = _decoded(wanted, pipeline, repository, done, pace.at_once(BATCH))
        for records, outcomes in save_ahead(repository, batches):
            for record, outcome in zip(records, outcomes, strict=True):
                _count(record, outcome, repository, options, done)
            progress(done.selected)
            time.sleep(pace.after(done.selected - paced))
            paced = done.selected


def _were(count: int) -> str:
    return f"{entries(count)} {'was' if count == 1 else 'were'}"


def _wanted(page: list[Entry], pipeline: Pipeline, repository: Repository, options: ReplayOptions) -> list[Entry]:
    """With `missing`: what has no row; messages that no row can have are none of these."""
    if not options.missing:
        return page
    decided = [(entry, _decide(entry, pipeline, repository)) for entry in page]
    records = [(entry, decision.record) for entry, decision in decided if isinstance(decision, Decoded)]
    found = repository.find([record for _, record in records]) if records else []
    return [entry for (entry, _), rows in zip(records, found, strict=True) if not rows]


def _decide(entry: Entry, pipeline: Pipeline, repository: Repository) -> Decision:
    return pipeline.decode(entry.id.ms, entry.id.seq, entry.fields, repository.device_id_max)


def _decoded(
    pages: Iterable[list[Entry]], pipeline: Pipeline, repository: Repository, done: Replayed, most: int
) -> Iterator[tuple[list[Record], list[Record]]]:
    """Records in batches, as what is to be saved and what that is about; the messages themselves are let go."""
    records: list[Record] = []
    size = 0
    for page in pages:
        for entry in page:
            done.selected += 1
            decision = _decide(entry, pipeline, repository)
            if isinstance(decision, Decoded):
                records.append(decision.record)
                size += len(decision.record.log)
                if len(records) >= most or size > BATCH_BYTES:
                    yield records, records
                    records, size = [], 0
            elif isinstance(decision, Rejected):
                done.rejected[decision.reason] += 1
            else:
                done.skipped += 1
    yield records, records


def _count(record: Record, outcome: Outcome, repository: Repository, options: ReplayOptions, done: Replayed) -> None:
    bad = rejection(outcome, record)
    if bad is not None or isinstance(outcome, Rejected):
        done.rejected[bad.reason if bad else ""] += 1
    elif outcome.outcome == "inserted":
        done.inserted += 1
    else:
        conflicts = conflicting(outcome, record)
        if conflicts and options.overwrite and outcome.existing is not None:
            try:
                done.overwritten += repository.overwrite(outcome.existing, record)
            except RecordRejected:  # the row stays as it was
                done.rejected["database-rejected"] += 1
                return
        done.duplicates += 1
        done.conflicting += conflicts


def plan_republish(
    stream: Stream, source: Source, *, rate: float | None = None, most: int = MOST_COPIES, progress: Progress = quietly
) -> Plan:
    """Put copies of entries at the end of the stream, for every group; each knows its first id and keeps its time."""
    ids: list[EntryId] = []
    often = 0
    for page in source():
        ids += [entry.id for entry in page]
        often += sum(_copies(entry) >= most for entry in page)

    def apply() -> Answer:
        copies = refused = 0
        pace = Pace(rate)
        done: EntryId | None = None
        try:
            with interruptible() as interruption:
                for some in paged(ids, pace.at_once(100)):
                    with interruption.held():
                        made = admin.republish(stream, some, most)
                        copies, refused, done = copies + len(made.ids), refused + len(made.gone), some[-1]
                    progress(copies)
                    time.sleep(pace.after(len(made.ids)))
        except BaseException:
            log.warning("%s copied%s", _were(copies), f"; continue with --from {done.next()}" if done else "")
            raise
        return {"republished": copies, "refused": refused}

    # Nothing goes to the table here, so these numbers are as of a replay that did nothing yet.
    named = source.named()
    answer = Replayed(selected=len(ids)).answer() | {
        "republished": len(ids) - often,
        "refused": often,
        "unknown": list(named.unknown),
    }
    copies = chosen_number(len(ids) - often, "entry", "entries")
    says = [f"{copies} would be copied to the end of {stream.key}, where every group gets them"]
    if often:
        says.append(f"{entries(often)} left out: republished {most} times already")
    return Plan(
        "replay --republish", tuple(says), answer, len(ids), apply, still_true=lambda: True, named=named,
        failure=_none_copied,
    )  # fmt: skip


def _none_copied(answer: Answer) -> str:
    if answer["republished"]:
        return ""
    refused = answer["refused"]
    why = f"{entries(refused)} republished too often already" if refused else "the entries are no longer on the stream"
    return f"nothing was republished: {why}"


def _copies(entry: Entry) -> int:
    """The how manieth copy an entry is; what nobody can read counts as none, as it does in Redis."""
    number = entry.fields.get(b"_dvctl.republished", b"")
    return int(number) if number.isdigit() and len(number) < 10 else 0
