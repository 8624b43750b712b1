"""Storage dispatch under test: messages to be stored, and what the queues and tables must hold afterwards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import redis

from devicevault_cli.broker import open_publisher
from devicevault_cli.broker.publisher import Publisher
from devicevault_cli.consumer.dispatch import DispatchOff
from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.shutdown import Stop
from devicevault_cli.consumer.worker import Worker
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from tests.support import consuming
from tests.support.broker_samples import celery_id
from tests.support.brokers import Broker
from tests.support.messages import Message, Sent
from tests.support.oracle import GROUP, STREAM, identity_of
from tests.support.records import execute
from tests.support.recovering import table_at
from tests.support.rows import read_rows, select
from tests.support.schema import ASSIGN_LOCATIONS

STORED = "backups_storedbackup"
LAST_DISPATCHABLE = 45
"""Of the devices, once ASSIGN_LOCATIONS was executed."""


def job(number: int, device: int = 1, /, **fields: str | bytes | None) -> Message:
    """A success with a configuration of its own; fields may be replaced, or left out with None."""
    whole: dict[str, str | bytes | None] = {
        "task_id": f"task-{number}",
        "task_identifier": f"collect:{device}:{number}",
        "device_id": str(device),
        "status": "success",
        "log": "[]",
        "device_config": f"hostname r{number}\n",
    }
    given = (whole | fields).items()
    return Message(
        {
            name.encode(): value if isinstance(value, bytes) else value.encode()
            for name, value in given
            if value is not None
        }
    )


def jobs(count: int, *, start: int = 0, **fields: str | bytes | None) -> list[Message]:
    """Successes of the devices that have a location, one after the other."""
    return [job(number, number % LAST_DISPATCHABLE + 1, **fields) for number in range(start, start + count)]


def task_id(entry_id: str, stream: str = STREAM) -> str:
    """The Celery id that an entry's task must have."""
    return str(uuid5(NAMESPACE_URL, f"{stream}/{entry_id}"))


@contextmanager
def publisher_at(url: str) -> Iterator[Publisher]:
    with closing(open_publisher(url)) as publisher:
        yield publisher


def drain(stream: Stream, database_url: str, broker_url: str, name: str = "me", **options: Any) -> Worker:
    """Run a consumer with this broker until the group is drained; without a broker: no dispatch."""
    with table_at(database_url) as table:
        if not broker_url:
            return consuming.drain(stream, table, name, publisher=DispatchOff("the test"), **options)
        with publisher_at(broker_url) as publisher:
            return consuming.drain(stream, table, name, publisher=publisher, **options)


def assign(database_url: str) -> None:
    """Give devices 1 to 30 a location in git, 31 to 45 one on a file system."""
    execute(database_url, ASSIGN_LOCATIONS)


def locate(database_url: str, device: int, kind: str, config: str = "{}") -> None:
    """Give one device a location of its own. `config`: JSON text, as the database will hold it."""
    number = 100 + device
    text = config.replace("'", "''")
    if database_url.startswith("mysql"):
        text = text.replace("\\", "\\\\")
    execute(
        database_url,
        "INSERT INTO locations_backuplocation (id, name, location_type, config)"
        f" VALUES ({number}, 'location-{number}', '{kind}', '{text}')",
        f"UPDATE devices_device SET backup_location_id = {number} WHERE id = {device}",
    )


def store_rows(database_url: str, rows: Iterable[tuple[str, str]], status: str = "success") -> None:
    """Put stored backups into their table: task ids and identifiers."""
    values = ", ".join(
        f"('{task}', '{identifier}', 1, '{status}', '2026-01-01 00:00:00', '[]', 'git', 'ref', 1)"
        for task, identifier in rows
    )
    stamp = "`timestamp`" if database_url.startswith("mysql") else '"timestamp"'
    names = f"task_id, task_identifier, device_id, status, {stamp}, log, storage_backend, storage_ref"
    execute(database_url, f"INSERT INTO {STORED} ({names}, storage_duration_ms) VALUES {values}")


def rows_by_another_group(stream: Stream, database_url: str) -> None:
    """What a process leaves that dies between COMMIT and dispatch: rows, and nothing in the queues."""
    other = Group(stream, "other")
    other.create()
    with table_at(database_url) as table:
        options = ConsumeOptions(drain=True, max_wait_s=60.0)
        consumer = GroupConsumer(other, "me")
        Worker(consumer, table, RESULTS, options, Stop(), publisher=DispatchOff("the test")).run()


def read_as(redis_url: str, name: str = "me", count: int = 1000) -> list[str]:
    """Read new entries under the consumer's name, as a process does that dies then. -> their ids"""
    with redis.Redis.from_url(redis_url) as client:
        reply: Any = client.xreadgroup(GROUP, name, {STREAM: ">"}, count=count)
        return [key.decode() for key, _ in reply[0][1]] if reply else []


# --- what must be there afterwards


def to_be_stored(sent: Iterable[Sent]) -> dict[Any, list[str]]:
    """Of what was published after `assign`: the identities that a storage worker has to get, with their entries."""
    found: dict[Any, list[str]] = {}
    for one in sent:
        fields = one.message.fields
        success = one.message.reason is None and fields.get(b"status") == b"success"
        if success and int(fields[b"device_id"]) <= LAST_DISPATCHABLE:
            found.setdefault(identity_of(one.id, fields), []).append(one.id)
    return found


def copies(broker: Broker, *, keep: bool = True) -> Counter[str]:
    """How often each Celery id stands in the two queues."""
    taken = [message for queue in ("storage.git", "storage.fs") for message in broker.messages(queue, keep=keep)]
    return Counter(map(celery_id, taken))


def assert_in_queues(broker: Broker, sent: Iterable[Sent], *, most: int = 1) -> Counter[str]:
    """Every success stands in its queue at least once, and no more than `most` times; nothing else does."""
    found = copies(broker)
    wanted = to_be_stored(sent)
    assert wanted, "nothing was to be dispatched: this would prove nothing"
    left = dict(found)
    for identity, entries in wanted.items():
        count = sum(left.pop(task_id(entry), 0) for entry in entries)
        assert 1 <= count <= most, (identity, count)
    assert not left, left
    return found


def assert_stored_once(database_url: str, sent: Sequence[Sent]) -> int:
    """Every success has one row of its result and one stored backup. -> how many"""
    wanted = to_be_stored(sent)
    assert wanted, "nothing was to be dispatched: this would prove nothing"
    wrong = not_stored_once(database_url, sent)
    assert not wrong, f"{len(wrong)} without exactly one row and one backup: {dict(list(wrong.items())[:5])}"
    return len(wanted)


def not_stored_once(database_url: str, sent: Sequence[Sent]) -> dict[Any, tuple[int, int]]:
    """The successes with other numbers of rows and stored backups than 1 and 1, and these numbers."""
    rows = Counter(row.identity for row in read_rows(database_url))
    backups = read_rows(database_url, STORED)
    identifiers, tasks = Counter(row.task_identifier for row in backups), {row.task_id for row in backups}
    return {
        identity: (rows[identity], identifiers[identity])
        for identity, entries in to_be_stored(sent).items()
        if rows[identity] != 1 or not _stored_once(identity, entries, identifiers, tasks)
    }


def _stored_once(identity: Any, entries: list[str], identifiers: Mapping[str, int], tasks: set[str]) -> bool:
    """Without an identifier the storage worker makes one up, each time it gets the task."""
    if isinstance(identity, str):
        return identifiers[identity] == 1
    return any(task_id(entry) in tasks for entry in entries)


def config_text(database_url: str, location: int) -> Any:
    """The config of a location as the database gives it back."""
    cast = "config::text" if database_url.startswith("postgresql") else "config"
    [(text,)] = select(database_url, f"SELECT {cast} FROM locations_backuplocation WHERE id = {location}")
    return json.loads(text)
