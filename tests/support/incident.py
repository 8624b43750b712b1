"""An incident as it looks afterwards: a database was away for half an hour and its consumer acknowledged everything."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing

from devicevault_cli.messages import Decoded
from devicevault_cli.operations.entries.message_files import Message
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.stream import Stream
from tests.support.consuming import GROUP, good
from tests.support.verifying import MINUTE, START

MINUTES, DEVICES = 45, 30
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "\"'></td></table><h1>all is well</h1>",
    "\u202eevil\u202c \x1b[31mred\x1b[0m \x07\u200b",
    "x" * 128,
    "| cell | `code` **bold** [link](javascript:alert(3))",
    "\N{ROCKET} r\u00e9seau \u6771\u4eac",
)


def stage(stream: Stream, repository: Repository, *, a_minute: int = 120, seed: int = 1) -> None:
    """About `a_minute` messages a minute for 45 minutes, of 30 devices; those of minute 9 to 37 are mostly lost."""
    chance = random.Random(seed)
    repository.check()
    _rename_devices(repository)
    group = Group(stream, GROUP)
    group.create()
    kept: list[tuple[EntryId, Message]] = []
    for minute in range(MINUTES):
        away = 9 <= minute < 38
        messages = [_message(chance, away) for _ in range(round(a_minute * chance.uniform(0.5, 1.2)))]
        ids = _add(stream, START + minute * MINUTE, messages, chance)
        kept += [pair for pair in zip(ids, messages, strict=True) if not away or chance.random() < 0.2]
    records = [RESULTS.decode(key.ms, key.seq, message, repository.device_id_max) for key, message in kept]
    repository.save([each.record for each in records if isinstance(each, Decoded)])
    _consume_as_it_does(stream, group, chance)
    stream.add(good(7))


def _message(chance: random.Random, away: bool) -> Message:
    device = min(chance.randint(1, DEVICES), chance.randint(1, DEVICES))
    (message,) = good(1, device)
    if away and chance.random() < 0.01:
        return dict(message) | {b"log": b"{"} if chance.random() < 0.7 else {b"hello": b"world"}
    if chance.random() < 0.005:
        return dict(message) | {b"task_identifier": chance.choice(HOSTILE).encode()}
    return message


def _add(stream: Stream, start: int, messages: list[Message], chance: random.Random) -> list[EntryId]:
    moments = sorted(chance.sample(range(MINUTE), len(messages)))
    ids = [EntryId(start + moment, 0) for moment in moments]
    parts = ([part for pair in message.items() for part in pair] for message in messages)
    stream.call_many(("XADD", stream.key, str(key), *each) for key, each in zip(ids, parts, strict=True))
    return ids


def _consume_as_it_does(stream: Stream, group: Group, chance: random.Random) -> None:
    """All is delivered and acknowledged but for the last few; some got a letter, some were given up or are gone."""
    delivery = GroupConsumer(group, "consumer-4711")
    delivered: list[EntryId] = []
    while page := delivery.read_new(1000):
        delivered += page.ids
    for key in chance.sample(delivered, 9):
        delivery.dead_letter(key, key, "max-deliveries", HOSTILE[2])
    for key in chance.sample(delivered, 4):
        delivery.discard(key, "not needed")
    group.acknowledge(delivered[:-25])
    stream.call("XDEL", stream.key, *map(str, delivered[-3:]))


def _rename_devices(repository: Repository) -> None:
    with closing(sqlite3.connect(repository.url.name)) as connection, connection:
        for number in range(DEVICES):
            name = HOSTILE[number] if number < len(HOSTILE) else f"core-sw-{number:02d}.fra.example.net"
            connection.execute("UPDATE devices_device SET name = ? WHERE id = ?", (name, number + 1))
        connection.execute("UPDATE devices_device SET name = 'edge-rtr-01.ams.example.net' WHERE id = 1")
