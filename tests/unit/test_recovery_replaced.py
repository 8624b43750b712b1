"""A success whose row is that of a failed store: what replay, dlq retry, reset-group, ack and verify say of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from devicevault_cli.operations.dead_letters.retry import plan_retry
from devicevault_cli.operations.dead_letters.select import LetterFilter
from devicevault_cli.operations.entries.ack import plan_ack
from devicevault_cli.operations.groups.reset import plan_reset
from devicevault_cli.operations.replay.replay import ReplayOptions, plan_replay
from devicevault_cli.operations.replay.selection import Selection, from_stream
from devicevault_cli.operations.verify.verify import verify
from devicevault_cli.pipelines import STORAGE
from devicevault_cli.repository import open_repository, tables
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ZERO
from tests.support.consuming import drain
from tests.support.records import stored
from tests.support.recovering import apply

COUNTED = ("selected", "inserted", "duplicates", "overwritten", "conflicting")


@pytest.fixture
def storage(sqlite_url: str) -> Iterator[Repository]:
    with closing(open_repository(sqlite_url, tables.STORAGE)) as opened:
        yield opened


def message(identifier: str, status: str = "success", device: str = "1") -> dict[bytes, bytes]:
    fields = {"operation": "store", "device_id": device, "status": status, "task_identifier": identifier}
    return {name.encode(): value.encode() for name, value in fields.items()}


def statuses(storage: Repository) -> list[Any]:
    return [row["status"] for row in storage.fetch(range(10)).values()]


@pytest.mark.parametrize("overwrite", [False, True])
def test_replay(group: Group, storage: Repository, overwrite: bool) -> None:
    storage.save([stored("a", status="failure"), stored("moved", device=2)])
    group.stream.add(
        [message("a"), message("a"), message("moved"), message("b", "failure"), message("b"), message("c")]
    )
    source = from_stream(group.stream, Selection())

    def plan() -> Any:
        return plan_replay(source, STORAGE, storage, ReplayOptions(overwrite=overwrite))

    expected = dict(zip(COUNTED, (6, 2, 4, 3 if overwrite else 2, 1), strict=True))
    planned = plan()
    assert {name: getattr(planned.answer, name) for name in COUNTED} == expected
    assert "2 rows of a failed store would be replaced by a success" in planned.says
    done = apply(plan)
    assert {name: done[name] for name in COUNTED} == expected
    assert statuses(storage) == ["success"] * 4


def test_dlq_retry(group: Group, storage: Repository) -> None:
    [key] = group.stream.add([message("a", device="oops")])
    drain(group.stream, storage, pipeline=STORAGE)
    storage.save([stored("a", status="failure")])
    letters = DeadLetters(group.stream, group.name)

    def plan() -> Any:
        return plan_retry(letters, LetterFilter(), STORAGE, storage, {b"device_id": b"1"})

    assert letters.ids() == {key}
    planned = plan().answer
    assert (planned.persisted, planned.duplicates) == (1, 0)
    done = apply(plan)
    assert (done["retried"], done["persisted"], done["duplicates"], done["still_dead"]) == (1, 1, 0, 0)
    assert (statuses(storage), letters.ids()) == (["success"], set())


def test_reset_group_ack_and_verify(group: Group, storage: Repository, tmp_path: Path) -> None:
    storage.save([stored("a", status="failure"), stored("b")])
    ids = group.stream.add([message("a"), message("b"), message("c")])
    group.create()
    GroupConsumer(group, "dead").read_new(3)
    acked = plan_ack(group, ids, STORAGE, storage)
    assert "  1 entry: have the row of a failed store only: these successes would be lost" in acked.says
    reset = plan_reset(group, ZERO, STORAGE, storage)
    assert (reset.answer.redelivered, reset.answer.already_persisted, reset.answer.would_insert) == (3, 2, 1)
    assert "  of those with a row, 1 would replace the row of a failed store" in reset.says
    found = verify(group, STORAGE, storage).to_dict()
    assert (found["classes"]["persisted"], found["rows"]["conflicting"]) == (2, 1)
    done = drain(group.stream, storage, pipeline=STORAGE, claim_idle_s=0.01).counters
    assert (done.read, done.persisted, done.replaced, done.duplicates) == (3, 1, 1, 1)
