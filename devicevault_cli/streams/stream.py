"""A stream: its entries and what Redis says about it, and the one way in which commands are sent."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from devicevault_cli.errors import DvctlError, Refused, Unavailable, WrongType
from devicevault_cli.streams import replies, scripts
from devicevault_cli.streams.connect import Client, other_masters, translated
from devicevault_cli.streams.errors import of_redis
from devicevault_cli.streams.model import (
    LAST,
    ZERO,
    Added,
    Entry,
    EntryId,
    GroupInfo,
    Republished,
    StreamInfo,
    pairs_of,
)

T = TypeVar("T")

ENTRIES_PER_READ = 1000
"""A page of entries or of pending entries: one reply, which is held in memory as a whole."""
BYTES_PER_READ = 16 * 1024 * 1024
"""A page of large entries, as far as their size can be foreseen from the page before."""
FIRST_READ = 16
"""Entries of the first page of a range, read before it is known how large they are."""
SCANS, KEYS_PER_SCAN = 100, 1000
"""Limits of a search for names, so that a mistyped name gets an answer soon on a Redis with millions of keys."""


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


class Asked:
    """A command that was sent and whose reply has not been read."""

    def __init__(self, connection: Any, pool: Any) -> None:
        self._connection = connection
        self._pool = pool

    def __call__(self) -> Any:
        """Wait for the unparsed reply; to be called once."""
        try:
            return self._connection.read_response()
        finally:
            self._pool.release(self._connection)

    @property
    def socket(self) -> socket.socket | None:
        """What becomes readable with the reply; None where there is none to wait for, as of an embedded server."""
        found = getattr(self._connection, "_sock", None)  # redis-py waits for one connection at a time
        return found if isinstance(found, socket.socket) else None

    def drop(self) -> None:
        """Close the connection: the reply is not wanted any more."""
        self._connection.disconnect()
        self._pool.release(self._connection)


class Stream:
    """One stream key. Every method raises Unavailable, Refused or WrongType.

    `shares_table`: other streams fill the same table, so that its newest rows tell nothing of this stream.
    """

    def __init__(self, client: Client, key: str, *, shares_table: bool = False) -> None:
        self.client = client
        self.key = key
        self.shares_table = shares_table

    def call(self, *command: Any, **options: Any) -> Any:
        """Send one command and return its reply; `options` are for redis-py's parser."""
        client: Any = self.client
        try:
            with translated(self.client):
                return client.execute_command(*command, **options)
        except WrongType as error:
            names = command[3 : 3 + command[2]] if command[0] == "EVAL" else [self.key]
            if command[0] != "EVAL" and self.key not in command:
                names = command[1:2]
            named = WrongType(f"{error} ({' or '.join(map(str, names))})", hint=error.hint)
            raise of_redis(named) from error

    def read(self, parse: Callable[[Any], T], *command: Any, **options: Any) -> T:
        """Send one command and parse its reply. Raises Unavailable if the reply cannot be parsed."""
        with translated(self.client):
            return parse(self.call(*command, **options))

    def run_script(self, name: str, keys: list[str], *arguments: Any, parse: Callable[[Any], T]) -> T:
        """Run lua/NAME.lua and parse its reply. Raises Unavailable if the reply cannot be parsed."""
        return self.read(parse, *scripts.command(name, keys, *arguments))

    def ask(self, *command: Any) -> Asked:
        """Send one command without waiting."""
        pool: Any = self.client.connection_pool
        with translated(self.client):
            connection = pool.get_connection()
            try:
                connection.send_command(*command)
            except BaseException:
                connection.disconnect()
                pool.release(connection)
                raise
        return Asked(connection, pool)

    def _send_many(self, commands: Iterable[tuple[Any, ...]], **options: Any) -> list[Any]:
        """Send commands in one round trip. -> a reply or an exception per command"""
        pipe: Any = self.client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command, **options)
        with translated(self.client):
            # Whoever raises these does so outside redis-py, which would first write the command, and with it the
            # message, into the error.
            return list(pipe.execute(raise_on_error=False))

    def call_many(self, commands: Iterable[tuple[Any, ...]], **options: Any) -> list[Any]:
        """Send commands in one round trip. -> one reply per command"""
        answers = self._send_many(commands, **options)
        with translated(self.client):
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers

    def check_scripts(self) -> None:
        """Run a script that does nothing. Raises Refused where Redis has no EVAL or this user no right to it."""
        self.run_script("permitted", [self.key], parse=int)

    def eviction_policy(self) -> str:
        """`maxmemory_policy` of INFO; '' where the user may not ask."""
        try:
            return self.server_info("memory").get("maxmemory_policy", "")
        except (Refused, Unavailable):
            return ""

    def server_info(self, section: str) -> dict[str, str]:
        """One section of INFO, as text; empty where Redis has none of that name."""
        return self.read(lambda reply: {name: str(value) for name, value in reply.items()}, "INFO", section)

    def counts_every_read(self) -> bool:
        """Whether `entries-read` of the groups is right; False where that cannot be known.

        Redis before 7.4 and Valkey before 8 neither replicate it nor write it to the append-only file: after a
        fail-over, or a restart from that file, it is what it was when a replica or the file began.
        """
        try:
            about = self.server_info("server")
            valkey = about.get("valkey_version")
            if _release(valkey or about.get("redis_version", "0")) >= ((8,) if valkey else (7, 4)):
                return True
            replication, loaded = self.server_info("replication"), self.server_info("persistence")
        except (Refused, Unavailable):
            return False
        own = replication.get("role") == "master" and replication.get("second_repl_offset") == "-1"
        from_file = loaded.get("aof_enabled") != "0" and loaded.get("rdb_last_load_keys_loaded", "0") != "0"
        return own and not from_file

    def server_time_ms(self) -> int:
        """Redis's clock, in milliseconds since the epoch."""
        return self.read(lambda reply: int(reply[0]) * 1000 + int(reply[1]) // 1000, "TIME")

    def ping(self) -> None:
        """Check that Redis answers, by a command that every user with rights on the stream may send."""
        self.call("EXISTS", self.key)

    def info(self) -> StreamInfo | None:
        """XINFO STREAM, or None where there is no stream."""
        if not self.call("EXISTS", self.key):
            return None
        return self.read(lambda reply: replies.stream_info(self.key, reply), "XINFO STREAM", self.key)

    def groups(self) -> list[GroupInfo]:
        """XINFO GROUPS; [] where there is no stream."""
        if not self.call("EXISTS", self.key):
            return []
        return self.read(replies.group_infos, "XINFO GROUPS", self.key)

    def bytes_used(self) -> int | None:
        """MEMORY USAGE in bytes, an estimate by samples; None where there is no stream or the user may not ask."""
        try:
            return self.read(replies.number, "MEMORY", "USAGE", self.key)
        except (Refused, Unavailable):
            return None

    def neighbours(self, most: int = 100) -> list[str]:
        """Names of streams in the same database, without dead letters: found in a bounded number of steps.

        On a cluster of every node that answers.
        """
        found: list[str] = []
        for client in (self.client, *other_masters(self.client)):
            try:
                found += Stream(client, self.key)._names(most)
            except Unavailable:
                if client is self.client:
                    raise
            finally:
                if client is not self.client:
                    client.close()
        return sorted(set(found))[:most]

    def _names(self, most: int) -> list[str]:
        """Names of streams on this server."""
        found: list[str] = []
        cursor = 0
        for _ in range(SCANS):
            cursor, page = self.read(tuple, "SCAN", cursor, "COUNT", KEYS_PER_SCAN, "TYPE", "stream")
            found += [name for name in map(replies.text, page) if not name.endswith(":dead")]
            if int(cursor) == 0 or len(found) >= most:
                break
        return found

    def range(self, start: EntryId = ZERO, end: EntryId = LAST, count: int = ENTRIES_PER_READ) -> list[Entry]:
        """One page of entries, oldest first."""
        return self.read(replies.entries, "XRANGE", self.key, str(start), str(end), "COUNT", count)

    def last(self, count: int, end: EntryId = LAST) -> list[Entry]:
        """The newest entries up to an id, oldest of them first."""
        return self.read(replies.entries, "XREVRANGE", self.key, str(end), "-", "COUNT", count)[::-1]

    def pages(self, start: EntryId = ZERO, end: EntryId = LAST, count: int = ENTRIES_PER_READ) -> Iterator[list[Entry]]:
        """All entries of a range, a page at a time: `count` of them, fewer where they are large."""
        size = min(count, FIRST_READ)
        while page := self.range(start, end, size):
            yield page
            with translated(self.client):
                largest = max(sum(map(len, entry.fields.values())) for entry in page)
            size = max(1, min(count, 4 * size, BYTES_PER_READ // (largest + 1)))
            if page[-1].id == LAST:
                return
            start = page[-1].id.next()

    def size_of(self, page: Iterable[Entry]) -> int:
        """The bytes of the values of entries."""
        with translated(self.client):
            return sum(len(value) for entry in page for value in entry.fields.values())

    def get(self, ids: Iterable[EntryId]) -> dict[EntryId, Entry]:
        """The entries with these ids that exist."""
        with translated(self.client):
            pages = self.call_many(("XRANGE", self.key, key, key) for key in map(str, ids))
            return {entry.id: entry for page in pages for entry in replies.entries(page)}

    def missing(self, ids: Iterable[EntryId]) -> list[EntryId]:
        """Those of the ids that are not on the stream."""
        return self.run_script("missing", [self.key], *map(str, ids), parse=replies.entry_ids)

    def wait_for(self, after: EntryId, block_ms: int, count: int = ENTRIES_PER_READ) -> list[Entry]:
        """XREAD: the entries after an id, waiting for the first one at most `block_ms`."""
        command = ("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", self.key, str(after))
        return self.read(replies.entries_of_one_stream, *command)

    def add(self, messages: Iterable[Mapping[bytes, bytes]]) -> list[EntryId]:
        """XADD each message, in one round trip. -> their ids"""
        added = self.add_some(messages)
        if added.error is not None:
            raise added.error
        return added.ids

    def add_some(self, messages: Iterable[Mapping[bytes, bytes]]) -> Added:
        """XADD each message, in one round trip. Raises only where it is unknown which of them Redis took."""
        parts = ([part for pair in pairs_of(fields) for part in pair] for fields in messages)
        answers = self._send_many(("XADD", self.key, "*", *message) for message in parts)
        with translated(self.client):
            ids = [replies.entry_id(answer) for answer in answers if not isinstance(answer, Exception)]
        failed = next((number for number, answer in enumerate(answers) if isinstance(answer, Exception)), None)
        if failed is None:
            return Added(ids)
        try:
            with translated(self.client):
                raise answers[failed]
        except DvctlError as error:
            return Added(ids, failed, error)

    def republish(self, ids: Sequence[EntryId], most: int) -> Republished:
        """Copy entries to the end of the stream, except those that were copied `most` times already."""

        def parse(reply: Any) -> Republished:
            copies, refused = reply
            return Republished(replies.entry_ids(copies), replies.entry_ids(refused))

        return self.run_script("republish", [self.key], most, *map(str, ids), parse=parse)

    def trim(self, floor: EntryId) -> int:
        """Remove all entries below an id, exactly: XTRIM MINID. -> number of entries removed"""
        return self.read(int, "XTRIM", self.key, "MINID", "=", str(floor))
