"""A Redis that answers whatever a test likes, byte for byte, and everything that dvctl reads from one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from itertools import islice
from types import SimpleNamespace
from typing import Any, TypeAlias

import redis

from devicevault_cli.consumer.in_hand import InHand
from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.reader import EntryReader
from devicevault_cli.operations.monitoring.lag import lag_of
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.records import INT4_MAX
from devicevault_cli.streams import dead_letters, snapshot
from devicevault_cli.streams.connect import Client, connect
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.letters import DeadLetter
from devicevault_cli.streams.model import ZERO, EntryId, GroupInfo, StreamInfo
from devicevault_cli.streams.stream import Stream

Reply: TypeAlias = "int | bytes | Exception | list[Reply] | None"
"""What Redis can say in RESP2: nil, a number, a string, an error, or a list of these."""

ID, PLANNED = EntryId(1, 0), GroupInfo("g", 1, 1, EntryId(1, 0))
BEHIND = StreamInfo("s", 5, ID, EntryId(9, 0), EntryId(9, 0))
LETTER = DeadLetter(ID, ID, "r", "d", "g", "c", 1, 0, "", {})
PAGES = 3
"""Pages read of what has no end where Redis says the same for ever."""


def encoded(reply: Reply) -> bytes:
    """RESP2."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%s\r\n" % (len(reply), reply)
    if isinstance(reply, Exception):
        return b"-%s\r\n" % str(reply).encode().replace(b"\r", b" ").replace(b"\n", b" ")
    return b"*%d\r\n" % len(reply) + b"".join(map(encoded, reply))


class _Scripted(redis.Connection):
    """Connects to nobody: each connection reads these bytes, and then the end."""

    said = b""

    def _connect(self) -> socket.socket:
        mine, theirs = socket.socketpair()
        mine.settimeout(1)
        theirs.sendall(self.said)
        theirs.shutdown(socket.SHUT_WR)
        self._theirs = theirs  # so that what is sent to it is no error
        return mine

    def disconnect(self, *arguments: Any, **options: Any) -> None:
        super().disconnect(*arguments, **options)  # type: ignore[no-untyped-call]
        if hasattr(self, "_theirs"):
            self._theirs.close()

    def can_read(self, *arguments: Any, **options: Any) -> bool:
        """Nothing, before a command is sent: redis-py would take the connection for one that is out of step."""
        return False

    def on_connect_check_health(self, *arguments: Any, **options: Any) -> None:
        """No greeting: the bytes are all for the command."""
        self._parser.on_connect(self)


def scripted(said: bytes) -> Client:
    """A client as `connect` makes it, of a Redis that says this."""
    client = connect("redis://127.0.0.1:1/0")
    del client.connection_pool.connection_kwargs[
        "redis_connect_func"
    ]  # no CLIENT SETNAME: the bytes are for the command
    client.connection_pool.connection_class = type("Scripted", (_Scripted,), {"said": said})
    return client


def _first_pages(reader: Callable[[Group], Any]) -> Callable[[Group], Any]:
    return lambda group: list(islice(reader(group), PAGES))


def _delivery(group: Group) -> GroupConsumer:
    return GroupConsumer(group, "c")


def _next_batch(group: Group) -> Any:
    database: Any = SimpleNamespace(device_id_max=INT4_MAX)
    options = ConsumeOptions(batch_size=10, max_deliveries=2)
    return EntryReader(_delivery(group), RESULTS, database, InHand(), options).next(10, None)


READERS: dict[str, Callable[[Group], Any]] = {
    "info": lambda g: g.stream.info(),
    "groups": lambda g: g.stream.groups(),
    "range": lambda g: g.stream.range(),
    "last": lambda g: g.stream.last(3),
    "pages": _first_pages(lambda g: g.stream.pages()),
    "get": lambda g: g.stream.get([ID, ZERO]),
    "wait": lambda g: g.stream.wait_for(ZERO, 1),
    "add": lambda g: g.stream.add([{b"a": b"b"}]),
    "bytes": lambda g: g.stream.bytes_used(),
    "policy": lambda g: g.stream.eviction_policy(),
    "server": lambda g: g.stream.server_info("server"),
    "ping": lambda g: g.stream.ping(),
    "create": lambda g: g.create(),
    "consumers": lambda g: g.consumers(),
    "summary": lambda g: g.summary(),
    "pending": _first_pages(lambda g: g.pending_pages()),
    "pending ids": lambda g: g.pending_ids([ID]),
    "acknowledge": lambda g: g.acknowledge([ID]),
    "retire empty": lambda g: g.retire_if_empty("c"),
    "lag": lambda g: lag_of(g.stream, BEHIND, PLANNED),
    "read new": lambda g: _delivery(g).read_new(10),
    "show life": lambda g: _delivery(g).show_life(),
    "take": lambda g: _delivery(g).claim([ID]),
    "hold": lambda g: _delivery(g).renew({ID: 1}),
    "dead letter": lambda g: _delivery(g).dead_letter(ID, ID, "r", "d"),
    "discard": lambda g: _delivery(g).discard(ID, "w"),
    "begin alone": lambda g: _delivery(g).begin_alone(ID),
    "next batch": _next_batch,
    "claim": lambda g: g.claim([ID], "c", owner=None, min_idle_ms=0, idle_ms=0),
    "acknowledge by hand": lambda g: g.discard([ID], "w"),
    "retire": lambda g: g.retire(["c"], "d"),
    "destroy": lambda g: g.destroy_as_planned(PLANNED),
    "move": lambda g: g.move_as_planned(PLANNED, ID, 1),
    "drop letters": lambda g: DeadLetters(g.stream).drop([(LETTER, "w")]),
    "republish": lambda g: g.stream.republish([ID], 1),
    "trim": lambda g: g.stream.trim(ID),
    "letters": _first_pages(lambda g: DeadLetters(g.stream, "g").pages()),
    "packed": lambda g: DeadLetters(g.stream).packed(ID),
    "letter count": lambda g: DeadLetters(g.stream).length(),
    "discard count": lambda g: DeadLetters(g.stream).discarded_count(),
    "discarded": lambda g: DeadLetters(g.stream, "g").discarded_ids(),
    "with letter": lambda g: dead_letters.dead_among(g, [ID]),
    "given up": lambda g: dead_letters.discarded_among(g, [ID]),
    "late letter": lambda g: dead_letters.write_late_letter(g, ID, ID, "r", "d"),
    "held": _first_pages(snapshot.pending_states),
    "clock": lambda g: g.stream.server_time_ms(),
    "state": lambda g: snapshot.state_of(g, PLANNED),
    "put back": lambda g: snapshot.restore_group(g, snapshot.GroupState("s", "g", ID, 1, ("c",))),
    "put back held": lambda g: snapshot.restore_pending(g, [snapshot.PendingState(ID, "c", 1, 1)]),
    "missing": lambda g: g.stream.missing([ID]),
}
"""Everything that is read from Redis, by what it is for."""


def read(name: str, replies: Sequence[Reply] | bytes) -> Any:
    """Have one reader read these replies, or bytes that may be none. Raises what the reader raises."""
    said = replies if isinstance(replies, bytes) else b"".join(map(encoded, replies))
    client = scripted(said)
    try:
        return READERS[name](Group(Stream(client, "s"), "g"))
    finally:
        client.close()
