"""verify --repair: insert lost entries, write the dead letters of invalid ones, and verify again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from devicevault_cli.messages import Rejected
from devicevault_cli.operations.answer import Answer, ChangeAnswer, optional
from devicevault_cli.operations.changes.change import Change
from devicevault_cli.operations.save import rejection, save_bisecting
from devicevault_cli.operations.verify.classes import LOST, ClassifiedEntry, Classifier
from devicevault_cli.operations.verify.result import VerifyAnswer, VerifyResult
from devicevault_cli.operations.verify.scan import Scope, scan
from devicevault_cli.operations.verify.verify import Progress, examine, quietly
from devicevault_cli.operations.wording import entries
from devicevault_cli.pipelines import RESULTS, Pipeline
from devicevault_cli.streams.dead_letters import write_late_letter
from devicevault_cli.streams.group import Group

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

KEPT = (
    "classes", "lost_reasons", "lost_since", "lost_until", "devices", "devices_affected", "timeline_span_s", "timeline",
    "examples",
)  # fmt: skip
"""What the answer keeps of the first verification: else the repair would erase the incident."""


@dataclass(frozen=True, slots=True)
class Repaired(Answer):
    """Lost entries by what became of them. `left`: delivered again in the meantime."""

    inserted: int = 0
    duplicates: int = 0
    dead_lettered: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class RepairAnswer(ChangeAnswer):
    """The answer of `verify --repair`: a verification, once applied the second one; `before`: parts of the first."""

    verification: VerifyAnswer
    repaired: Repaired
    before: Mapping[str, Any] | None = optional()

    def to_dict(self) -> dict[str, Any]:
        """The keys of the verification, then the others."""
        values = ChangeAnswer.to_dict(self)
        verification: dict[str, Any] = values.pop("verification")
        return verification | values


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair(Change[RepairAnswer]):
    """Repairs entries between the first and the last lost one (`lost`), and verifies the whole scope again.

    Each entry is classified again when it is repaired, so all that must hold is that the group exists.
    """

    group: Group
    pipeline: Pipeline
    repository: Repository
    scope: Scope
    lost: Scope
    deep: bool
    progress: Progress

    def still_true(self) -> bool:
        return self.group.info() is not None

    def apply(self) -> RepairAnswer:
        self.repository.check()
        done: Counter[str] = Counter()
        classifier = Classifier(self.group, self.pipeline, self.repository)
        for page in scan(classifier, self.lost):
            done += self._repair([entry for entry in page.entries if entry.entry_class in LOST])
        _, after = examine(
            self.group, self.pipeline, self.repository, self.scope, deep=self.deep, progress=self.progress
        )
        before = {name: getattr(self.answer.verification, name) for name in KEPT}
        return replace(self.answer, verification=after, repaired=Repaired(**done), before=before)

    def _repair(self, found: list[ClassifiedEntry]) -> Counter[str]:
        done: Counter[str] = Counter()
        valid = [(entry, entry.record) for entry in found if entry.entry_class == "lost" and entry.record is not None]
        records = [record for _, record in valid]
        for (entry, record), outcome in zip(valid, save_bisecting(self.repository, records), strict=True):
            refused = rejection(outcome, record)
            if refused is not None or isinstance(outcome, Rejected):
                done[self._dead_letter(entry, refused or Rejected("database-rejected"))] += 1
            else:
                done["inserted" if outcome.outcome == "inserted" else "duplicates"] += 1
        for entry in found:
            if entry.entry_class == "lost_invalid":
                done[self._dead_letter(entry, entry.rejection)] += 1
        return done

    def _dead_letter(self, entry: ClassifiedEntry, why: Rejected) -> str:
        """Write the dead letter of an entry; one that was delivered again meanwhile is left to its consumer."""
        written = write_late_letter(self.group, entry.id, entry.first, why.reason, why.detail)
        return "dead_lettered" if written else "left"

    def failure(self, done: RepairAnswer) -> str:
        repaired = done.repaired
        if repaired.inserted or repaired.duplicates or repaired.dead_lettered:
            return ""
        return (
            "nothing was repaired: the lost entries were delivered again, or removed from the stream, in the meantime"
        )


def plan_repair(
    group: Group,
    pipeline: Pipeline,
    repository: Repository,
    scope: Scope,
    *,
    deep: bool = False,
    progress: Progress = quietly,
) -> Repair:
    """Verify, and plan the repair of lost entries."""
    result, answer = examine(group, pipeline, repository, scope, deep=deep, progress=progress)
    lost = replace(scope, start=result.first_lost or scope.start, end=result.last_lost or scope.end)
    return Repair(
        command="verify --repair", says=tuple(_says(result, pipeline)), answer=RepairAnswer(answer, Repaired()),
        size=result.lost, group=group, pipeline=pipeline, repository=repository, scope=scope, lost=lost, deep=deep,
        progress=progress,
    )  # fmt: skip


def _says(result: VerifyResult, pipeline: Pipeline) -> Iterator[str]:
    lost, invalid = result.classes["lost"], result.classes["lost_invalid"]
    if not result.lost:
        yield "nothing is lost: there is nothing to repair"
    if lost:
        yield f"{entries(lost)} would be inserted into {pipeline.table}"
    if lost and pipeline.name == RESULTS.name:
        yield "  their configurations are not handed to the storage; `dvctl replay --republish` does that too"
    if invalid:
        why = ", ".join(f"{count} {name}" for name, count in result.reasons.most_common())
        yield f"{entries(invalid)} would become dead letters: {why}"
