"""dvctl claim: move pending entries to another consumer, or release them to the next one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

from devicevault_cli.operations.answer import ChosenAnswer, optional
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.groups import snapshots
from devicevault_cli.operations.groups.snapshots import existing_group
from devicevault_cli.operations.monitoring.limits import CLAIM_IDLE_MS
from devicevault_cli.operations.monitoring.liveness import Liveness, liveness_of
from devicevault_cli.operations.named import Named, named_consumers, named_pending, new_consumer
from devicevault_cli.operations.wording import chosen_number, entries, some
from devicevault_cli.paging import paged
from devicevault_cli.streams import scripts
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import LAST, ZERO, Claimed, EntryId, PendingEntry
from devicevault_cli.streams.snapshot import PendingState

MOVED = "the entries were acknowledged or claimed by others in the meantime"
Pages: TypeAlias = "Iterable[list[PendingEntry]] | Iterable[list[PendingState]]"
BEYOND_MS = 1000
"""Released entries are idle longer than claim-idle by this much."""


@dataclass(frozen=True, slots=True)
class ClaimAnswer(ChosenAnswer):
    """The answer of `claim`. `gone`: entries that no longer exist on the stream, cleared from the pending list."""

    claimed: Sequence[EntryId] = ()
    released: Sequence[EntryId] = ()
    gone: Sequence[EntryId] = ()
    selected: int = 0
    snapshot: str | None = optional()


@dataclass(frozen=True, slots=True)
class ClaimFilter:
    """Which pending entries: with these ids, of this owner, idle for at least so long; all must apply."""

    ids: Sequence[EntryId] | None = None
    owner: str | None = None
    min_idle_ms: int = 0

    def pages(
        self, group: Group, end: EntryId = LAST, unknown: list[EntryId] | None = None
    ) -> Iterator[list[PendingEntry]]:
        """The entries, a page at a time. Ids that are not pending are added to `unknown`."""
        size, owner, idle_ms = scripts.ENTRIES_PER_SCRIPT, self.owner, self.min_idle_ms
        if self.ids is None:
            yield from group.pending_pages(end=end, count=size, consumer=owner, min_idle_ms=idle_ms)
            return
        for some_ids in paged(self.ids, size):
            found = group.pending_ids(some_ids)
            if unknown is not None:
                unknown += (key for key in some_ids if key not in found)
            yield [held for held in found.values() if owner in (None, held.consumer) and held.idle_ms >= idle_ms]


@dataclass(slots=True)
class _Count:
    """The number of chosen entries of each consumer, and the last of them."""

    owners: Counter[str] = field(default_factory=Counter)
    last: EntryId = ZERO
    unknown: list[EntryId] = field(default_factory=list)


def _count(group: Group, chosen: ClaimFilter, end: EntryId = LAST, progress: Progress = quietly) -> _Count:
    count = _Count()
    for page in chosen.pages(group, end, count.unknown):
        count.owners.update(entry.consumer for entry in page)
        count.last = max([count.last, *(entry.id for entry in page)])
        progress(count.owners.total())
    return count


def plan_claim(
    group: Group, chosen: ClaimFilter, to: str | None, claim_idle_ms: int = CLAIM_IDLE_MS, progress: Progress = quietly
) -> Change[ClaimAnswer]:
    """Move entries to `to`, or (None) set their idle time beyond `claim_idle_ms`. Delivery counts stay.

    Raises MissingGroup.
    """
    existing_group(group)
    count = _count(group, chosen, progress=progress)
    liveness = liveness_of(group)
    total = count.owners.total()
    named = _named(group, chosen, count.unknown, liveness)
    answer = ClaimAnswer(selected=total, unknown=named.unknown)

    def claim(ids: list[EntryId]) -> Claimed:
        idle_ms = 0 if to else claim_idle_ms + BEYOND_MS
        return group.claim(ids, to, owner=chosen.owner, min_idle_ms=chosen.min_idle_ms, idle_ms=idle_ms)

    def each_page(pages: Pages, step: Callable[[list[EntryId]], Claimed], progress: Progress) -> ClaimAnswer:
        done, gone = _each_page(pages, step, progress)
        return replace(answer, claimed=done if to else (), released=() if to else done, gone=gone)

    undo, can_write = snapshots.undo_by_snapshot("restore-group gives the entries back to their owners")

    def apply() -> ClaimAnswer:
        pages = chosen.pages(group, count.last)
        if not can_write:
            return each_page(pages, claim, progress)
        before = snapshots.Before("claim", [to] if to and to not in liveness.names else ())
        stored = snapshots.write_entries(group, before, pages)
        done = each_page(stored.pending_pages(), claim, progress)
        if not (done.claimed or done.released):
            stored.path.unlink()
            return done
        return replace(done, snapshot=str(stored.path), undo=snapshots.restore_command(stored.path))

    return Change(
        command=f"claim --to {to}" if to else "claim --release", says=tuple(_says(group, count.owners, to, liveness)),
        undo=undo, answer=answer, size=total, named=named, apply=apply,
        preview=lambda: each_page(chosen.pages(group, count.last), partial(_missing, group), quietly),
        still_true=lambda: _as_many(count, _count(group, chosen, count.last)), failure=partial(_failure, to),
    )  # fmt: skip


def _as_many(planned: _Count, now: _Count) -> bool:
    """Entries that have become idle since do not belong to the plan; fewer than planned means that they changed."""
    return all(now.owners[name] >= count for name, count in planned.owners.items())


def _missing(group: Group, ids: list[EntryId]) -> Claimed:
    """What claiming would answer."""
    absent = set(group.stream.missing(ids))
    return Claimed({key: 0 for key in ids if key not in absent}, [key for key in ids if key in absent])


def _each_page(
    pages: Pages, step: Callable[[list[EntryId]], Claimed], progress: Progress
) -> tuple[list[EntryId], list[EntryId]]:
    """-> the entries that were claimed, and those gone from the stream"""
    done: list[EntryId] = []
    gone: list[EntryId] = []
    for page in pages:
        result = step([entry.id for entry in page])
        done += result.deliveries
        gone += result.gone
        progress(len(done))
    return done, gone


def _failure(to: str | None, done: ClaimAnswer) -> str:
    succeeded = done.claimed or done.released or done.gone
    return "" if succeeded else f"nothing was {'claimed' if to else 'released'}: {MOVED}"


def _named(group: Group, chosen: ClaimFilter, unknown: Sequence[EntryId], liveness: Liveness) -> Named:
    owner = named_consumers(group, [chosen.owner] if chosen.owner else [], liveness.names)
    return owner if owner.nothing else named_pending(group, chosen.ids, unknown)


def _says(group: Group, owners: Counter[str], to: str | None, liveness: Liveness) -> Iterator[str]:
    selected = chosen_number(owners.total(), "entry", "entries")
    if to is None:
        yield f"{selected} would be released to the next active consumer"
    else:
        yield f"{selected} would move to {to}, delivery counts kept"
        yield from new_consumer(group, to, liveness.names) if owners else []
    for name, held in owners.most_common(10):
        yield f"  from {name}: {entries(held)}"
    alive = {consumer.name for consumer in liveness.consumers if liveness.alive(consumer)}
    if active := sorted(alive.intersection(owners)):
        yield f"{entries(sum(owners[name] for name in active))} of these are held by active consumers: {some(active)}"
