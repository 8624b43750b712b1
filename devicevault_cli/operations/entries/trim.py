"""Trimming a stream no further than its floor: what some group or the table still needs stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from devicevault_cli.messages import Decoded, Rejected, first_id
from devicevault_cli.nearest import quoted, suggestion
from devicevault_cli.operations.changes.plan import Answer, Plan, Progress, entries, quietly
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.records import Record
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams import admin
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ZERO, Entry, EntryId, StreamInfo
from devicevault_cli.streams.stream import Stream


class Block(NamedTuple):
    """An entry that must stay, and for whom."""

    by: str
    id: EntryId
    why: str

    def answer(self) -> dict[str, str]:
        return {"by": self.by, "id": str(self.id), "why": self.why}


@dataclass(frozen=True, slots=True)
class Keep:
    """What stays in any case: what is younger than an id, the newest so many."""

    since: EntryId | None = None
    newest: int | None = None


def group_blocks(stream: Stream, ignored: Sequence[str] = ()) -> list[Block]:
    """For each group the oldest entry that it has not passed or still holds."""
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


def _oldest_held(group: Group) -> EntryId | None:
    """Entries that are pending but gone block nothing."""
    for page in group.pending_pages():
        there = group.stream.get([each.id for each in page[:1]]) or group.stream.get([each.id for each in page])
        if there:
            return min(there)
    return None


class _Table:
    """Which entries are accounted for: persisted, dead, discarded or skipped."""

    def __init__(self, letters: DeadLetters, pipeline: Pipeline, repository: Repository) -> None:
        self.settled = letters.ids() | letters.discarded_ids()
        self.pipeline = pipeline
        self.repository = repository

    def first_open(self, page: list[Entry]) -> Block | None:
        """The first entry of a page that is not."""
        open_ids: list[tuple[EntryId, str]] = []
        records: list[tuple[EntryId, Record]] = []
        for entry in page:
            if entry.id in self.settled or EntryId(*(first_id(entry.fields) or entry.id)) in self.settled:
                continue
            decision = self.pipeline.decode(entry.id.ms, entry.id.seq, entry.fields, self.repository.device_id_max)
            if isinstance(decision, Decoded):
                records.append((entry.id, decision.record))
            elif isinstance(decision, Rejected):
                open_ids.append((entry.id, f"neither persisted nor dead ({decision.reason})"))
        rows = self.repository.find([record for _, record in records]) if records else []
        open_ids += [
            (key, "neither persisted nor dead") for (key, _), found in zip(records, rows, strict=True) if not found
        ]
        return Block(f"table {self.pipeline.table}", *min(open_ids)) if open_ids else None


def plan_trim(
    stream: Stream,
    letters: DeadLetters,
    pipeline: Pipeline,
    repository: Repository,
    keep: Keep,
    ignored: Sequence[str] = (),
    progress: Progress = quietly,
) -> Plan:
    """Remove what nobody needs: the floor is computed over all groups and the table."""
    info = stream.info()
    end = info.last_id.next() if info and info.length else ZERO
    blocks = group_blocks(stream, ignored)
    limits = [end, *(block.id for block in blocks)]
    if keep.since is not None:
        limits.append(keep.since)
    spare = max(0, info.length - keep.newest) if info and keep.newest is not None else None
    floor, would_remove, block = _floor(stream, min(limits), spare, _Table(letters, pipeline, repository), progress)
    if block is not None:
        blocks.insert(0, block)

    def still_true() -> bool:
        return all(each.id >= floor for each in group_blocks(stream, ignored))

    def apply() -> Answer:
        removed = admin.trim(stream, floor)
        now = stream.info()
        return {"removed": removed, "first_id": str(now.first_id) if now and now.first_id else None}

    says = list(_says(stream, info, would_remove, floor, keep, ignored))
    says += [f"blocked by {each.by}: entry {each.id} and later: {each.why}" for each in blocks]
    return Plan(
        command=f"trim {stream.key}",
        says=tuple(says),
        answer={
            "floor": str(floor),
            "would_remove": would_remove,
            "removed": 0,
            "blocked_by": [each.answer() for each in blocks],
        },
        size=would_remove,
        apply=apply,
        still_true=still_true,
    )


def _says(
    stream: Stream, info: StreamInfo | None, would_remove: int, floor: EntryId, keep: Keep, ignored: Sequence[str]
) -> Iterator[str]:
    length = info.length if info else 0
    yield f"{entries(would_remove)} of {length:,} on {stream.key} would be removed, those before {floor}"
    if would_remove and keep == Keep():
        yield "neither --keep nor --max-length is given: every entry that nothing blocks would be removed"
    if would_remove:
        yield "this cannot be undone; to keep a copy first: dvctl export FILE --reveal"
    groups = [info.name for info in stream.groups()]
    for name in ignored:
        if name not in groups:
            yield f"--ignore-group: {stream.key} has no group {quoted(name)}; {suggestion(name, groups, 'groups')}"


def _floor(
    stream: Stream, limit: EntryId, spare: int | None, table: _Table, progress: Progress
) -> tuple[EntryId, int, Block | None]:
    """Go up from the oldest entry to the limit, to the first one the table lacks, or until `spare` were passed."""
    passed = 0
    if limit == ZERO:
        return ZERO, 0, None
    for page in stream.pages(ZERO, limit.previous()):
        whole = page if spare is None else page[: spare - passed]
        block = table.first_open(whole)
        if block is not None:
            return block.id, passed + sum(entry.id < block.id for entry in whole), block
        passed += len(whole)
        progress(passed)
        if len(whole) < len(page):
            return page[len(whole)].id, passed, None
    return limit, passed, None
