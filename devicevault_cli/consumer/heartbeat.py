"""The heartbeat: keeps entries in hand from being claimed, and the consumer visibly alive, while its loop moves."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event, Thread, current_thread

from devicevault_cli.consumer.in_hand import InHand
from devicevault_cli.consumer.progress import ConsumerProgress
from devicevault_cli.errors import DvctlError
from devicevault_cli.streams.connect import separate
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream

log = logging.getLogger("dvctl.consume")

SHOW_LIFE_S = 4.0
"""How long after the loop's last read that brought entries: it shows life too. One that waits in vain does not, before
Redis 7.2."""
LONGEST_PAUSE_S, SHORTEST_PAUSE_S = 1.0, 0.1
SOCKET_TIMEOUT_S = 2.0


class Heartbeat:
    """A thread with its own connection, at work within the `with` block.

    It renews the idle time of the entries in hand every third of `claim_idle_s`, and that of the consumer when the loop
    has read no entry for SHOW_LIFE_S. It does neither once the loop stands still (`progress.alive`): then other
    consumers are to take over what this one holds.
    """

    def __init__(
        self,
        consumer: GroupConsumer,
        in_hand: InHand,
        progress: ConsumerProgress,
        claim_idle_s: float,
        also: Callable[[Stream], None] = lambda stream: None,
    ) -> None:
        """`also`: is called between two beats, with the stream on the connection of the thread."""
        self._also = also
        self._in_hand = in_hand
        self._progress = progress
        self._renew_every_s = claim_idle_s / 3
        self._pause_s = max(SHORTEST_PAUSE_S, min(LONGEST_PAUSE_S, self._renew_every_s))
        self._renewed = self._shown = time.monotonic()
        self._left = Event()
        self._client = separate(consumer.stream.client, SOCKET_TIMEOUT_S)
        stream = Stream(self._client, consumer.stream.key)
        self._consumer = GroupConsumer(Group(stream, consumer.group.name), consumer.consumer)
        name = f"{current_thread().name}/heartbeat"  # its log lines belong to the pipeline of this thread
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *raised: object) -> None:
        # Ended before the consumer is deleted: a late sign of life would create it anew.
        self._left.set()
        self._thread.join(SOCKET_TIMEOUT_S + LONGEST_PAUSE_S)
        self._client.connection_pool.disconnect()

    def _run(self) -> None:
        while not self._left.wait(self._pause_s):
            if self._progress.alive:
                try:
                    self._also(self._consumer.stream)
                    self._beat(time.monotonic())
                except DvctlError as error:
                    log.debug("no heartbeat: %s", error)

    def _beat(self, now: float) -> None:
        if now - self._renewed > self._renew_every_s and (counts := self._in_hand.counts()):
            self._renewed = now
            self._consumer.renew(dict.fromkeys(counts))
        if now - max(self._shown, self._progress.last_delivery) > SHOW_LIFE_S:
            self._shown = now
            self._consumer.show_life()
