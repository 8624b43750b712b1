"""consumers retire: delete consumers that will not return, after moving what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from devicevault_cli.errors import DvctlError, Usage
from devicevault_cli.operations.answer import ChangeAnswer, optional
from devicevault_cli.operations.changes.change import Change, Progress, quietly, stale
from devicevault_cli.operations.groups import snapshots
from devicevault_cli.operations.groups.consumer_name import lowest_free
from devicevault_cli.operations.groups.snapshots import existing_group
from devicevault_cli.operations.monitoring.liveness import ALIVE_MS, liveness_of, refusal
from devicevault_cli.operations.named import named_consumers, new_consumer
from devicevault_cli.operations.wording import entries, some
from devicevault_cli.plural import number
from devicevault_cli.streams import scripts
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ConsumerInfo

NAMES_A_STEP = 500


@dataclass(frozen=True, slots=True)
class RetireAnswer(ChangeAnswer):
    """The answer of `consumers retire`. `spared`: active again when it was their turn; `gone`: entries deleted since.

    Both only once consumers are retired.
    """

    retired: tuple[str, ...]
    moved: int
    to: str
    unknown: tuple[str, ...]
    refused: DvctlError | None
    gone: int | None = optional()
    spared: tuple[str, ...] | None = optional()
    snapshot: str | None = optional()


def plan_retire(
    group: Group,
    names: Sequence[str] = (),
    *,
    dead_for_ms: int | None = None,
    to: str | None = None,
    force: bool = False,
    progress: Progress = quietly,
) -> Change[RetireAnswer]:
    """Delete consumers after moving what they hold to `to`; `dead_for_ms` chooses and alone decides.

    Without `to`: the most recently active consumer that stays, if it is alive, else the name that the next `dvctl
    consume` on this host takes.  Each step checks again, in Redis, whether a consumer has been idle for so long.
    Refused, unless `force`, where one of them may be waiting for messages.
    """
    _check_choice(names, dead_for_ms, to)
    existing_group(group)
    liveness = liveness_of(group)
    known = {info.name: info for info in liveness.consumers}
    chosen, receiver = _chosen(group, known, names, dead_for_ms, to)
    may_wait = any(info in liveness.candidates for info in chosen)
    refused = refusal(liveness, recent=False) if may_wait and not force else None
    held, named = sum(info.pending for info in chosen), named_consumers(group, names, known)
    answer = RetireAnswer(tuple(info.name for info in chosen), held, receiver, named.unknown, refused)
    undo, can_write = snapshots.undo_by_snapshot("restore-group brings the consumers and their entries back")

    created = new_consumer(group, receiver, known, typed=to is not None) if held else []

    def apply() -> RetireAnswer:
        if not can_write:
            return _retire(group, answer, dead_for_ms, progress)
        path = _write(group, chosen, () if receiver in known else (receiver,))
        done = _retire(group, answer, dead_for_ms, progress)
        if not done.retired:
            path.unlink()
            return done
        return replace(done, snapshot=str(path), undo=snapshots.restore_command(path))

    return Change(
        command="consumers retire",
        says=(*_says(chosen, held, receiver), *created),
        undo=undo, answer=answer, size=len(chosen), apply=apply,
        still_true=partial(_hold_the_same, group, chosen), failure=_failure, refusal=refused, named=named,
    )  # fmt: skip


def _hold_the_same(group: Group, chosen: Sequence[ConsumerInfo]) -> bool:
    pending = {info.name: info.pending for info in group.consumers()}
    return all(pending.get(info.name) == info.pending for info in chosen)


def _write(group: Group, chosen: Sequence[ConsumerInfo], created: Sequence[str]) -> Path:
    """Write the consumers and what they hold to a file. Raises StalePlan if that is not what was planned."""
    holders = [info.name for info in chosen if info.pending]
    pages = (page for name in holders for page in group.pending_pages(count=scripts.ENTRIES_PER_SCRIPT, consumer=name))
    before = snapshots.Before("consumers retire", created)
    stored = snapshots.write_entries(group, before, pages, [info.name for info in chosen])
    if not _hold_the_same(group, chosen):
        stored.path.unlink()
        raise stale()
    return stored.path


def _retire(group: Group, answer: RetireAnswer, dead_for_ms: int | None, progress: Progress) -> RetireAnswer:
    """Move what the consumers hold and delete them, a few hundred consumers per step."""
    names = answer.retired
    retired: list[str] = []
    spared: list[str] = []
    moved = gone = 0
    while names:
        step = group.retire(names[:NAMES_A_STEP], answer.to, dead_for_ms)
        retired += step.retired
        spared += [name for name in step.spared if name not in spared]
        moved += step.moved
        gone += step.gone
        names = names[step.done :]
        progress(moved)
    return replace(answer, retired=tuple(retired), moved=moved, gone=gone, spared=tuple(spared))


def _failure(done: RetireAnswer) -> str:
    spared = some([*(done.spared or ())]) or "none"
    return "" if done.retired else f"no consumer was retired: active again: {spared}"


def _check_choice(names: Sequence[str], dead_for_ms: int | None, to: str | None) -> None:
    if bool(names) == (dead_for_ms is not None):
        raise Usage("give either names of consumers or --dead-for")
    if to in names:
        raise Usage(f"--to {to} is one of the consumers to retire", hint="name another consumer with --to")


def _chosen(
    group: Group, known: dict[str, ConsumerInfo], names: Sequence[str], dead_for_ms: int | None, to: str | None
) -> tuple[tuple[ConsumerInfo, ...], str]:
    """The consumers to retire, and the one that receives what they hold."""
    if dead_for_ms is None:
        chosen = [known[name] for name in dict.fromkeys(names) if name in known]
    else:
        chosen = [info for info in known.values() if info.idle_ms >= dead_for_ms and info.name != to]
    leaving = {info.name for info in chosen}
    receiver = to or _receiver(group, [info for name, info in known.items() if name not in leaving])
    if any(info.pending for info in chosen):
        chosen = [info for info in chosen if info.name != receiver]
    return tuple(chosen), receiver


def _receiver(group: Group, staying: list[ConsumerInfo]) -> str:
    latest = min(staying, key=lambda info: info.idle_ms, default=None)
    if latest is not None and latest.idle_ms < ALIVE_MS:
        return latest.name
    name, lock = lowest_free(group.stream.key, group.name)
    lock.close()
    return name


def _says(chosen: Sequence[ConsumerInfo], held: int, receiver: str) -> Iterator[str]:
    if chosen:
        yield f"{number(len(chosen), 'consumer')} would be retired: {some([info.name for info in chosen])}"
    else:
        yield "nothing matched: no consumer would be retired"
    if held:
        yield f"{entries(held)} would move to {receiver}, delivery counts and idle times kept"
    if active := [info.name for info in chosen if info.idle_ms < ALIVE_MS]:
        yield f"warning: active in the last {ALIVE_MS // 1000} s; may rejoin the group: {some(active)}"
