"""A stream and a table with a known number of entries in every class of `verify`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from devicevault_cli.messages import Decoded
from devicevault_cli.operations.entries.message_files import Message
from devicevault_cli.operations.verify.names import CLASSES
from devicevault_cli.pipelines import RESULTS, STORAGE, Pipeline
from devicevault_cli.records import Record
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.stream import Stream
from tests.support.consuming import GROUP, good

MINUTE = 60_000
START = 1_768_000_000_000
NAMELESS = {"results": "empty-message", "storage": "missing-device-id"}
"""Why a message is rejected that has none of the known fields but `operation`."""


@dataclass
class Seeded:
    """The situation, and what is to be found in it."""

    stream: Stream
    repository: Repository
    pipeline: Pipeline = RESULTS
    ids: dict[str, list[EntryId]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    _minutes: count[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.group = Group(self.stream, GROUP)
        self.group.create()
        self.delivery = GroupConsumer(self.group, "worker")

    def add(self, what: str, messages: Sequence[Message]) -> list[EntryId]:
        """Put messages on the stream, a minute apart from the others."""
        moment = START + next(self._minutes) * MINUTE
        ids = []
        for number, message in enumerate(messages):
            parts = [part for pair in message.items() for part in pair]
            self.stream.call("XADD", self.stream.key, f"{moment}-{number}", *parts)
            ids.append(EntryId(moment, number))
        self.ids.setdefault(what, []).extend(ids)
        return ids

    def record(self, key: EntryId, message: Message) -> Record:
        """What the message becomes."""
        decision = self.pipeline.decode(key.ms, key.seq, message, self.repository.device_id_max)
        assert isinstance(decision, Decoded)
        return decision.record

    def save(self, ids: list[EntryId], messages: Sequence[Message]) -> None:
        """The rows of messages."""
        saved = self.repository.save([self.record(*each) for each in zip(ids, messages, strict=True)])
        self.rows += sum(each.outcome == "inserted" for each in saved)

    def read(self) -> None:
        """Deliver everything that is new, as a consumer that then does nothing."""
        while self.delivery.read_new(1000):
            pass

    @property
    def expected(self) -> dict[str, int]:
        """The classes of `verify`."""
        return {name: len(self.ids.get(name, [])) for name in CLASSES}


STORED = {b"operation": b"store"}
"""What a message of `storage` needs besides; that of `results` takes no notice."""


def stored(count: int, device: int = 1) -> list[Message]:
    """Valid messages of either pipeline."""
    return [dict(each) | STORED for each in good(count, device)]


def seed(stream: Stream, repository: Repository, pipeline: Pipeline = RESULTS) -> Seeded:
    """Every class of a pipeline, each with another number; `skipped` is only for `storage`."""
    repository.check()
    seeded = Seeded(stream, repository, pipeline)
    messages = stored(21)
    seeded.save(seeded.add("persisted", messages), messages)
    seeded.add("persisted", messages[:3])
    nameless = [dict(each) | {b"task_identifier": b""} for each in stored(2)]
    seeded.save(seeded.add("persisted", nameless), nameless)
    seeded.add("lost", stored(5, device=2))
    seeded.add("lost", [dict(each) | {b"task_identifier": b""} for each in stored(2, device=3)])
    invalid = [
        {b"hello": b"world"} | STORED,
        *(dict(each) | {b"log": b"{"} for each in stored(2)),
        *stored(1, device=4711),
    ]
    seeded.add("lost_invalid", invalid)
    if pipeline is STORAGE:
        seeded.add("skipped", [dict(each) | {b"operation": b"restore"} for each in good(3)])
    seeded.reasons.update((NAMELESS[pipeline.name], "malformed-log", "malformed-log", "unknown-device"))
    dead = seeded.add("dead", stored(4))
    discarded = seeded.add("discarded", stored(6))
    pending = seeded.add("pending", stored(8))
    gone = seeded.add("gone", stored(2))
    held_but_stored = stored(1)
    there = seeded.add("persisted", held_but_stored)
    seeded.save(there, held_but_stored)
    seeded.read()
    for key in dead:
        seeded.delivery.dead_letter(key, key, "max-deliveries", "as a test wants it")
    for key in discarded:
        seeded.delivery.discard(key, "as a test wants it")
    kept = {*pending, *gone, *there}
    seeded.group.acknowledge([key for ids in seeded.ids.values() for key in ids if key not in kept])
    stream.call("XDEL", stream.key, *map(str, gone))
    seeded.add("undelivered", stored(9))
    early = stored(1)
    seeded.save(seeded.add("persisted", early), early)
    return seeded
