"""dvctl trim: remove old entries that no group and not the table needs any more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from devicevault_cli.messages import Decoded, Rejected
from devicevault_cli.nearest import quoted, suggestion
from devicevault_cli.operations.answer import Answer, ChangeAnswer
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.look_up import look_up
from devicevault_cli.operations.wording import entries
from devicevault_cli.pipelines import Pipeline, original_id
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ZERO, Entry, EntryId, StreamInfo
from devicevault_cli.streams.stream import Stream


@dataclass(frozen=True, slots=True)
class Block(Answer):
    """An element of `blocked_by[]`: the first entry that must stay, by whom it is needed, and why."""

    by: str
    id: EntryId
    why: str


@dataclass(frozen=True, slots=True)
class TrimAnswer(ChangeAnswer):
    """The answer of `trim`. `first_id`: of the trimmed stream, None if it is empty; a key only once it was trimmed."""

    floor: EntryId
    would_remove: int
    removed: int
    blocked_by: Sequence[Block]
    first_id: EntryId | None = None
    trimmed: bool = field(default=False, kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        facts = ChangeAnswer.to_dict(self)
        if not facts.pop("trimmed"):
            del facts["first_id"]
        return facts


@dataclass(frozen=True, slots=True)
class Keep:
    """What is always kept: entries from an id on, and so many of the newest."""

    since: EntryId | None = None
    newest: int | None = None


def plan_trim(
    stream: Stream,
    letters: DeadLetters,
    pipeline: Pipeline,
    repository: Repository,
    keep: Keep,
    ignored: Sequence[str] = (),
    progress: Progress = quietly,
) -> Change[TrimAnswer]:
    """Remove the entries below the floor, which is computed from all groups and the table."""
    info = stream.info()
    blocks = group_blocks(stream, ignored)
    limit = _limit(info, blocks, keep)
    spare = max(0, info.length - keep.newest) if info and keep.newest is not None else None
    first_needed = partial(_first_needed, pipeline, repository, letters.ids() | letters.discarded_ids())
    floor, would_remove, block = _floor(stream, limit, spare, first_needed, progress)
    blocked_by = ([block] if block else []) + blocks
    answer = TrimAnswer(floor, would_remove, 0, blocked_by)

    def apply() -> TrimAnswer:
        removed = stream.trim(floor)
        now = stream.info()
        return replace(answer, removed=removed, first_id=now.first_id if now else None, trimmed=True)

    return Change(
        command=f"trim {stream.key}", says=tuple(_says(stream, info, answer, keep, ignored)), answer=answer,
        size=would_remove, apply=apply,
        # A group whose position was moved back needs an entry below the floor.
        still_true=lambda: all(block.id >= floor for block in group_blocks(stream, ignored)),
    )  # fmt: skip


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


def _oldest_held(group: Group) -> EntryId | None:
    """The oldest pending entry that exists on the stream."""
    for page in group.pending_pages():
        ids = [entry.id for entry in page]
        found = group.stream.get(ids[:1]) or group.stream.get(ids)
        if found:
            return min(found)
    return None


def _first_needed(
    pipeline: Pipeline, repository: Repository, given_up: Collection[EntryId], page: list[Entry]
) -> Block | None:
    """The first entry that the table needs: a valid one without a row, or a bad one that is not dead or discarded."""
    unfinished = [entry for entry in page if entry.id not in given_up and original_id(entry) not in given_up]
    for entry, decision, rows in look_up(unfinished, pipeline, repository):
        if isinstance(decision, Rejected):
            return Block(f"table {pipeline.table}", entry.id, f"neither persisted nor dead ({decision.reason})")
        if isinstance(decision, Decoded) and not rows:
            return Block(f"table {pipeline.table}", entry.id, "neither persisted nor dead")
    return None


def _limit(info: StreamInfo | None, blocks: Sequence[Block], keep: Keep) -> EntryId:
    """The id up to which the groups and `keep` allow trimming."""
    end = info.last_id.next() if info and info.length else ZERO
    return min([end, *(block.id for block in blocks), *([] if keep.since is None else [keep.since])])


def _floor(
    stream: Stream,
    limit: EntryId,
    spare: int | None,
    first_needed: Callable[[list[Entry]], Block | None],
    progress: Progress,
) -> tuple[EntryId, int, Block | None]:
    """The first entry that must stay, the number of entries before it, and what blocks, if the table does.

    Goes up from the oldest entry to the limit, to the first entry that the table needs, or past `spare` entries.
    """
    passed = 0
    if limit == ZERO:
        return ZERO, 0, None
    for page in stream.pages(ZERO, limit.previous()):
        removable = page if spare is None else page[: spare - passed]
        block = first_needed(removable)
        if block is not None:
            return block.id, passed + sum(entry.id < block.id for entry in removable), block
        passed += len(removable)
        progress(passed)
        if len(removable) < len(page):
            return page[len(removable)].id, passed, None
    return limit, passed, None


def _says(
    stream: Stream, info: StreamInfo | None, answer: TrimAnswer, keep: Keep, ignored: Sequence[str]
) -> Iterator[str]:
    length = info.length if info else 0
    yield f"{entries(answer.would_remove)} of {length:,} on {stream.key} would be removed, those before {answer.floor}"
    if answer.would_remove and keep == Keep():
        yield "neither --keep nor --max-length is given: every entry that nothing blocks would be removed"
    if answer.would_remove:
        yield "this cannot be undone; to keep a copy first: dvctl export FILE --reveal"
    groups = [info.name for info in stream.groups()]
    for name in ignored:
        if name not in groups:
            yield f"--ignore-group: {stream.key} has no group {quoted(name)}; {suggestion(name, groups, 'groups')}"
    yield from (f"blocked by {block.by}: entry {block.id} and later: {block.why}" for block in answer.blocked_by)
