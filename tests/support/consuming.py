"""A consumer in this process, for tests of the operation itself."""

from __future__ import annotations

from typing import Any

from devicevault_cli.broker.publisher import Publisher
from devicevault_cli.consumer.dispatch import DispatchOff
from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.shutdown import Stop
from devicevault_cli.consumer.worker import Worker
from devicevault_cli.operations.entries.message_files import Message
from devicevault_cli.operations.entries.publish import sample_messages
from devicevault_cli.pipelines import RESULTS, Pipeline
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.letters import DeadLetter
from devicevault_cli.streams.stream import Stream

GROUP = "devicevault"


def drain(
    stream: Stream,
    repository: Repository,
    name: str = "me",
    *,
    pipeline: Pipeline = RESULTS,
    publisher: Publisher | DispatchOff | None = None,
    **options: Any,
) -> Worker:
    """Run a consumer until the group is drained (or `max_wait_s`, 100 s, is over)."""
    options = {"drain": True, "max_wait_s": 100.0, "claim_idle_s": 60.0} | options
    consumer = GroupConsumer(Group(stream, GROUP), name)
    worker = Worker(consumer, repository, pipeline, ConsumeOptions(**options), Stop(), publisher=publisher)
    worker.reason = worker.run()  # type: ignore[attr-defined]
    return worker


def good(count: int, device: int = 1) -> list[Message]:
    """Valid messages, each of its own identity."""
    return list(sample_messages(count, device, "success", "done"))


def letters(stream: Stream) -> list[DeadLetter]:
    """All dead letters of the group."""
    return [letter for page in DeadLetters(stream, GROUP).pages() for letter in page]
