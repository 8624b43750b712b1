"""The envelope of tasks for RabbitMQ, encoded once: only the id differs from message to message.

py-amqp encodes the nineteen headers of each message in Python, which is a third of what publishing 2 KB takes: 17 us,
here 0.4 us.
"""

from __future__ import annotations

from amqp import Message

from devicevault_cli.broker.store_task import StoreTask

PERSISTENT = 2


class _Encoded(Message):  # type: ignore[misc] # py-amqp has no annotations
    """A message whose properties are encoded already."""

    encoded = b""

    def _serialize_properties(self) -> bytes:
        """What py-amqp asks for when it sends."""
        return self.encoded


class Envelope:
    """Makes messages of tasks, all by one process: `origin` and `reply_to` stay the same."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def message(self, task: StoreTask, body: bytes) -> Message:
        """The message of a task, ready to be sent."""
        if not self._parts:
            self._parts = plain_message(task, body)._serialize_properties().split(task.id.encode())
        message = _Encoded(body)
        message.encoded = task.id.encode().join(self._parts)
        return message


def plain_message(task: StoreTask, body: bytes) -> Message:
    """The same message, encoded by py-amqp."""
    return Message(
        body,
        priority=0,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=PERSISTENT,
        application_headers=task.headers(),
        **task.properties(),
    )
