"""The demo: a worker publishes, a consumer persists, one crashes, the database goes down, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from devicevault_cli.consumer.demo_faults import Place, crash, outage
from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.shutdown import Stop
from devicevault_cli.consumer.worker import Worker
from devicevault_cli.operations.entries.message_files import Message
from devicevault_cli.operations.entries.pending import pending
from devicevault_cli.operations.entries.publish import sample_messages
from devicevault_cli.operations.verify.verify import verify
from devicevault_cli.pipelines import RESULTS
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

DEVICES = 5
GOOD = 200
REPEATED = 20


class Tell(Protocol):
    """Shows the story as it happens."""

    def step(self, title: str) -> None: ...
    def say(self, *lines: str) -> None: ...
    def rows(self, rows: list[dict[str, Any]]) -> None: ...


def bad_messages() -> Iterator[tuple[str, Message]]:
    """One message of every bad kind, with the reason it will get."""
    (good,) = sample_messages(1, 1, "success", "a message with one thing wrong")

    def but(**changes: bytes) -> Message:
        return dict(good) | {name.encode(): value for name, value in changes.items()}

    yield "empty-message", {b"hello": b"world"}
    yield "invalid-encoding", but(task_id=b"\xff\xfe")
    yield "nul-character", but(status=b"suc\0cess")
    yield "missing-device-id", but(device_id=b"")
    yield "invalid-device-id", but(device_id=b"router-7")
    yield "value-too-long", but(task_identifier=b"x" * 129)
    yield "malformed-log", but(log=b"{")
    yield "unknown-device", but(device_id=b"4711", task_identifier=b"collect:4711:demo")


def run_demo(place: Place, repository: Repository, tell: Tell) -> dict[str, Any]:
    """The answer of `demo -o json`. `repository`: of the same database, to count and verify with."""
    group = Group(place.stream, RESULTS.group)
    group.create()
    _publish(place, tell)
    dead_lettered = _consume(group, repository, tell)
    with crash(place, group, tell) as consumer:
        outage(place, group, consumer, tell)
    tell.step("Nothing is lost")
    verified = verify(group, RESULTS, repository).to_dict()
    rows, classes = repository.count(), verified["classes"]
    tell.say(
        f"`verify` compared all {verified['stream']['entries']} entries with the {rows} rows, by identity",
        f"({REPEATED} entries were published twice and have one row):",
    )
    tell.rows([{name: classes[name] for name in ("persisted", "dead", "pending", "undelivered", "lost")}])
    return {"persisted": rows, "dead_lettered": dead_lettered, "verify": verified}


def _publish(place: Place, tell: Tell) -> None:
    good = [
        message
        for device in range(1, DEVICES + 1)
        for message in sample_messages(GOOD // DEVICES, device, "success", "configuration collected")
    ]
    bad = list(bad_messages())
    place.stream.add([*good, *good[:REPEATED], *(message for _, message in bad)])
    tell.step("A worker publishes")
    tell.say(f"{len(good)} results of {DEVICES} devices, {REPEATED} of them twice, and {len(bad)} invalid messages.")


def _consume(group: Group, repository: Repository, tell: Tell) -> int:
    """-> the number of dead letters"""
    worker = Worker(GroupConsumer(group, "demo-0"), repository, RESULTS, ConsumeOptions(drain=True), Stop())
    worker.run()
    counters = worker.counters
    tell.step("A consumer processes them")
    tell.say(
        f"{counters.persisted} rows, {counters.duplicates} duplicates skipped, {pending(group).total} pending, and "
        f"{counters.dead_lettered} dead letters with a reason:"
    )
    letters = [letter for page in DeadLetters(group.stream, group.name).pages() for letter in page]
    tell.rows([{"reason": letter.reason, "detail": letter.detail} for letter in letters])
    return len(letters)
