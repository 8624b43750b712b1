"""A stream, a group and a table to break and repair, for tests of the recovery operations."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from devicevault_cli.operations.changes import journal
from devicevault_cli.operations.changes.change import Change, answer_without_applying, carry_out
from devicevault_cli.operations.entries.message_files import Message, opened
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.repository import open_repository
from devicevault_cli.repository.repository import Repository
from devicevault_cli.repository.tables import TABLES
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId, PendingEntry
from devicevault_cli.streams.stream import Stream

GROUP = "devicevault"


@contextmanager
def group_on(url: str) -> Iterator[Group]:
    """The group of DeviceVault's stream, not created yet."""
    with closing(connect(url)) as client:
        yield Group(Stream(client, RESULTS.stream), GROUP)


@contextmanager
def table_at(url: str, name: str = RESULTS.table) -> Iterator[Repository]:
    """A table, that of results unless named."""
    with closing(open_repository(url, TABLES[name])) as repository:
        repository.check()
        yield repository


def message(number: int, **fields: str) -> dict[bytes, bytes]:
    """A valid message of device 1, with other fields where given."""
    whole = {
        "task_id": f"t{number}",
        "task_identifier": f"job-{number}",
        "device_id": "1",
        "status": "success",
    } | fields
    return {name.encode(): value.encode() for name, value in whole.items()}


def apply(
    make: Callable[[], Change[Any]], *, dry_run: bool = False, meanwhile: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """Carry a change out as the commands do; `meanwhile` happens while the operator is being asked. -> its answer"""
    change = make()
    answer = answer_without_applying(change, dry_run=dry_run)
    if answer is None:
        with journal.opened() as open_journal:
            meanwhile()
            answer = carry_out(change, open_journal)
    whole: dict[str, Any] = answer.to_dict()
    return whole


def pending(group: Group) -> dict[EntryId, PendingEntry]:
    """Every pending entry by its id."""
    return {each.id: each for page in group.pending_pages() for each in page}


def aged_alike(before: PendingEntry, after: PendingEntry, began: float) -> bool:
    """Whether the idle time is what it was, and what has passed since this moment of time.monotonic()."""
    return -50 < after.idle_ms - before.idle_ms < (time.monotonic() - began) * 1000 + 50


def dump(group: Group, *keys: str) -> dict[bytes, bytes | None]:
    """Every key as Redis would dump it: equal dumps are an equal state."""
    client: Any = group.stream.client
    return {key: client.dump(key) for key in client.keys("*")}


def read_messages(path: Path) -> list[Message]:
    """The messages of a file, read as `publish --file` reads them."""
    with opened(path, io.StringIO()) as messages:
        return [found for _, found in messages]
