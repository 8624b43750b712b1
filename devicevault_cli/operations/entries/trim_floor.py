"""The trim floor: the first entry that a group, the table or the storage of configurations still needs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from devicevault_cli.messages import CONFIGURATION, SUCCESS, Decision, Decoded, Rejected
from devicevault_cli.operations.answer import Answer, optional
from devicevault_cli.operations.changes.change import Progress
from devicevault_cli.operations.dispatch.names import StorageState
from devicevault_cli.operations.dispatch.stored import Success, storage_states
from devicevault_cli.operations.look_up import look_up
from devicevault_cli.pipelines import Pipeline, original_id
from devicevault_cli.plural import number
from devicevault_cli.records import Record
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams import written_to
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ZERO, Entry, EntryId
from devicevault_cli.streams.stream import Stream
from devicevault_cli.times import iso, now_ms

SHOW, REPAIR = "dvctl verify --storage", "dvctl dispatch --missing"


@dataclass(frozen=True, slots=True)
class Block(Answer):
    """An element of `blocked_by[]`: the first entry that must stay, by whom it is needed, and why.

    Of configurations without a successful stored backup also: how many, since when, and the commands that show them and
    dispatch them again.
    """

    by: str
    id: EntryId
    why: str
    count: int | None = optional()
    since: str | None = optional()
    commands: tuple[str, ...] | None = optional()

    def says(self) -> Iterator[str]:
        """The lines of the plan."""
        yield f"blocked by {self.by}: entry {self.id} and later: {self.why}"
        if self.count is not None:
            yield f"  {number(self.count, 'configuration')} since {self.since}"
            yield f"  list them with `{SHOW}`, repair with `{REPAIR}`"


def group_blocks(stream: Stream, ignored: Sequence[str] = ()) -> list[Block]:
    """For each group the oldest entry that it still holds, or that was not delivered to it yet."""
    blocks = []
    for info in stream.groups():
        if info.name in ignored:
            continue
        held = _oldest_held(Group(stream, info.name)) if info.pending else None
        waiting = next(iter(stream.range(info.last_delivered_id.next(), count=1)), None)
        if held is not None:
            blocks.append(Block(f"group {info.name}", held, "pending"))
        elif waiting is not None:
            blocks.append(Block(f"group {info.name}", waiting.id, "not delivered yet"))
    return sorted(blocks, key=lambda block: block.id)


def fail_over_blocks(stream: Stream, ignored: Sequence[str] = ()) -> list[Block]:
    """For each group the first entry that is looked up again if PostgreSQL fails over now."""
    there = {info.name for info in stream.groups()}.difference(ignored)
    why = "looked up again after a fail-over of the database (consume --recheck)"
    needed = {name: known.needed_from(now_ms()) for name, known in written_to.read_all(stream).items() if name in there}
    # The first entry from there on that exists.
    found = ((name, stream.range(first, count=1)) for name, first in needed.items() if first is not None)
    return [Block(f"group {name}", entries[0].id, why) for name, entries in found if entries]


def _oldest_held(group: Group) -> EntryId | None:
    """The oldest pending entry that exists on the stream."""
    for page in group.pending_pages():
        ids = [entry.id for entry in page]
        found = group.stream.get(ids[:1]) or group.stream.get(ids)
        if found:
            return min(found)
    return None


class PageNeeds(NamedTuple):
    """What is needed of a page: the first entry that the table needs, and those before it that are not stored yet."""

    table: Block | None
    unstored: list[EntryId]


@dataclass(frozen=True, slots=True)
class Needs:
    """Who needs an entry besides the groups: the table, and with `dispatches` the storage of its configuration.

    `given_up`: ids of dead letters and discards, which nobody needs.
    """

    stream: str
    pipeline: Pipeline
    repository: Repository
    given_up: Collection[EntryId]
    dispatches: bool = False

    def of(self, page: Sequence[Entry]) -> PageNeeds:
        """The table needs a valid entry without a row, and a bad one that is not given up."""
        unfinished = [
            entry for entry in page if entry.id not in self.given_up and original_id(entry) not in self.given_up
        ]
        persisted: list[tuple[Entry, Record]] = []
        for entry, decision, rows in look_up(unfinished, self.pipeline, self.repository):
            if isinstance(decision, Rejected) or (isinstance(decision, Decoded) and not rows):
                return PageNeeds(self._table_block(entry, decision), self._unstored(persisted))
            if isinstance(decision, Decoded):
                persisted.append((entry, decision.record))
        return PageNeeds(None, self._unstored(persisted))

    def _table_block(self, entry: Entry, decision: Decision) -> Block:
        reason = f" ({decision.reason})" if isinstance(decision, Rejected) else ""
        return Block(f"table {self.pipeline.table}", entry.id, f"neither persisted nor dead{reason}")

    def _unstored(self, persisted: Sequence[tuple[Entry, Record]]) -> list[EntryId]:
        """Those whose configuration the stream alone holds."""
        if not self.dispatches:
            return []
        wanted = [(entry, record) for entry, record in persisted if record.status == SUCCESS]
        successes = [Success(entry.id, original_id(entry), record) for entry, record in wanted]
        states = storage_states(self.stream, self.repository, successes)
        return [entry.id for (entry, _), state in zip(wanted, states, strict=True) if _needed(entry, state)]


def _needed(entry: Entry, state: StorageState) -> bool:
    """Whether the stream must keep an entry for its configuration.

    The storage worker answers an empty configuration with a failure, always: nothing is left to be kept then.
    """
    if state == "store_failed":
        return bool(entry.fields.get(CONFIGURATION))
    return state == "not_stored"


class Floor(NamedTuple):
    """The first entry that must stay, the number of entries before it, and what blocks, if no group does."""

    id: EntryId
    would_remove: int
    blocks: list[Block]


@dataclass(slots=True)
class _Unstored:
    """Entries whose configuration the stream alone holds: the first, how many precede it, how many there are."""

    first: EntryId = ZERO
    before: int = 0
    count: int = 0

    def add(self, ids: Sequence[EntryId], page: Sequence[Entry], passed: int) -> None:
        """Those of a page that `passed` entries precede."""
        if ids and not self.count:
            self.first = ids[0]
            self.before = passed + sum(entry.id < self.first for entry in page)
        self.count += len(ids)

    def lower(self, floor: Floor) -> Floor:
        """The floor, lowered to the first of these."""
        if not self.count:
            return floor
        block = Block(
            "storage",
            self.first,
            "no successful stored backup",
            count=self.count,
            since=iso(self.first.ms),
            commands=(SHOW, REPAIR),
        )
        return Floor(self.first, self.before, [block, *floor.blocks])


def find_floor(stream: Stream, limit: EntryId, spare: int | None, needs: Needs, progress: Progress) -> Floor:
    """Go up from the oldest entry to the limit, to the first entry that the table needs, or past `spare` entries.

    An entry whose configuration is not stored lowers the floor, and the same pass counts how many more there are.
    """
    passed = 0
    unstored = _Unstored()
    if limit == ZERO:
        return Floor(ZERO, 0, [])
    for page in stream.pages(ZERO, limit.previous()):
        removable = page if spare is None else page[: spare - passed]
        found = needs.of(removable)
        unstored.add(found.unstored, removable, passed)
        if found.table is not None:
            before = passed + sum(entry.id < found.table.id for entry in removable)
            return unstored.lower(Floor(found.table.id, before, [found.table]))
        passed += len(removable)
        progress(passed)
        if len(removable) < len(page):
            return unstored.lower(Floor(page[len(removable)].id, passed, []))
    return unstored.lower(Floor(limit, passed, []))
