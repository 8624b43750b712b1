"""verify: scan, sum up, look at the rows; or list one class; or only count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from typing import TypeAlias

from devicevault_cli.errors import MissingGroup
from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.monitoring.lag import lag_of
from devicevault_cli.operations.verify.caveats import caveats
from devicevault_cli.operations.verify.classes import Classifier
from devicevault_cli.operations.verify.names import Listed
from devicevault_cli.operations.verify.result import (
    EXAMPLES,
    FoundEntry,
    GoneEntry,
    RowCounts,
    VerifiedStream,
    VerifyAnswer,
    VerifyResult,
)
from devicevault_cli.operations.verify.rows import Deep, duplicate_identities
from devicevault_cli.operations.verify.scan import Page, Scope, scan
from devicevault_cli.operations.verify.storage import follow
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.records import Identity
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group

Progress: TypeAlias = Callable[[int, int], object]
"""Called with the number of entries verified so far, and of all."""

LISTED = 100_000
"""Duplicate identities that are listed, at most."""


@dataclass(frozen=True, slots=True)
class FoundRow(Answer):
    """A row without an entry."""

    id: int


@dataclass(frozen=True, slots=True)
class DuplicateRow(Answer):
    """A duplicate row; the one with the lowest id of its identity is none."""

    id: int
    identity: Identity


@dataclass(frozen=True, slots=True)
class CountsAnswer(Answer):
    """The answer of `verify --counts`. `ok` is None: a loss and a duplicate cancel out in counts."""

    stream: VerifiedStream
    classes: Mapping[str, int | None]
    rows: Mapping[str, int]
    difference: int | None
    ok: None = None


def quietly(done: int, total: int) -> None:
    """Progress that nobody watches."""


def verify(
    group: Group,
    pipeline: Pipeline,
    repository: Repository,
    scope: Scope | None = None,
    *,
    deep: bool = False,
    progress: Progress = quietly,
) -> VerifyAnswer:
    """Compare every entry of the scope with every row. Only reads. Raises what the libraries raise."""
    return examine(group, pipeline, repository, scope or Scope(), deep=deep, progress=progress)[1]


def examine(
    group: Group, pipeline: Pipeline, repository: Repository, scope: Scope, *, deep: bool, progress: Progress
) -> tuple[VerifyResult, VerifyAnswer]:
    """What was found, and the answer made of it."""
    classifier = Classifier(group, pipeline, repository)
    result = VerifyResult()
    total = classifier.stream.length if classifier.stream else 0
    with closing(Deep(repository)) if deep else nullcontext() as columns:
        for _ in _scanned(classifier, scope, result, columns):
            progress(result.entries, total)
        without_entry = columns.count_without_entry(result.first_id, result.last_id) if columns else (None, None)
        rows = RowCounts(repository.count(), repository.surplus(), result.conflicting, *without_entry)
        problem, incidents = caveats(group, classifier.stream, rows.rows, repository)
        answer = result.answer(rows, repository.device_names, problem, incidents)
        return result, replace(
            answer,
            duplicates=duplicate_identities(repository, EXAMPLES) if rows.duplicate_rows else None,
            columns_differing=columns.differing_in(times=False) if columns else None,
            times_differing=columns.differing_in(times=True) if columns else None,
        )


def _scanned(classifier: Classifier, scope: Scope, result: VerifyResult, columns: Deep | None) -> Iterator[Page]:
    """The pages of a scan, counted."""
    pages = scan(classifier, scope)
    if scope.grace_ms is not None:
        pages = follow(pages, classifier.group.stream.key, classifier.repository, scope.grace_ms)
        result.storage = Counter()
    for page in pages:
        result.add(page)
        if columns:
            columns.add(page.entries)
        yield page


def list_findings(
    group: Group, pipeline: Pipeline, repository: Repository, scope: Scope, wanted: Listed, result: VerifyResult
) -> Iterator[FoundEntry | GoneEntry | DuplicateRow | FoundRow]:
    """Everything of one kind, as it is found; whatever else is found is counted in `result`."""
    classifier = Classifier(group, pipeline, repository)
    with closing(Deep(repository)) if wanted == "rows_without_entry" else nullcontext() as columns:
        for page in _scanned(classifier, scope, result, columns):
            if wanted == "gone":
                yield from map(GoneEntry.of, page.gone)
            elif wanted == "conflicting":
                yield from (FoundEntry.of(entry, entry.rows[0].id) for entry in page.entries if entry.conflicts)
            else:
                found = (entry for entry in page.entries if wanted in (entry.entry_class, entry.storage))
                yield from map(FoundEntry.of, found)
        if columns:
            yield from map(FoundRow, columns.without_entry())
    if wanted == "duplicate_rows":
        for duplicate in duplicate_identities(repository, LISTED):
            yield from (DuplicateRow(row, duplicate.identity) for row in duplicate.ids[1:])


def counts(group: Group, repository: Repository) -> CountsAnswer:
    """Only numbers, at once. They prove nothing, since a loss and a duplicate cancel out."""
    repository.check(writing=False)
    stream = group.stream.info()
    info = group.info()
    letters = DeadLetters(group.stream, group.name)
    try:
        pending = group.summary().total if info else 0
    except MissingGroup:
        pending = 0
    entries = stream.length if stream else 0
    lag = lag_of(group.stream, stream, info).entries if stream and info else entries
    rows, dead, discarded = repository.count(), letters.length(), letters.discarded_count()
    last = stream.last_id if stream and entries else None
    return CountsAnswer(
        stream=VerifiedStream(entries, stream.first_id if stream else None, last),
        classes={"dead": dead, "discarded": discarded, "pending": pending, "undelivered": lag},
        rows={"rows": rows},
        difference=None if lag is None else entries - rows - dead - discarded - pending - lag,
    )
