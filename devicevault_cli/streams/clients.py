"""Clients that wait for messages, by CLIENT LIST: a consumer blocked in XREADGROUP shows no other activity."""

from __future__ import annotations

import time
from typing import NamedTuple

from redis.exceptions import ResponseError

from devicevault_cli.errors import Refused, Unavailable
from devicevault_cli.streams.connect import Client
from devicevault_cli.streams.naming import consumer_name, consumer_of, is_ours, naming_of, same_member
from devicevault_cli.streams.stream import Stream

ATTEMPTS, BETWEEN_S = 3, 0.02
"""A consumer is not blocked for the moment between two XREADGROUPs, so one CLIENT LIST proves nothing."""


_WORK = ("xreadgroup", "xack", "xclaim", "xautoclaim")
"""Commands that only a consumer sends."""


class Waiting(NamedTuple):
    """A client that is blocked in XREADGROUP and is not dvctl: its address, and for how long it has waited."""

    address: str
    idle_ms: int


class Clients(NamedTuple):
    """The clients of this Redis database.

    waiting: those that wait. consumers: the names of the consumers of `dvctl consume`. working: how many clients that
    are not dvctl did last what a consumer does, waiting ones included.
    """

    waiting: tuple[Waiting, ...]
    consumers: frozenset[str]
    working: int = 0


class Namesake(NamedTuple):
    """A connection of another process under the name of this consumer. `number`: connections are numbered in order."""

    number: int
    address: str
    idle_s: int


class Namesakes(NamedTuple):
    """own: the lowest number of this process's connections under the consumer's name."""

    own: int
    others: tuple[Namesake, ...]


def clients_of(stream: Stream) -> Clients | None:
    """The clients of the stream's Redis database; None where CLIENT LIST is not permitted."""
    rows = _rows(stream)
    for _ in range(ATTEMPTS - 1):
        if rows is None or _blocked(rows) or not any(_seconds(row) <= 1 for row in _reading(rows)):
            break
        time.sleep(BETWEEN_S)
        rows = _rows(stream)
    if rows is None:
        return None
    waiting = tuple(Waiting(row.get("addr", ""), _seconds(row) * 1000) for row in _blocked(rows))
    consumers = (consumer_of(row["name"]) for row in rows)
    working = sum(row.get("cmd", "").lower() in _WORK and not is_ours(row["name"]) for row in rows)
    return Clients(waiting, frozenset(name for name in consumers if name is not None), working)


def _reading(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Those whose last command was XREADGROUP."""
    return [row for row in rows if row.get("cmd", "").lower() == "xreadgroup" and not is_ours(row["name"])]


def _blocked(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [row for row in _reading(rows) if "b" in row.get("flags", "")]


def _rows(stream: Stream) -> list[dict[str, str]] | None:
    """CLIENT LIST, the fields of each client in this database."""
    try:
        reply = stream.read(lambda reply: reply.decode("utf-8", "replace"), "CLIENT", "LIST")
    except Refused:
        return None
    except Unavailable as error:
        if isinstance(error.__cause__, ResponseError):  # renamed, or disabled by the hosting provider
            return None
        raise
    database = str(stream.client.connection_pool.connection_kwargs.get("db") or 0)
    rows = ({"name": ""} | dict(part.partition("=")[::2] for part in line.split(" ")) for line in reply.splitlines())
    return [row for row in rows if row.get("db") == database]


def _seconds(row: dict[str, str]) -> int:
    idle = row.get("idle", "")
    return int(idle) if idle.isascii() and idle.isdigit() else 0


def name_consumer(stream: Stream, group: str, consumer: str) -> None:
    """Name the connections of the stream's client, from the next command on, after this consumer of the group."""
    naming = naming_of(stream.client)
    if naming is not None:
        naming.name = consumer_name(consumer, stream.key, group)
        stream.client.connection_pool.disconnect()


def namesakes_of(stream: Stream) -> Namesakes | None:
    """The connections under the name that `name_consumer` gave; None where Redis permits no names or no list."""
    naming = naming_of(stream.client)
    rows = _rows(stream)
    if naming is None or naming.refused or rows is None:
        return None
    found = [row for row in rows if same_member(row["name"], naming.name)]
    own = [int(row["id"]) for row in found if row["name"] == naming.name]
    others = [row for row in found if row["name"] != naming.name]
    listed = (Namesake(int(row["id"]), row.get("addr", ""), _seconds(row)) for row in others)
    return Namesakes(min(own, default=0), tuple(listed))


def is_unnamed(client: Client) -> bool:
    """Whether Redis did not permit CLIENT SETNAME."""
    naming = naming_of(client)
    return naming is not None and naming.refused


def user_of(client: Client) -> str:
    """The user that a client logs in as."""
    return str(client.connection_pool.connection_kwargs.get("username") or "default")
