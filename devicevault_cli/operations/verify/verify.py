"""The use case: scan, sum up, look at the rows; or list one class; or only count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, TypeAlias

from devicevault_cli.errors import MissingGroup
from devicevault_cli.operations.monitoring.lag import lag_of
from devicevault_cli.operations.verify.classes import CLASSES, Judge
from devicevault_cli.operations.verify.nothing import caveats
from devicevault_cli.operations.verify.rows import Deep, surplus_ids
from devicevault_cli.operations.verify.scan import Scope, scan
from devicevault_cli.operations.verify.verdict import EXAMPLES, Verdict, conflicts, described, described_gone
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group

Progress: TypeAlias = Callable[[int, int], object]
"""Told how many entries are judged, of how many."""

ROW_CLASSES = ("duplicate_rows", "rows_without_entry")
SHOWN = (*CLASSES, "gone", "conflicting", *ROW_CLASSES)
LISTED = 100_000
"""Duplicate identities that are listed, at most."""


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
) -> dict[str, Any]:
    """The answer of `verify -o json`. Raises what the libraries raise; changes nothing."""
    return examine(group, pipeline, repository, scope or Scope(), deep=deep, progress=progress)[1]


def examine(
    group: Group, pipeline: Pipeline, repository: Repository, scope: Scope, *, deep: bool, progress: Progress
) -> tuple[Verdict, dict[str, Any]]:
    """What was found, and the answer made of it."""
    judge = Judge(group, pipeline, repository)
    verdict = Verdict()
    looking = Deep(repository) if deep else None
    total = judge.stream.length if judge.stream else 0
    try:
        for page in scan(judge, scope):
            verdict.add(page)
            if looking:
                looking.add(page.judged)
            progress(verdict.entries, total)
        rows = _rows(repository, verdict, looking)
        answer = verdict.answer(rows, repository.device_names)
        answer |= caveats(group, judge.stream, rows["rows"], repository)
        answer["ok"] = answer["ok"] and answer["problem"] is None
        if rows["duplicate_rows"]:
            answer["duplicates"] = surplus_ids(repository, EXAMPLES)
        if looking:
            answer |= looking.answer()
    finally:
        if looking:
            looking.close()
    return verdict, answer


def _rows(repository: Repository, verdict: Verdict, looking: Deep | None) -> dict[str, Any]:
    return {
        "rows": repository.count(),
        "duplicate_rows": repository.surplus(),
        "conflicting": verdict.conflicting,
        "rows_without_entry": sum(1 for _ in looking.without_entry()) if looking else None,
    }


def listed(
    group: Group, pipeline: Pipeline, repository: Repository, scope: Scope, wanted: str, verdict: Verdict
) -> Iterator[dict[str, Any]]:
    """Everything of one class, as it is found; what else is found goes into `verdict`."""
    judge = Judge(group, pipeline, repository)
    looking = Deep(repository) if wanted == "rows_without_entry" else None
    for page in scan(judge, scope):
        verdict.add(page)
        if looking:
            looking.add(page.judged)
        if wanted == "gone":
            yield from map(described_gone, page.gone)
        elif wanted == "conflicting":
            yield from (described(each) | {"row": each.rows[0].id} for each in page.judged if conflicts(each))
        else:
            yield from (described(each) for each in page.judged if each.state == wanted)
    if wanted == "duplicate_rows":
        yield from ({"id": row, "identity": each["identity"]} for each in surplus_ids(repository, LISTED)
                    for row in each["ids"][1:])  # fmt: skip
    if looking:
        with closing(looking):
            yield from ({"id": each} for each in looking.without_entry())


def counts(group: Group, repository: Repository) -> dict[str, Any]:
    """Only numbers, at once: a loss and a duplicate cancel out in them, so that they prove nothing (`ok` is null)."""
    repository.check(writing=False)
    info = group.stream.info()
    about = group.info()
    letters = DeadLetters(group.stream, group.name)
    try:
        pending = group.summary().total if about else 0
    except MissingGroup:
        pending = 0
    entries = info.length if info else 0
    lag = lag_of(group.stream, info, about).entries if info and about else entries
    rows, dead, discarded = repository.count(), letters.length(), letters.discarded_count()
    known = rows + dead + discarded + pending
    return {
        "stream": {
            "entries": entries,
            "first_id": str(info.first_id) if info and info.first_id else None,
            "last_id": str(info.last_id) if info and entries else None,
        },
        "classes": {"dead": dead, "discarded": discarded, "pending": pending, "undelivered": lag},
        "rows": {"rows": rows},
        "difference": None if lag is None else entries - known - lag,
        "ok": None,
    }
