"""Yardstick: the same tasks through py-amqp alone, with the window of confirmations that dvctl has.

Bodies and envelopes are made beforehand. `python -m tests.bench.publisher BROKER_URL COUNT SIZE`
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any

import amqp

from devicevault_cli.broker.publisher import WINDOW_BYTES, WINDOW_TASKS
from devicevault_cli.broker.store_task import StoreTask, task_uuid
from tests.bench.measure import tell_all
from tests.bench.messages import message
from tests.support.amqp_queues import channel, declare

QUEUE = "storage.git"
BODIES = 16
"""Messages of a megabyte are few and come again: all of them together would not fit into memory."""


def main(broker_url: str, count: str, size: str) -> None:
    """Publish so many messages, and wait until each is confirmed."""
    number = int(count)
    messages = [ready(task) for task in tasks(min(number, max(BODIES, WINDOW_BYTES // int(size))), int(size))]
    declare(broker_url)
    with channel(broker_url) as opened:
        opened.confirm_select()
        started, used = time.perf_counter(), time.process_time()
        publish(opened, messages, number)
        tell_all(number, time.perf_counter() - started, time.process_time() - used)


def tasks(count: int, size: int) -> list[StoreTask]:
    """The tasks of the benchmark's messages."""
    fields = [message(number, size) for number in range(count)]
    blank = StoreTask("", "", "", 0, "git", {"url": "ssh://git.example/backups.git", "token": "location-secret"}, b"")
    return [
        replace(
            blank,
            id=task_uuid("device:results", f"{number}-0"),
            task_id=given["task_id"],
            task_identifier=given["task_identifier"],
            device_id=int(given["device_id"]),
            device_config=given["device_config"].encode(),
        )
        for number, given in enumerate(fields)
    ]


def ready(task: StoreTask) -> amqp.Message:
    """A message as it is sent."""
    properties = task.properties() | {"content_type": "application/json", "content_encoding": "utf-8"}
    return amqp.Message(task.body(), application_headers=task.headers(), delivery_mode=2, priority=0, **properties)


def publish(opened: Any, messages: list[amqp.Message], count: int) -> None:
    """Send as long as the window has room, else wait for confirmations."""
    sizes: dict[int, int] = {}
    waiting = 0

    def confirmed(tag: int, multiple: bool) -> None:
        nonlocal waiting
        for known in [known for known in sizes if known <= tag] if multiple else [tag]:
            waiting -= sizes.pop(known)

    opened.events["basic_ack"] = {confirmed}
    for number in range(count):
        while len(sizes) >= WINDOW_TASKS or waiting >= WINDOW_BYTES:
            opened.connection.drain_events(timeout=30)
        sent = messages[number % len(messages)]
        sizes[number + 1] = len(sent.body)
        waiting += len(sent.body)
        opened.basic_publish(sent, exchange="", routing_key=QUEUE, mandatory=True)
    while sizes:
        opened.connection.drain_events(timeout=30)


if __name__ == "__main__":
    main(*sys.argv[1:])
