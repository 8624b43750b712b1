"""Hands tasks to the broker. A task counts as handed over once the broker has confirmed it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from amqp.exceptions import PreconditionFailed

from devicevault_cli.broker.connection import BrokerConnection
from devicevault_cli.broker.envelope import PERSISTENT, Envelope
from devicevault_cli.broker.store_task import StoreTask
from devicevault_cli.broker.url import BrokerAddress
from devicevault_cli.errors import Unavailable

K = TypeVar("K", bound=Hashable)

WINDOW_BYTES = 16 * 1024 * 1024
"""Most bytes that are sent and not confirmed: 16 messages of 1 MB. One at a time halves the rate (90 against 181/s)."""
WINDOW_TASKS = 1000
CONFIRM_S = 15.0
"""How long the broker may confirm nothing while something is unconfirmed."""
DRAIN_S = 0.5


class Delivery(Generic[K]):
    """Some tasks on their way to the broker. After an error `advance` may be called again: it sends what is left.

    `left`: tasks that are not confirmed yet. `confirmed`: the keys of those that are, in that order.
    `too_large`: tasks that the broker refuses for good, and its words. `confirm_s`: seconds from sending to
    confirmation, of each confirmed task.
    """

    def __init__(self, publisher: Publisher, tasks: Mapping[K, StoreTask]) -> None:
        self._publisher = publisher
        self.left: dict[K, StoreTask] = dict(tasks)
        self.confirmed: list[K] = []
        self.too_large: dict[K, str] = {}
        self.confirm_s: list[float] = []

    def begin(self) -> None:
        """Send what the window has room for, and do not wait for confirmations. Raises as `advance` does."""
        self._publisher.send()

    def advance(self, seconds: float) -> bool:
        """Send and collect confirmations for about so many seconds. -> whether nothing is left

        Raises Unavailable (away, blocked, without a confirmation), Refused or BadConfig.
        """
        return self._publisher.advance(self, seconds)


class Publisher:
    """Publishes tasks over one connection that is kept open; for one thread at a time.

    A delivery may begin before the one before it is confirmed.
    """

    def __init__(self, addresses: tuple[BrokerAddress, ...]) -> None:
        self.connection = BrokerConnection(addresses)
        self._deliveries: list[Delivery[Any]] = []
        self._unsent: deque[_Item] = deque()
        self._queues: set[str] = set()
        self._envelope = Envelope()
        self._window = _Window()
        self._channel: Any = None
        self._progress = 0.0

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
        """Take tasks to hand over; `Delivery.advance` does it."""
        delivery = Delivery(self, tasks)
        self._deliveries.append(delivery)
        self._unsent.extend(_Item(delivery, key) for key in tasks)
        self._queues.update(task.queue for task in tasks.values())
        return delivery

    # --- what a delivery asks for

    def send(self) -> None:
        """Send what the window has room for."""
        if self._unsent:
            self._round(None)

    def advance(self, delivery: Delivery[Any], seconds: float) -> bool:
        """See Delivery."""
        end = time.monotonic() + seconds
        while delivery.left:
            self._round(end)
            if delivery.left and time.monotonic() >= end:
                return False
        return True

    # --- one round

    def _round(self, end: float | None) -> None:
        """Send, and collect confirmations until about `end`; None: only send."""
        with self.connection.translated():
            try:
                self._fill(self._ready_channel(), end)
                if end is None:
                    while self._unsent and len(self._window) and self.connection.drain(0):
                        self._fill(self._channel, end)
                elif len(self._window) and not self.connection.drain(min(max(0.0, end - time.monotonic()), DRAIN_S)):
                    self._raise_if_silent()
            except PreconditionFailed as error:
                self._on_refusal(str(error.reply_text))
        self._deliveries = [delivery for delivery in self._deliveries if delivery.left]
        self._raise_if_blocked()

    def _ready_channel(self) -> Any:
        for queue in sorted(self._queues):
            self.connection.declare(queue)
        channel = self.connection.open()
        if channel is self._channel:
            return channel
        # Of what was sent on another channel nothing is known: all that is left is sent again.
        self._channel = channel
        self._window.clear()
        self._unsent = deque(_Item(delivery, key) for delivery in self._deliveries for key in delivery.left)
        if self.connection.address.kind == "amqp":
            channel.events["basic_ack"] = {self._on_ack}
            channel.events["basic_nack"] = {self._on_nack}
            channel.events["basic_return"] = {self._on_return}
        return channel

    def _fill(self, channel: Any, end: float | None) -> None:
        """Send while the window has room; Redis confirms each message by its reply."""
        at_once = self.connection.address.kind == "redis"
        while self._unsent and not (self._window.full or self.connection.blocked):
            item = self._unsent[0]
            self._send(channel, item)
            self._unsent.popleft()
            if at_once:
                self._confirm(item)
            if end is not None and time.monotonic() > end:
                return

    def _send(self, channel: Any, item: _Item) -> None:
        task = item.delivery.left[item.key]
        body = task.body()
        if self.connection.address.kind == "amqp":
            message = self._envelope.message(task, body)
        else:
            message = channel.prepare_message(
                body,
                priority=0,
                content_type="application/json",
                content_encoding="utf-8",
                headers=task.headers(),
                properties={**task.properties(), "delivery_mode": PERSISTENT},
            )
        if not len(self._window):
            self._progress = time.monotonic()
        self._window.add(self.connection.publish(message, task.queue), item, len(body))

    # --- what the broker says

    def _confirm(self, item: _Item) -> None:
        delivery, key = item
        del delivery.left[key]
        delivery.confirmed.append(key)
        delivery.confirm_s.append(time.monotonic() - self._window.remove(item))

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._progress = time.monotonic()
        for item in self._window.tagged(tag, multiple=multiple):
            self._confirm(item)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        items = self._window.tagged(tag, multiple=multiple)
        queues = sorted({delivery.left[key].queue for delivery, key in items})
        raise Unavailable(
            f"{self.connection.address.shown} does not take messages for {', '.join(queues)}: nack",
            hint="the queue may be full (x-max-length): see that the storage workers run",
        )

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: object) -> None:
        raise Unavailable(
            f"{self.connection.address.shown} has no queue {routing_key} any more: the message was returned (312)",
            hint="dvctl creates the queue when it tries next; see who deletes it",
        )

    def _on_refusal(self, reply: str) -> None:
        """The channel was closed for one of the messages sent: one at a time shows which."""
        if len(self._window) == 1:
            delivery, key = self._window.only()
            delivery.too_large[key] = reply
            del delivery.left[key]
            self._window.most = WINDOW_TASKS
        else:
            self._window.most = 1
        self.connection.reopen_channel()

    def _raise_if_blocked(self) -> None:
        """The connection stays: what was sent already is confirmed once the broker goes on."""
        if self._deliveries and self.connection.blocked:
            raise Unavailable(
                f"{self.connection.address.shown} takes no messages now: {self.connection.blocked}",
                hint="free memory or disk space on the broker: see `rabbitmqctl list_alarms`",
            )

    def _raise_if_silent(self) -> None:
        if len(self._window) and not self.connection.blocked and time.monotonic() - self._progress > CONFIRM_S:
            raise Unavailable(
                f"{self.connection.address.shown} confirmed nothing for {CONFIRM_S:.0f} s",
                hint="see that the broker is not overloaded; the messages are sent again",
            )


class _Item(NamedTuple):
    """A task of a delivery."""

    delivery: Delivery[Any]
    key: Any


class _Sent(NamedTuple):
    """A task that was sent. `at`: by the monotonic clock."""

    tag: int
    size: int
    at: float


class _Window:
    """What is sent on one channel and not confirmed yet, by delivery tag."""

    def __init__(self) -> None:
        self.most = WINDOW_TASKS
        self.clear()

    def clear(self) -> None:
        self._bytes = 0
        self._items: dict[int, _Item] = {}
        self._sent: dict[_Item, _Sent] = {}

    def add(self, tag: int, item: _Item, size: int) -> None:
        self._items[tag] = item
        self._sent[item] = _Sent(tag, size, time.monotonic())
        self._bytes += size

    def remove(self, item: _Item) -> float:
        """-> when it was sent"""
        sent = self._sent.pop(item)
        del self._items[sent.tag]
        self._bytes -= sent.size
        return sent.at

    def tagged(self, tag: int, *, multiple: bool) -> list[_Item]:
        """What a confirmation of this tag is about."""
        tags = [known for known in self._items if known <= tag] if multiple else [tag]
        return [self._items[known] for known in tags if known in self._items]

    def only(self) -> _Item:
        return next(iter(self._sent))

    @property
    def full(self) -> bool:
        return len(self._sent) >= self.most or self._bytes >= WINDOW_BYTES

    def __len__(self) -> int:
        return len(self._sent)
