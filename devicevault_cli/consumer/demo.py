"""The main job in small, told as a story: a worker publishes, the consumer persists, everything is accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

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
from devicevault_cli.streams.stream import Stream

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

DEVICES = 5
GOOD = 200
REPEATED = 20

Tell = Callable[[str, list[dict[str, Any]] | None], None]
"""Shows one sentence of the story, with rows where it has some."""


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


def run_demo(stream: Stream, repository: Repository, tell: Tell) -> dict[str, Any]:
    """The answer of `demo -o json`."""
    good = [
        message
        for device in range(1, DEVICES + 1)
        for message in sample_messages(GOOD // DEVICES, device, "success", "configuration collected")
    ]
    bad = list(bad_messages())
    stream.add([*good, *good[:REPEATED], *(message for _, message in bad)])
    tell(
        f"A worker published {len(good)} results, {REPEATED} of them twice, and {len(bad)} messages that are bad, "
        "each in its own way.",
        None,
    )
    group = Group(stream, RESULTS.group)
    group.create()
    worker = Worker(GroupConsumer(group, "demo-0"), repository, RESULTS, ConsumeOptions(drain=True), Stop())
    stopped_by = worker.run()
    counters = worker.counters
    tell(
        f"The consumer read {counters.read} messages in {counters.elapsed_s:.1f} s and stopped ({stopped_by}): "
        f"{counters.persisted} rows, {counters.duplicates} recognised as duplicates, "
        f"{counters.dead_lettered} dead letters.",
        None,
    )
    tell(f"Pending: {pending(group).total} entries.", None)
    letters = DeadLetters(stream, group.name)
    rows = [
        {"id": str(letter.id), "reason": letter.reason, "detail": letter.detail}
        for page in letters.pages()
        for letter in page
    ]
    tell("Dead letters: what could not become a row, and why.", rows)
    verified = verify(group, RESULTS, repository).to_dict()
    tell("Verified: every entry of the stream against every row.", [verified["classes"]])
    return {"persisted": counters.persisted, "dead_lettered": counters.dead_lettered, "verify": verified}
