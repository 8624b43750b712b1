"""verify --repair: insert lost entries, write the dead letters of invalid ones, and verify again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from devicevault_cli.messages import Rejected
from devicevault_cli.operations.answer import INLINED, Answer, ChangeAnswer, optional
from devicevault_cli.operations.changes.change import Change
from devicevault_cli.operations.changes.undo import impossible, one_by_one
from devicevault_cli.operations.save import decided, save_bisecting
from devicevault_cli.operations.verify.classes import ClassifiedEntry, Classifier
from devicevault_cli.operations.verify.result import VerifyAnswer, VerifyResult
from devicevault_cli.operations.verify.scan import Scope, scan
from devicevault_cli.operations.verify.verify import Progress, examine, quietly
from devicevault_cli.operations.wording import entries
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.dead_letters import write_late_letter
from devicevault_cli.streams.group import Group

KEPT = (
    "classes", "lost_reasons", "lost_since", "lost_until", "devices", "devices_affected", "timeline_span_s", "timeline",
    "examples",
)  # fmt: skip
"""What the answer keeps of the first verification: else the repair would erase the incident."""


DROP = one_by_one("to remove a dead letter that was written: dvctl dlq drop ID")


@dataclass(frozen=True, slots=True)
class Repaired(Answer):
    """Lost entries by what became of them. `left`: delivered again in the meantime.

    A success that replaces the row of a failed store is a duplicate here.
    """

    inserted: int = 0
    duplicates: int = 0
    dead_lettered: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class RepairAnswer(ChangeAnswer):
    """The answer of `verify --repair`: a verification, once applied the second one; `before`: parts of the first."""

    verification: VerifyAnswer = field(metadata=INLINED)
    repaired: Repaired
    before: Mapping[str, Any] | None = optional()


def plan_repair(
    group: Group,
    pipeline: Pipeline,
    repository: Repository,
    scope: Scope,
    *,
    deep: bool = False,
    progress: Progress = quietly,
) -> Change[RepairAnswer]:
    """Verify, and plan the repair of lost entries."""
    result, before = examine(group, pipeline, repository, scope, deep=deep, progress=progress)
    lost = replace(scope, start=result.first_lost or scope.start, end=result.last_lost or scope.end)

    def apply() -> RepairAnswer:
        repository.check()
        repository.require_single_writer()
        repaired = repair(Classifier(group, pipeline, repository), lost)
        _, after = examine(group, pipeline, repository, scope, deep=deep, progress=progress)
        return RepairAnswer(after, repaired, before={name: getattr(before, name) for name in KEPT})

    # Each entry is classified again when it is repaired, so all that must hold is that the group exists.
    return Change(
        command="verify --repair", says=tuple(_says(result, pipeline)), answer=RepairAnswer(before, Repaired()),
        undo=impossible("dvctl does not delete rows") if result.classes["lost"] else DROP,
        size=result.lost, apply=apply, still_true=lambda: group.info() is not None, failure=_failure,
    )  # fmt: skip


def repair(classifier: Classifier, scope: Scope, progress: Callable[[int], object] = lambda entries: None) -> Repaired:
    """Repair what is lost of a scope: insert its rows, or write its dead letters.

    `progress` is called with the number of entries of each page.
    """
    done: Counter[str] = Counter()
    for page in scan(classifier, scope):
        progress(page.matched + len(page.others))
        valid = [(entry, entry.record) for entry in page.others if entry.record and _needs_saving(entry, classifier)]
        records = [record for _, record in valid]
        for (entry, record), saved in zip(valid, save_bisecting(classifier.repository, records), strict=True):
            outcome = decided(saved, record)
            if isinstance(outcome, Rejected):
                done[_dead_letter(classifier.group, entry, outcome)] += 1
            else:
                done["inserted" if outcome.outcome == "inserted" else "duplicates"] += 1
        for entry in page.others:
            if entry.entry_class == "lost_invalid":
                done[_dead_letter(classifier.group, entry, entry.rejection)] += 1
    return Repaired(**done)


def _needs_saving(entry: ClassifiedEntry, classifier: Classifier) -> bool:
    """A lost entry; or a success that has no row but that of a failed store, which it replaces."""
    if entry.entry_class == "lost" or entry.record is None:
        return entry.entry_class == "lost"
    return classifier.repository.row_to_replace(entry.record, entry.rows) is not None


def _dead_letter(group: Group, entry: ClassifiedEntry, why: Rejected) -> str:
    """Write the dead letter of an entry; one that was delivered again meanwhile is left to its consumer."""
    written = write_late_letter(group, entry.id, entry.first, why.reason, why.detail)
    return "dead_lettered" if written else "left"


def _failure(done: RepairAnswer) -> str:
    if done.repaired.inserted or done.repaired.duplicates or done.repaired.dead_lettered:
        return ""
    return "nothing was repaired: the lost entries were delivered again, or removed from the stream, in the meantime"


def _says(result: VerifyResult, pipeline: Pipeline) -> Iterator[str]:
    lost, invalid = result.classes["lost"], result.classes["lost_invalid"]
    if not result.lost:
        yield "nothing is lost: there is nothing to repair"
    if lost:
        yield f"{entries(lost)} would be inserted into {pipeline.table}"
    if lost and pipeline.dispatches:
        yield "  their configurations are not handed to the storage workers; `dvctl dispatch --missing` does that"
    if invalid:
        why = ", ".join(f"{count} {name}" for name, count in result.reasons.most_common())
        yield f"{entries(invalid)} would become dead letters: {why}"
