"""Pending entries in an operator's hands: taking them over, releasing them, acknowledging them by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from devicevault_cli.messages import Decoded
from devicevault_cli.operations.changes.plan import Answer, Plan, Progress, chosen_number, entries, quietly, some
from devicevault_cli.operations.groups.snapshots import existing_group
from devicevault_cli.operations.monitoring.liveness import liveness_of
from devicevault_cli.operations.named import named_consumers, named_pending, new_consumer
from devicevault_cli.paging import paged
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams import admin
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import LAST, EntryId, PendingEntry
from devicevault_cli.streams.snapshot import missing

GONE = "no longer on the stream"
_MOVED = "the entries were acknowledged or claimed by others in the meantime"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which pending entries: exactly these (`ids`), those of one owner, those idle so long; all must hold."""

    ids: Sequence[EntryId] | None = None
    owner: str | None = None
    min_idle_ms: int = 0

    def pages(
        self, group: Group, end: EntryId = LAST, unknown: list[EntryId] | None = None
    ) -> Iterator[list[PendingEntry]]:
        """The entries a page at a time: a pending list of a million is never held. Ids not pending go to `unknown`."""
        if self.ids is None:
            yield from group.pending_pages(end=end, count=admin.PAGE, consumer=self.owner, min_idle_ms=self.min_idle_ms)
            return
        for some_ids in paged(self.ids, admin.PAGE):
            found = group.pending_ids(some_ids)
            if unknown is not None:
                unknown += (key for key in some_ids if key not in found)
            yield [
                each
                for each in found.values()
                if self.owner in (None, each.consumer) and each.idle_ms >= self.min_idle_ms
            ]


@dataclass(slots=True)
class _Count:
    owners: Counter[str]
    last: EntryId
    unknown: list[EntryId]

    @property
    def total(self) -> int:
        return self.owners.total()


def _count(group: Group, chosen: Chosen, end: EntryId = LAST, progress: Progress = quietly) -> _Count:
    count = _Count(Counter(), EntryId(0, 0), [])
    for page in chosen.pages(group, end, count.unknown):
        count.owners.update(each.consumer for each in page)
        count.last = max([count.last, *(each.id for each in page)])
        progress(count.total)
    return count


def plan_claim(
    group: Group, chosen: Chosen, to: str | None, *, claim_idle_ms: int = 60_000, progress: Progress = quietly
) -> Plan:
    """Take entries over for `to`, or (None) release them: their idle time is set beyond claim-idle.

    The delivery counts stay as they are: what an operator moves was not delivered. Raises MissingGroup.
    """
    existing_group(group)
    count = _count(group, chosen, progress=progress)
    done_as = "claimed" if to else "released"
    liveness = liveness_of(group)
    consumers = liveness.consumers
    owner = named_consumers(group, [chosen.owner] if chosen.owner else [], (each.name for each in consumers))
    named = owner if owner.nothing else named_pending(group, chosen.ids, count.unknown)
    alive = {consumer.name for consumer in consumers if liveness.alive(consumer)}
    held = {name: number for name, number in count.owners.items() if name in alive}

    def still_true() -> bool:
        """Entries that grew idle meanwhile are none of this plan's; fewer than planned means that somebody acted."""
        now = _count(group, chosen, count.last)
        return all(now.owners[name] >= number for name, number in count.owners.items())

    def preview() -> Answer:
        """The same lists as of what would happen."""
        answer: Answer = {"claimed": [], "released": [], "gone": []}
        for page in chosen.pages(group, count.last):
            gone = set(missing(group.stream, [each.id for each in page]))
            for each in page:
                answer["gone" if each.id in gone else done_as].append(str(each.id))
        return answer

    def apply() -> Answer:
        answer: Answer = {"claimed": [], "released": [], "gone": []}
        done = answer[done_as]
        for page in chosen.pages(group, count.last):
            result = admin.claim(
                group,
                [each.id for each in page],
                to,
                owner=chosen.owner,
                min_idle_ms=chosen.min_idle_ms,
                idle_ms=0 if to else claim_idle_ms + 1000,
            )
            done += map(str, result.ids)
            answer["gone"] += map(str, result.gone)
            progress(len(done))
        return answer

    says = [
        f"{chosen_number(count.total, 'entry', 'entries')} would go to {to}, delivery counts kept"
        if to
        else f"{chosen_number(count.total, 'entry', 'entries')} would be released to the next live consumer",
    ]
    says += new_consumer(group, to, (each.name for each in consumers)) if to and count.total else []
    says += [f"  from {name}: {entries(number)}" for name, number in count.owners.most_common(10)]
    if held:
        says.append(f"{entries(sum(held.values()))} of these are held by active consumers: {some(sorted(held))}")
    return Plan(
        command=f"claim --to {to}" if to else "claim --release",
        says=tuple(says),
        answer={"claimed": [], "released": [], "gone": [], "selected": count.total, "unknown": list(named.unknown)},
        size=count.total,
        apply=apply,
        still_true=still_true,
        preview=preview,
        named=named,
        failure=lambda done: "" if done[done_as] or done["gone"] else f"nothing was {done_as}: {_MOVED}",
    )


def plan_ack(
    group: Group, ids: Sequence[EntryId], pipeline: Pipeline, repository: Repository | None, why: str = "ack by hand"
) -> Plan:
    """Acknowledge entries by hand, saying what is given up with them; without a repository that stays unsaid."""
    existing_group(group)
    pending: set[EntryId] = set()
    fate: Counter[str] = Counter()
    for page in paged(ids, admin.PAGE):
        here = group.pending_ids(page)
        pending.update(here)
        fate += _fate(group, list(here), pipeline, repository)
    planned = [each for each in ids if each in pending]
    named = named_pending(group, ids, [each for each in ids if each not in pending])

    def still_true() -> bool:
        return all(len(group.pending_ids(page)) == len(page) for page in paged(sorted(pending), admin.PAGE))

    def apply() -> Answer:
        acked = []
        # What the plan did not find pending stays, should it have been delivered meanwhile: nobody was told its fate.
        for page in paged(planned, admin.PAGE):
            acked += admin.acknowledge_by_hand(group, page, why)
        done = set(acked)
        return {"acked": [str(each) for each in acked], "unknown": [str(each) for each in ids if each not in done]}

    says = [f"{chosen_number(len(pending), 'entry', 'entries')} would be acknowledged and recorded as discarded"]
    says += [f"  {entries(number)}: {what}" for what, number in fate.most_common()]
    if len(pending) > fate[GONE]:
        says.append("to bring one back while its entry is on the stream: dvctl replay ID")
    return Plan(
        command="ack",
        says=tuple(says),
        answer={
            "acked": list(map(str, planned)),
            "unknown": list(named.unknown),
            "selected": len(pending),
            "given_up": dict(fate),
        },
        size=len(pending),
        apply=apply,
        still_true=still_true,
        named=named,
        failure=lambda done: "" if done["acked"] else f"nothing was acknowledged: {_MOVED}",
    )


def _fate(group: Group, ids: list[EntryId], pipeline: Pipeline, repository: Repository | None) -> Counter[str]:
    """What acknowledging entries unprocessed means, in words, counted."""
    there = group.stream.get(ids)
    fate: Counter[str] = Counter()
    fate.update({GONE: len(ids) - len(there)} if len(there) < len(ids) else {})
    if repository is None:
        fate.update({"whether they have a row is unknown without a database": len(there)} if there else {})
        return fate
    records = []
    for key, entry in there.items():
        decision = pipeline.decode(key.ms, key.seq, entry.fields, repository.device_id_max)
        if isinstance(decision, Decoded):
            records.append(decision.record)
        else:
            fate["would be rejected or skipped"] += 1
    for rows in repository.find(records) if records else []:
        fate["have a row already" if rows else "have NO row: these results would be lost"] += 1
    return fate
