"""Repair: insert what is lost, write the letters of what was lost and is invalid, and verify again."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from devicevault_cli.messages import Decoded, Rejected
from devicevault_cli.operations.changes.plan import Answer, Plan, entries
from devicevault_cli.operations.save import rejection, save_apart
from devicevault_cli.operations.verify.classes import BAD, Judge, Judged, reason
from devicevault_cli.operations.verify.scan import Scope, scan
from devicevault_cli.operations.verify.verdict import Verdict
from devicevault_cli.operations.verify.verify import Progress, examine, quietly
from devicevault_cli.pipelines import RESULTS, Pipeline
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.settled import write_late_letter

FOUND = (
    "classes", "lost_reasons", "lost_since", "lost_until", "devices", "devices_affected", "timeline_span_s", "timeline",
    "examples",
)  # fmt: skip
"""What the first verification found: the answer keeps it, else the repair would erase the incident."""
NOTHING = {"inserted": 0, "duplicates": 0, "dead_lettered": 0, "left": 0}


def plan_repair(
    group: Group,
    pipeline: Pipeline,
    repository: Repository,
    scope: Scope,
    *,
    deep: bool = False,
    progress: Progress = quietly,
) -> Plan:
    """Verify, and plan the repair of what is lost. Applied, its answer is that of a second verification."""
    verdict, answer = examine(group, pipeline, repository, scope, deep=deep, progress=progress)

    def still_true() -> bool:
        """Each entry gets its two looks again when it is repaired; all that must hold is that the group is there."""
        return group.info() is not None

    def apply() -> Answer:
        repository.check()
        done = _repair(Judge(group, pipeline, repository), _narrowed(scope, verdict))
        after = examine(group, pipeline, repository, scope, deep=deep, progress=progress)[1]
        return after | {"repaired": NOTHING | dict(done), "before": {name: answer[name] for name in FOUND}}

    return Plan(
        command="verify --repair",
        says=tuple(_says(verdict, pipeline)),
        answer=answer | {"repaired": dict(NOTHING)},
        size=verdict.lost,
        apply=apply,
        still_true=still_true,
        failure=_none_repaired,
    )


def _none_repaired(answer: Answer) -> str:
    done = answer["repaired"]
    if done["inserted"] or done["duplicates"] or done["dead_lettered"]:
        return ""
    return "nothing was repaired: the lost entries were delivered again, or removed from the stream, in the meantime"


def _says(verdict: Verdict, pipeline: Pipeline) -> list[str]:
    lost, invalid = verdict.classes["lost"], verdict.classes["lost_invalid"]
    if not verdict.lost:
        return ["nothing is lost: there is nothing to repair"]
    says = [f"{entries(lost)} would be inserted into {pipeline.table}"] if lost else []
    if lost and pipeline.name == RESULTS.name:
        says.append("  their configurations are not handed to the storage; `dvctl replay --republish` does that too")
    if invalid:
        why = ", ".join(f"{count} {name}" for name, count in verdict.reasons.most_common())
        says.append(f"{entries(invalid)} would become dead letters: {why}")
    return says


def _narrowed(scope: Scope, verdict: Verdict) -> Scope:
    """From the first to the last loss: what lies outside need not be read again."""
    return replace(scope, start=verdict.first_bad or scope.start, end=verdict.last_bad or scope.end)


def _repair(judge: Judge, scope: Scope) -> Counter[str]:
    done: Counter[str] = Counter()
    for page in scan(judge, scope):
        bad = [each for each in page.judged if each.state in BAD]
        done += _insert(judge, [each for each in bad if each.state == "lost"])
        for each in bad:
            if each.state == "lost_invalid":
                done[_bury(judge.group, each, reason(each))] += 1
    return done


def _insert(judge: Judge, lost: list[Judged]) -> Counter[str]:
    done: Counter[str] = Counter()
    records = [each.decision.record for each in lost if isinstance(each.decision, Decoded)]
    for each, record, outcome in zip(lost, records, save_apart(judge.repository, records), strict=True):
        refused = rejection(outcome, record)
        if refused is not None or isinstance(outcome, Rejected):
            done[_bury(judge.group, each, refused or Rejected("database-rejected"))] += 1
        else:
            done["inserted" if outcome.outcome == "inserted" else "duplicates"] += 1
    return done


def _bury(group: Group, judged: Judged, why: Rejected) -> str:
    """Write its letter; what was delivered again meanwhile is its consumer's to judge."""
    written = write_late_letter(group, judged.id, judged.first, why.reason, why.detail)
    return "dead_lettered" if written else "left"
