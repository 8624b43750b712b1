"""A repair that is killed at any step can simply be run again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from devicevault_cli import columns
from devicevault_cli.directories import snapshot_directory
from devicevault_cli.operations.changes.change import Change
from devicevault_cli.operations.dead_letters.drop import plan_drop
from devicevault_cli.operations.dead_letters.retry import plan_retry
from devicevault_cli.operations.dead_letters.select import LetterFilter
from devicevault_cli.operations.entries.ack import plan_ack
from devicevault_cli.operations.entries.claim import ClaimFilter, plan_claim
from devicevault_cli.operations.entries.trim import Keep, plan_trim
from devicevault_cli.operations.groups.destroy import plan_destroy
from devicevault_cli.operations.groups.reset import plan_reset
from devicevault_cli.operations.groups.restore import plan_restore
from devicevault_cli.operations.groups.retire import plan_retire
from devicevault_cli.operations.replay.replay import ReplayOptions, plan_replay
from devicevault_cli.operations.replay.selection import Selection, from_stream
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams import page, scripts
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ZERO, EntryId
from devicevault_cli.streams.stream import Stream
from tests.support.consuming import drain
from tests.support.recovering import apply, message, pending

STEPS = range(40)


class Killed(BaseException):
    """Not an Exception: nothing may catch it and go on."""


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Change[Any]], int, bool], bool]:
    """Apply a plan and die at the n-th command to Redis, before it is sent or once it is done. -> whether it died"""

    def kill(make: Callable[[], Change[Any]], step: int, done: bool) -> bool:
        left = step
        call, call_many, ask = Stream.call, Stream.call_many, Stream.ask

        def counted(send: Callable[[], Any]) -> Any:
            nonlocal left
            left -= 1
            if left < 0 and not done:
                raise Killed
            reply = send()
            if left < 0:
                raise Killed
            return reply

        def each_counted(self: Stream, commands: Any, **options: Any) -> list[Any]:
            """A pipeline may end after any of its commands."""
            return [counted(partial(call, self, *command, **options)) for command in commands]

        def start() -> None:
            monkeypatch.setattr(
                Stream, "call", lambda self, *command, **options: counted(partial(call, self, *command, **options))
            )
            monkeypatch.setattr(Stream, "ask", lambda self, *command: counted(partial(ask, self, *command)))
            monkeypatch.setattr(Stream, "call_many", each_counted)

        try:
            apply(make, meanwhile=start)
        except Killed:
            return True
        finally:
            monkeypatch.setattr(Stream, "call", call)
            monkeypatch.setattr(Stream, "call_many", call_many)
            monkeypatch.setattr(Stream, "ask", ask)
        return False

    return kill


def prepare(group: Group, table: Repository) -> None:
    group.stream.client.flushdb()
    table.remove(list(table.fetch(range(1000))))
    add(group, message(0, device_id="abc"), message(1, device_id="99"), message(2))
    drain(group.stream, table)
    add(group, *(message(number) for number in range(3, 15)))
    for name in ("a", "b", "c"):
        GroupConsumer(group, name).read_new(3)


def add(group: Group, *messages: dict[bytes, bytes]) -> None:
    """Entries whose ids are the same each time, so that states can be compared."""
    for fields in messages:
        number = group.stream.client.xlen(group.stream.key)
        group.stream.client.xadd(group.stream.key, fields, id=f"1767225600000-{number}")  # type: ignore[arg-type]


def after(group: Group, table: Repository) -> object:
    """What must be the same however often the repair was killed."""
    letters = DeadLetters(group.stream, group.name)
    return (
        {str(key): (each.consumer, each.deliveries) for key, each in pending(group).items()} if group.info() else None,
        sorted(each.name for each in group.consumers()) if group.info() else None,
        group.info().last_delivered_id if group.info() else None,  # type: ignore[union-attr]
        sorted((letter.id, letter.reason) for page in letters.pages() for letter in page),
        letters.discarded_ids(),
        sorted(str(row["task_identifier"]) for row in table.fetch(range(1000)).values()),
        [entry.id for entry in group.stream.range()],
    )


HELD = [EntryId(1_767_225_600_000, number) for number in range(3, 12)]

REPAIRS: dict[str, Callable[[Group, Repository], Change[Any]]] = {
    "retire": lambda group, table: plan_retire(group, ["a", "b", "c"], to="heir"),
    "reset": lambda group, table: plan_reset(group, ZERO, RESULTS, table, force=True),
    "retry": lambda group, table: plan_retry(
        DeadLetters(group.stream, group.name), LetterFilter(), RESULTS, table, {b"device_id": b"7"}
    ),
    "retry in vain": lambda group, table: plan_retry(
        DeadLetters(group.stream, group.name), LetterFilter(), RESULTS, table
    ),
    "drop": lambda group, table: plan_drop(DeadLetters(group.stream, group.name), LetterFilter()),
    "claim": lambda group, table: plan_claim(group, ClaimFilter(owner="a"), "b"),
    "release": lambda group, table: plan_claim(group, ClaimFilter(ids=HELD), None),
    "ack": lambda group, table: plan_ack(group, HELD, RESULTS, table),
    "replay": lambda group, table: plan_replay(from_stream(group.stream, Selection()), RESULTS, table, ReplayOptions()),
    "trim": lambda group, table: plan_trim(group.stream, DeadLetters(group.stream, group.name), RESULTS, table, Keep()),
}


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("repair", REPAIRS)
def test_run_again_it_ends_as_if_nothing_had_happened(
    repair: str,
    done: bool,
    group: Group,
    table: Repository,
    killed_at: Callable[..., bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scripts, "ENTRIES_PER_SCRIPT", 2)
    for module in (columns, page):  # what is few here goes the way of many
        monkeypatch.setattr(module, "FEW", 1)
    make = REPAIRS[repair]
    prepare(group, table)
    apply(lambda: make(group, table))
    expected = after(group, table)
    died = 0
    for step in STEPS:
        prepare(group, table)
        if not killed_at(lambda: make(group, table), step, done):
            break
        died += 1
        assert repair == "ack" or len(pending(group)) == len(HELD), "nothing pending is ever dropped"
        apply(lambda: make(group, table))
        assert after(group, table) == expected
    assert died >= 2


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_a_group_is_there_or_its_snapshot_brings_it_back(
    done: bool, group: Group, table: Repository, killed_at: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "ENTRIES_PER_SCRIPT", 2)
    for step in STEPS:
        prepare(group, table)
        before = after(group, table)
        if not killed_at(lambda: plan_destroy(group, force=True), step, done):
            break
        if group.info() is None:
            folder = snapshot_directory()
            path = max(folder.iterdir())

            def restore(path: Path = path) -> Change[Any]:
                return plan_restore(lambda key, name: group, path)

            for again in STEPS:
                if not killed_at(restore, again, done):
                    break
            apply(restore)
        assert after(group, table) == before
    assert step > 3
