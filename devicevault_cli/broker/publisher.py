"""Hands tasks to the broker. A task counts as handed over once the broker has confirmed it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any, Generic, TypeVar

from amqp.exceptions import PreconditionFailed

from devicevault_cli.broker.connection import BrokerConnection
from devicevault_cli.broker.store_task import StoreTask
from devicevault_cli.broker.url import BrokerAddress
from devicevault_cli.errors import Unavailable

K = TypeVar("K", bound=Hashable)

WINDOW_BYTES = 16 * 1024 * 1024
"""Most bytes that are sent and not confirmed: 20 messages of 1 MB. One at a time halves the rate (90 against 181/s)."""
WINDOW_TASKS = 1000
CONFIRM_S = 15.0
"""How long the broker may confirm nothing while something is unconfirmed."""
DRAIN_S = 0.5
PERSISTENT = 2


class Publisher:
    """Publishes tasks over one connection that is kept open; for one thread at a time."""

    def __init__(self, addresses: tuple[BrokerAddress, ...]) -> None:
        self.connection = BrokerConnection(addresses)

    @property
    def shown(self) -> str:
        """What messages call the broker."""
        return self.connection.shown

    def check(self) -> None:
        """The broker can be reached and takes the login. Raises Unavailable, Refused or BadConfig."""
        self.connection.open()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def interrupt(self) -> None:
        """From another thread: end a call that waits for the broker."""
        self.connection.interrupt()

    def deliver(self, tasks: Mapping[K, StoreTask]) -> Delivery[K]:
        """Prepare to hand over the tasks; `Delivery.advance` does it."""
        return Delivery(self.connection, tasks)


class Delivery(Generic[K]):
    """Some tasks on their way to the broker. After an error `advance` may be called again: it sends what is left.

    `left`: tasks that are not confirmed yet. `confirmed`: the keys of those that are, in that order.
    `too_large`: keys of tasks that the broker refuses for good. `confirm_s`: seconds from sending to confirmation, of
    each confirmed task.
    """

    def __init__(self, connection: BrokerConnection, tasks: Mapping[K, StoreTask]) -> None:
        self._connection = connection
        self.left: dict[K, StoreTask] = dict(tasks)
        self.confirmed: list[K] = []
        self.too_large: dict[K, str] = {}
        self.confirm_s: list[float] = []
        self._window = _Window[K](WINDOW_TASKS)
        self._unsent: deque[K] = deque()
        self._channel: Any = None
        self._progress = 0.0

    def advance(self, seconds: float) -> bool:
        """Send and collect confirmations for about so many seconds. -> whether nothing is left

        Raises Unavailable (away, blocked, without a confirmation), Refused or BadConfig.
        """
        end = time.monotonic() + seconds
        while self.left:
            with self._connection.translated():
                try:
                    self._step(max(0.0, end - time.monotonic()))
                except PreconditionFailed as error:
                    self._on_refusal(str(error.reply_text))
            self._raise_if_blocked()
            if self.left and time.monotonic() >= end:
                return False
        return True

    # --- one round

    def _step(self, seconds: float) -> None:
        channel = self._connection.open()
        if channel is not self._channel:
            channel = self._begin()
        end = time.monotonic() + seconds
        if self._connection.address.kind == "redis":
            self._push(channel, end)
            return
        while self._unsent and not (self._window.full or self._connection.blocked):
            self._send(channel, self._unsent.popleft())
            if time.monotonic() > end:
                break
        if not self._connection.drain(min(max(0.0, end - time.monotonic()), DRAIN_S)):
            self._raise_if_silent()

    def _begin(self) -> Any:
        """Of what was sent on another channel nothing is known: all that is left is sent again."""
        for queue in sorted({task.queue for task in self.left.values()}):
            self._connection.declare(queue)
        channel = self._channel = self._connection.open()
        self._window.clear()
        self._unsent = deque(self.left)
        self._progress = time.monotonic()
        if self._connection.address.kind == "amqp":
            channel.events["basic_ack"] = {self._on_ack}
            channel.events["basic_nack"] = {self._on_nack}
            channel.events["basic_return"] = {self._on_return}
        return channel

    def _push(self, channel: Any, end: float) -> None:
        """Redis confirms each message by its reply."""
        while self._unsent:
            key = self._unsent[0]
            self._send(channel, key)
            self._confirm(key)
            self._unsent.popleft()
            if time.monotonic() > end:
                return

    def _send(self, channel: Any, key: K) -> None:
        task = self.left[key]
        body = task.body()
        message = channel.prepare_message(
            body,
            priority=0,
            content_type="application/json",
            content_encoding="utf-8",
            headers=task.headers(),
            properties={**task.properties(), "delivery_mode": PERSISTENT},
        )
        self._window.add(self._connection.publish(message, task.queue), key, len(body))

    # --- what the broker says

    def _confirm(self, key: K) -> None:
        del self.left[key]
        self.confirmed.append(key)
        self.confirm_s.append(time.monotonic() - self._window.remove(key))

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._progress = time.monotonic()
        for key in self._window.tagged(tag, multiple=multiple):
            self._confirm(key)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        queues = {self.left[key].queue for key in self._window.tagged(tag, multiple=multiple)}
        raise Unavailable(
            f"{self._connection.address.shown} does not take messages for {', '.join(sorted(queues))}: nack",
            hint="the queue may be full (x-max-length): see that the storage workers run",
        )

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: object) -> None:
        raise Unavailable(
            f"{self._connection.address.shown} has no queue {routing_key} any more: the message was returned (312)",
            hint="dvctl creates the queue when it tries next; see who deletes it",
        )

    def _on_refusal(self, reply: str) -> None:
        """The channel was closed for one of the messages sent: one at a time shows which."""
        if len(self._window) == 1:
            key = self._window.only()
            self.too_large[key] = reply
            del self.left[key]
            self._window.most = WINDOW_TASKS
        else:
            self._window.most = 1
        self._connection.reopen_channel()

    def _raise_if_blocked(self) -> None:
        """The connection stays: what was sent already is confirmed once the broker goes on."""
        if self.left and self._connection.blocked:
            raise Unavailable(
                f"{self._connection.address.shown} takes no messages now: {self._connection.blocked}",
                hint="free memory or disk space on the broker: see `rabbitmqctl list_alarms`",
            )

    def _raise_if_silent(self) -> None:
        if len(self._window) and not self._connection.blocked and time.monotonic() - self._progress > CONFIRM_S:
            raise Unavailable(
                f"{self._connection.address.shown} confirmed nothing for {CONFIRM_S:.0f} s",
                hint="see that the broker is not overloaded; the messages are sent again",
            )


class _Window(Generic[K]):
    """What is sent on one channel and not confirmed yet, by delivery tag."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.clear()

    def clear(self) -> None:
        self._bytes = 0
        self._keys: dict[int, K] = {}
        self._sent: dict[K, tuple[int, int, float]] = {}

    def add(self, tag: int, key: K, size: int) -> None:
        self._keys[tag] = key
        self._sent[key] = tag, size, time.monotonic()
        self._bytes += size

    def remove(self, key: K) -> float:
        """-> when it was sent, by the monotonic clock"""
        tag, size, at = self._sent.pop(key)
        del self._keys[tag]
        self._bytes -= size
        return at

    def tagged(self, tag: int, *, multiple: bool) -> list[K]:
        """The keys that a confirmation of this tag is about."""
        tags = [known for known in self._keys if known <= tag] if multiple else [tag]
        return [self._keys[known] for known in tags if known in self._keys]

    def only(self) -> K:
        return next(iter(self._sent))

    @property
    def full(self) -> bool:
        return len(self._sent) >= self.most or self._bytes >= WINDOW_BYTES

    def __len__(self) -> int:
        return len(self._sent)

    def __contains__(self, key: K) -> bool:
        return key in self._sent
