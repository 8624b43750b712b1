"""dvctl claim: move pending entries to another consumer, or release them to the next one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from devicevault_cli.operations.answer import ChosenAnswer
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.groups.snapshots import existing_group
from devicevault_cli.operations.monitoring.liveness import Liveness, liveness_of
from devicevault_cli.operations.named import Named, named_consumers, named_pending, new_consumer
from devicevault_cli.operations.wording import chosen_number, entries, some
from devicevault_cli.paging import paged
from devicevault_cli.streams import scripts
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import LAST, ZERO, EntryId, PendingEntry

MOVED = "the entries were acknowledged or claimed by others in the meantime"
BEYOND_MS = 1000
"""Released entries are idle longer than claim-idle by this much."""


@dataclass(frozen=True, slots=True)
class ClaimAnswer(ChosenAnswer):
    """The answer of `claim`. `gone`: entries that no longer exist on the stream, cleared from the pending list."""

    claimed: Sequence[EntryId] = ()
    released: Sequence[EntryId] = ()
    gone: Sequence[EntryId] = ()
    selected: int = 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which pending entries: with these ids, of this owner, idle for at least so long; all must apply."""

    ids: Sequence[EntryId] | None = None
    owner: str | None = None
    min_idle_ms: int = 0

    def pages(
        self, group: Group, end: EntryId = LAST, unknown: list[EntryId] | None = None
    ) -> Iterator[list[PendingEntry]]:
        """The entries, a page at a time. Ids that are not pending are added to `unknown`."""
        if self.ids is None:
            yield from group.pending_pages(
                end=end, count=scripts.ENTRIES_PER_SCRIPT, consumer=self.owner, min_idle_ms=self.min_idle_ms
            )
            return
        for some_ids in paged(self.ids, scripts.ENTRIES_PER_SCRIPT):
            found = group.pending_ids(some_ids)
            if unknown is not None:
                unknown += (key for key in some_ids if key not in found)
            yield [
                entry
                for entry in found.values()
                if self.owner in (None, entry.consumer) and entry.idle_ms >= self.min_idle_ms
            ]


@dataclass(slots=True)
class _Count:
    """The number of chosen entries of each consumer, and the last of them."""

    owners: Counter[str] = field(default_factory=Counter)
    last: EntryId = ZERO
    unknown: list[EntryId] = field(default_factory=list)


def _count(group: Group, chosen: Chosen, end: EntryId = LAST, progress: Progress = quietly) -> _Count:
    count = _Count()
    for page in chosen.pages(group, end, count.unknown):
        count.owners.update(entry.consumer for entry in page)
        count.last = max([count.last, *(entry.id for entry in page)])
        progress(count.owners.total())
    return count


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimEntries(Change[ClaimAnswer]):
    """Moves the chosen entries up to `last` to `to`, or (None) sets their idle time beyond claim-idle."""

    group: Group
    chosen: Chosen
    to: str | None
    claim_idle_ms: int
    owners: Mapping[str, int]
    last: EntryId
    progress: Progress

    def still_true(self) -> bool:
        """Entries that have become idle since do not belong to the plan; fewer than planned means that they changed."""
        now = _count(self.group, self.chosen, self.last)
        return all(now.owners[name] >= count for name, count in self.owners.items())

    def preview(self) -> ClaimAnswer:
        done: list[EntryId] = []
        gone: list[EntryId] = []
        for page in self.chosen.pages(self.group, self.last):
            ids = [entry.id for entry in page]
            absent = set(self.group.stream.missing(ids))
            gone += absent.intersection(ids)
            done += (key for key in ids if key not in absent)
        return self._answer(done, gone)

    def apply(self) -> ClaimAnswer:
        done: list[EntryId] = []
        gone: list[EntryId] = []
        for page in self.chosen.pages(self.group, self.last):
            result = self.group.claim(
                [entry.id for entry in page],
                self.to,
                owner=self.chosen.owner,
                min_idle_ms=self.chosen.min_idle_ms,
                idle_ms=0 if self.to else self.claim_idle_ms + BEYOND_MS,
            )
            done += result.deliveries
            gone += result.gone
            self.progress(len(done))
        return self._answer(done, gone)

    def _answer(self, done: Sequence[EntryId], gone: Sequence[EntryId]) -> ClaimAnswer:
        return replace(self.answer, claimed=done if self.to else (), released=() if self.to else done, gone=gone)

    def failure(self, done: ClaimAnswer) -> str:
        if done.claimed or done.released or done.gone:
            return ""
        return f"nothing was {'claimed' if self.to else 'released'}: {MOVED}"


def plan_claim(
    group: Group, chosen: Chosen, to: str | None, *, claim_idle_ms: int = 60_000, progress: Progress = quietly
) -> ClaimEntries:
    """Move entries to `to`, or (None) release them. Delivery counts stay. Raises MissingGroup."""
    existing_group(group)
    count = _count(group, chosen, progress=progress)
    liveness = liveness_of(group)
    total = count.owners.total()
    named = _named(group, chosen, count.unknown, liveness)
    return ClaimEntries(
        command=f"claim --to {to}" if to else "claim --release",
        says=tuple(_says(group, count.owners, to, liveness)),
        answer=ClaimAnswer(selected=total, unknown=named.unknown),
        size=total,
        named=named,
        group=group,
        chosen=chosen,
        to=to,
        claim_idle_ms=claim_idle_ms,
        owners=count.owners,
        last=count.last,
        progress=progress,
    )


def _named(group: Group, chosen: Chosen, unknown: Sequence[EntryId], liveness: Liveness) -> Named:
    owners = [chosen.owner] if chosen.owner else []
    owner = named_consumers(group, owners, _names(liveness))
    return owner if owner.nothing else named_pending(group, chosen.ids, unknown)


def _names(liveness: Liveness) -> Iterable[str]:
    return (consumer.name for consumer in liveness.consumers)


def _says(group: Group, owners: Counter[str], to: str | None, liveness: Liveness) -> Iterator[str]:
    selected = chosen_number(owners.total(), "entry", "entries")
    if to is None:
        yield f"{selected} would be released to the next active consumer"
    else:
        yield f"{selected} would move to {to}, delivery counts kept"
        yield from new_consumer(group, to, _names(liveness)) if owners else []
    for name, held in owners.most_common(10):
        yield f"  from {name}: {entries(held)}"
    alive = {consumer.name for consumer in liveness.consumers if liveness.alive(consumer)}
    if active := sorted(alive.intersection(owners)):
        yield f"{entries(sum(owners[name] for name in active))} of these are held by active consumers: {some(active)}"
