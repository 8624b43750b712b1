"""The incidents that the runbooks are for, staged on real servers; ids are fixed, so that runbooks can name them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

from devicevault_cli.operations.entries.message_files import Message
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams import written_to
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from tests.support.consuming import drain
from tests.support.records import execute_through
from tests.support.recovering import message

FIRST_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z; a message a second from then on."""

BAD = ({"device_id": "abc"}, {"device_id": "999"}, {"device_id": ""}, {"log": "{"}, {"status": "x" * 17})


def publish(group: Group, messages: Iterable[Message]) -> list[EntryId]:
    """Messages, the first at the beginning of 2026 or a second after the last."""
    info = group.stream.info()
    start = info.length if info else 0
    ids = []
    for number, fields in enumerate(messages, start):
        ids.append(EntryId(FIRST_MS + 1000 * number, 0))
        parts = [part for pair in fields.items() for part in pair]
        group.stream.call("XADD", group.stream.key, str(ids[-1]), *parts)
    return ids


def stranded(group: Group, consumer: str, ids: Iterable[EntryId], idle_ms: int = 600_000, count: int = 3) -> None:
    """Entries in the hands of a consumer that has not touched them for so long."""
    how = ("IDLE", idle_ms, "RETRYCOUNT", count, "FORCE", "JUSTID")
    for key in ids:
        group.stream.call("XCLAIM", group.stream.key, group.name, consumer, 0, str(key), *how, parse_justid=True)


def stuck_pending(group: Group, table: Repository) -> None:
    group.create()
    publish(group, map(message, range(12)))
    ids = [entry.id for entry in GroupConsumer(group, "backup-1-0").read_new(5)]
    stranded(group, "backup-1-0", ids)


def dead_consumer(group: Group, table: Repository) -> None:
    group.create()
    publish(group, map(message, range(12)))
    GroupConsumer(group, "backup-1-0").read_new(5)
    GroupConsumer(group, "backup-2-0").read_new(2)


def lost_results(group: Group, table: Repository) -> None:
    """DeviceVault's consumer acknowledged 20 messages while the database was away, two of them bad."""
    group.create()
    publish(group, map(message, range(20)))
    drain(group.stream, table)
    publish(group, (message(number, **(BAD[0] if number in (25, 35) else {})) for number in range(20, 40)))
    group.acknowledge([entry.id for entry in GroupConsumer(group, "consumer-4711").read_new(20)])
    publish(group, map(message, range(40, 45)))
    drain(group.stream, table)


def dead_letters(group: Group, table: Repository) -> None:
    group.create()
    wrong = {3: {"device_id": "4711"}, 4: {"device_id": "4711"}, 5: {"device_id": "device 9"}, 6: {"log": "{"}}
    publish(group, (message(number, **wrong.get(number, {})) for number in range(10)))
    drain(group.stream, table)


def rebuild_group(group: Group, table: Repository) -> None:
    """All is consumed; then eight rows were deleted by hand."""
    group.create()
    publish(group, map(message, range(20)))
    drain(group.stream, table)
    table.remove(list(table.fetch(range(1, 1000)))[12:])


def large_stream(group: Group, table: Repository) -> None:
    """A group that nobody reads any more holds everything."""
    group.create()
    Group(group.stream, "old-reader").create()
    publish(group, map(message, range(20)))
    drain(group.stream, table)
    written_to.forget(group)  # that was longer ago than a fail-over of the database reaches back
    publish(group, map(message, range(20, 25)))


def duplicates(group: Group, table: Repository) -> None:
    """Two consumers without a lock wrote some rows twice; one pair contradicts itself."""
    group.create()
    publish(group, map(message, range(10)))
    drain(group.stream, table)
    names = ", ".join(table.spec.columns)
    again = f"INSERT INTO {table.spec.name} ({names}) SELECT"
    failed = names.replace("status", "'failure'")
    execute_through(
        table,
        f"{again} {names} FROM {table.spec.name} WHERE task_identifier IN ('job-1', 'job-2', 'job-3')",
        f"{again} {failed} FROM {table.spec.name} WHERE task_identifier = 'job-4'",
    )


def stuck_system(group: Group, table: Repository) -> None:
    """1,000 messages, 50 of them bad; 300 stranded by consumers that died; 20 good ones acknowledged without a row."""
    group.create()
    publish(group, (message(number, **(BAD[number // 20 % 5] if number % 20 == 7 else {})) for number in range(1000)))
    for number in (1, 2, 3):
        ids = [entry.id for entry in GroupConsumer(group, f"consumer-{number}").read_new(100)]
        stranded(group, f"consumer-{number}", ids, count=1)
    read = [entry.id for entry in GroupConsumer(group, "consumer-4711").read_new(22)]
    group.acknowledge([key for number, key in enumerate(read, 300) if number % 20 != 7][:20])
    left = sorted(set(read) & set(group.pending_ids(read)))
    stranded(group, "consumer-4711", left)


def redis_flushed(group: Group, table: Repository) -> None:
    """Ten messages were not read when somebody deleted the stream; a dump of before stands in database 9."""
    group.create()
    publish(group, map(message, range(30)))
    drain(group.stream, table, drain=False, max_messages=20)
    client: Any = group.stream.client
    with closing(connect(servers_database(client, 9))) as other:
        other.restore(group.stream.key, 0, client.dump(group.stream.key), replace=True)
    client.delete(group.stream.key)
    for number in range(30, 33):
        parts = [part for pair in message(number).items() for part in pair]
        group.stream.call("XADD", group.stream.key, f"{FIRST_MS + 60_000 + 1000 * number}-0", *parts)


def redis_restored(group: Group, table: Repository) -> None:
    """Redis came back as it was 12 processed messages before; what it was at last stands in database 9.

    Two rows are newer than the last entry, six messages had not been read.
    """
    group.create()
    publish(group, map(message, range(30)))
    drain(group.stream, table, drain=False, max_messages=20)
    dump = dumped(group)
    publish(group, map(message, range(30, 38)))
    drain(group.stream, table, drain=False, max_messages=12)
    with closing(connect(servers_database(group.stream.client, 9))) as other:
        load(other, dumped(group))
    client: Any = group.stream.client
    client.flushdb()
    load(client, dump)


def stream_trimmed(group: Group, table: Repository) -> None:
    """Six messages were not read when somebody trimmed the stream; a dump of before stands in database 9."""
    group.create()
    publish(group, map(message, range(30)))
    drain(group.stream, table, drain=False, max_messages=20)
    with closing(connect(servers_database(group.stream.client, 9))) as other:
        load(other, dumped(group))
    group.stream.call("XTRIM", group.stream.key, "MAXLEN", 4)


def group_destroyed(group: Group, table: Repository) -> None:
    """Somebody destroyed the group, which had read 20 of 30 messages."""
    group.create()
    publish(group, map(message, range(30)))
    drain(group.stream, table, drain=False, max_messages=20)
    group.stream.call("XGROUP", "DESTROY", group.stream.key, group.name)


def poison_messages(group: Group, table: Repository) -> None:
    """A message ended eleven consumers, and then three that processed it alone; another was delivered with it."""
    group.create()
    ids = publish(group, map(message, range(12)))
    GroupConsumer(group, "backup-1-0").read_new(5)
    stranded(group, "backup-1-0", ids[:5], count=2)
    stranded(group, "backup-1-0", [ids[2]], count=14)
    stranded(group, "backup-1-0", [ids[3]], count=11)
    consumer = GroupConsumer(group, "backup-1-0")
    for _ in range(3):
        consumer.begin_alone(ids[2])


def messages_waiting(group: Group, table: Repository) -> None:
    """Twelve messages wait."""
    group.create()
    publish(group, map(message, range(12)))


def dumped(group: Group) -> dict[bytes, bytes]:
    """Every key of the database, as Redis dumps it."""
    client: Any = group.stream.client
    return {key: client.dump(key) for key in client.keys("*")}


def load(client: Any, dump: dict[bytes, bytes]) -> None:
    """Restore every key."""
    for key, value in dump.items():
        client.restore(key, 0, value, replace=True)


def servers_database(client: Any, number: int) -> str:
    """The URL of another database of the same server."""
    about = client.connection_pool.connection_kwargs
    return f"redis://{about['host']}:{about['port']}/{number}"


STAGED: dict[str, Callable[[Group, Repository], None]] = {
    "stuck-pending": stuck_pending,
    "dead-consumer": dead_consumer,
    "lost-results": lost_results,
    "dead-letters": dead_letters,
    "rebuild-group": rebuild_group,
    "large-stream": large_stream,
    "duplicates": duplicates,
    "stuck-system": stuck_system,
    "redis-flushed": redis_flushed,
    "redis-restored": redis_restored,
    "stream-trimmed": stream_trimmed,
    "group-destroyed": group_destroyed,
    "poison-messages": poison_messages,
    "database-down": messages_waiting,
    "credentials-rotated": messages_waiting,
    "scale-out": messages_waiting,
    "upgrade": messages_waiting,
}
"""By the name of the runbook in docs/runbooks/."""
