"""A stream: its entries and what Redis says about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from devicevault_cli.errors import DvctlError, Refused, Unavailable, WrongType
from devicevault_cli.streams.connect import Client, translated
from devicevault_cli.streams.model import LAST, ZERO, Entry, EntryId, GroupInfo, RepeatedFields, StreamInfo, pairs_of

T = TypeVar("T")

PAGE_BYTES = 16 * 1024 * 1024
SCANS = 100
"""Of 1,000 keys each: whoever mistyped a name does not wait for a Redis with millions of keys."""


def text(value: bytes | str) -> str:
    """A name as Redis holds it; bytes that are not UTF-8 survive the round trip."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def raw(value: str | bytes) -> bytes:
    """The inverse of `text`."""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def entries(reply: Iterable[tuple[bytes, list[bytes] | dict[bytes, bytes] | None]]) -> list[Entry]:
    """Entries as Redis sends them, (id, [name, value, ...]), or as redis-py's own parser has made dicts of them.

    Redis 6.2 names entries that no longer exist with nil instead of fields: these are left out.
    """
    found = []
    for key, fields in reply:
        if fields is None:
            continue
        ms, _, seq = key.partition(b"-")
        if not isinstance(fields, dict):
            names, values = fields[::2], fields[1::2]
            fields = dict(zip(names, values, strict=True))  # noqa: PLW2901
            if len(fields) != len(names):
                fields = RepeatedFields([*zip(names, values, strict=True)])  # noqa: PLW2901
        found.append(_made(Entry, (_made(EntryId, (int(ms), int(seq))), fields)))
    return found


_made = tuple.__new__
"""Makes a NamedTuple without its own constructor, a Python function that takes twice as long."""


def entry_id(key: bytes) -> EntryId:
    """An id that Redis sent: well-formed by origin, so without the checks of EntryId.parse."""
    ms, _, seq = key.partition(b"-")
    return EntryId(int(ms), int(seq))


def of_one_stream(reply: Any) -> list[Entry]:
    """The entries in an answer of XREAD or XREADGROUP that asked for one stream; [] where there are none."""
    return entries(reply[0][1]) if reply else []


def ids_of(reply: Iterable[bytes]) -> list[EntryId]:
    """A list of ids."""
    return [entry_id(key) for key in reply]


def number(value: Any) -> int | None:
    """A number, or None where Redis knows none."""
    return None if value is None else int(value)


def _group_info(group: dict[str, Any]) -> GroupInfo:
    return GroupInfo(
        name=text(group["name"]),
        consumers=int(group["consumers"]),
        pending=int(group["pending"]),
        last_delivered_id=entry_id(group["last-delivered-id"]),
        entries_read=number(group.get("entries-read")),
        lag=number(group.get("lag")),
    )


class Added(NamedTuple):
    """The ids of the messages that Redis took, the number of the first that it did not, and why."""

    ids: list[EntryId]
    failed: int | None = None
    error: DvctlError | None = None


class Stream:
    """One stream key. Every method raises Unavailable, Refused or WrongType."""

    def __init__(self, client: Client, key: str) -> None:
        self.client = client
        self.key = key

    def call(self, *command: Any, **options: Any) -> Any:
        """Send one command; `options` are for redis-py's parser; its errors become dvctl's."""
        client: Any = self.client
        try:
            with translated(self.client):
                return client.execute_command(*command, **options)
        except WrongType as error:
            names = command[3 : 3 + command[2]] if command[0] == "EVAL" else [self.key]
            if command[0] != "EVAL" and self.key not in command:
                names = command[1:2]
            raise WrongType(f"{error} ({' or '.join(map(str, names))})", hint=error.hint) from error

    def read(self, parse: Callable[[Any], T], *command: Any, **options: Any) -> T:
        """Send one command and parse its answer; one that cannot be parsed makes Redis as good as away."""
        with translated(self.client):
            return parse(self.call(*command, **options))

    def ask(self, *command: Any) -> Callable[[], Any]:
        """Send one command and do not wait. -> what waits for its answer, once, and gives it as Redis sent it"""
        pool: Any = self.client.connection_pool
        with translated(self.client):
            connection = pool.get_connection()
            try:
                connection.send_command(*command)
            except BaseException:
                connection.disconnect()
                pool.release(connection)
                raise

        def answer() -> Any:
            try:
                return connection.read_response()
            finally:
                pool.release(connection)

        return answer

    def call_many(self, commands: Iterable[tuple[Any, ...]], **options: Any) -> list[Any]:
        """Send commands in one round trip. -> a reply each"""
        pipe: Any = self.client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command, **options)
        with translated(self.client):
            # Raised here: redis-py would first write the command, and with it the message, into the error.
            replies = list(pipe.execute(raise_on_error=False))
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            return replies

    def eval(self, parse: Callable[[Any], T], script: str, keys: list[str], *arguments: Any) -> T:
        """Run a script by its text: no NOSCRIPT to handle after a restart, and Redis caches it by its hash."""
        return self.read(parse, "EVAL", script, len(keys), *keys, *arguments)

    def check_scripts(self) -> None:
        """Run a script that does nothing. Raises Refused where Redis has no EVAL or this user no right to it."""
        self.eval(int, "return #KEYS", [self.key])

    def eviction_policy(self) -> str:
        """`maxmemory_policy` of INFO; '' where the user may not ask."""
        try:
            return self.server_info("memory").get("maxmemory_policy", "")
        except (Refused, Unavailable):
            return ""

    def server_info(self, section: str) -> dict[str, str]:
        """One section of INFO, as text; empty where Redis has none of that name."""
        return self.read(lambda reply: {name: str(value) for name, value in reply.items()}, "INFO", section)

    def ping(self) -> None:
        """Ask Redis for a sign of life, one that every user with rights on the stream may ask for."""
        self.call("EXISTS", self.key)

    def info(self) -> StreamInfo | None:
        """XINFO STREAM, or None where there is no stream."""
        if not self.call("EXISTS", self.key):
            return None
        return self.read(self._info, "XINFO STREAM", self.key)

    def _info(self, reply: dict[str, Any]) -> StreamInfo:
        first, last = reply["first-entry"], reply["last-entry"]
        deleted = reply.get("max-deleted-entry-id")
        return StreamInfo(
            key=self.key,
            length=int(reply["length"]),
            first_id=entry_id(first[0]) if first else None,
            last_id=entry_id(last[0]) if last else ZERO,
            last_generated_id=entry_id(reply["last-generated-id"]),
            entries_added=number(reply.get("entries-added")),
            max_deleted_id=entry_id(deleted) if deleted else None,
        )

    def neighbours(self, most: int = 100) -> list[str]:
        """Names of streams in the same database, without dead letters: found in a bounded number of steps."""
        found: list[str] = []
        cursor = 0
        for _ in range(SCANS):
            cursor, page = self.read(tuple, "SCAN", cursor, "COUNT", 1000, "TYPE", "stream")
            found += [name for name in map(text, page) if not name.endswith(":dead")]
            if int(cursor) == 0 or len(found) >= most:
                break
        return sorted(found)[:most]

    def bytes_used(self) -> int | None:
        """MEMORY USAGE, an estimate by samples; None where there is no stream or Redis may not say."""
        try:
            return self.read(number, "MEMORY", "USAGE", self.key)
        except (Refused, Unavailable):
            return None

    def groups(self) -> list[GroupInfo]:
        """XINFO GROUPS; [] where there is no stream."""
        if not self.call("EXISTS", self.key):
            return []
        return self.read(lambda reply: [_group_info(each) for each in reply], "XINFO GROUPS", self.key)

    def range(self, start: EntryId = ZERO, end: EntryId = LAST, count: int = 1000) -> list[Entry]:
        """One page of entries, oldest first."""
        return self.read(entries, "XRANGE", self.key, str(start), str(end), "COUNT", count)

    def last(self, count: int, end: EntryId = LAST) -> list[Entry]:
        """The newest entries up to an id, oldest of them first."""
        return self.read(entries, "XREVRANGE", self.key, str(end), "-", "COUNT", count)[::-1]

    def pages(self, start: EntryId = ZERO, end: EntryId = LAST, count: int = 1000) -> Iterator[list[Entry]]:
        """All entries of a range, a page at a time: `count` of them, fewer where they are large."""
        size = min(count, 16)  # until it is known how large they are
        while page := self.range(start, end, size):
            yield page
            with translated(self.client):
                largest = max(sum(map(len, entry.fields.values())) for entry in page)
            size = max(1, min(count, 4 * size, PAGE_BYTES // (largest + 1)))
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
            replies = self.call_many(("XRANGE", self.key, key, key) for key in map(str, ids))
            return {entry.id: entry for reply in replies for entry in entries(reply)}

    def wait_for(self, after: EntryId, block_ms: int, count: int = 1000) -> list[Entry]:
        """XREAD: the entries after an id, waiting for the first one at most `block_ms`."""
        return self.read(of_one_stream, "XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", self.key, str(after))

    def add(self, messages: Iterable[Mapping[bytes, bytes]]) -> list[EntryId]:
        """XADD each message, in one round trip. -> their ids"""
        added = self.add_some(messages)
        if added.error is not None:
            raise added.error
        return added.ids

    def add_some(self, messages: Iterable[Mapping[bytes, bytes]]) -> Added:
        """XADD each message, in one round trip. Raises only where it is unknown which of them Redis took."""
        pipe: Any = self.client.pipeline(transaction=False)
        for fields in messages:
            pipe.execute_command("XADD", self.key, "*", *(part for pair in pairs_of(fields) for part in pair))
        with translated(self.client):
            replies = pipe.execute(raise_on_error=False)
            ids = [entry_id(reply) for reply in replies if not isinstance(reply, Exception)]
        failed = next((number for number, reply in enumerate(replies) if isinstance(reply, Exception)), None)
        if failed is None:
            return Added(ids)
        try:
            with translated(self.client):
                raise replies[failed]
        except DvctlError as error:
            return Added(ids, failed, error)
