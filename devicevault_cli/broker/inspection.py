"""What can be seen of the broker within a few seconds, without changing anything: who answers, queues, settings.

Imports no client library before it connects.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from devicevault_cli.broker import INSTALL
from devicevault_cli.broker.url import BrokerAddress, parse_broker_url
from devicevault_cli.errors import BadConfig, DvctlError, Unavailable

if TYPE_CHECKING:
    from devicevault_cli.broker.connection import BrokerConnection

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue. `messages` None: it does not exist.  `consumers` None: they cannot be counted, as on Redis.

    `clash`: in the broker's words, which argument of the queue differs from those that DeviceVault declares; None:
    that could not be examined, for `unknown`.  `error`: why nothing is known of the queue.
    """

    name: str
    messages: int | None = None
    consumers: int | None = None
    clash: str | None = ""
    unknown: str = ""
    error: DvctlError | None = None


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """Of a Redis that is the broker; None: Redis does not tell. `snapshots`: whether it writes any by itself."""

    eviction: str | None
    append_only: bool | None
    snapshots: bool | None


@dataclass(frozen=True, slots=True)
class BrokerState:
    """What was seen. `answered`: the broker that is used. `away`: why those before it in the list are not."""

    answered: str
    away: Sequence[DvctlError]
    queues: Sequence[QueueState]
    redis: RedisSettings | None


def check_installed() -> None:
    """Raises BadConfig where the package that speaks with brokers is not installed."""
    if "kombu" not in sys.modules and find_spec("kombu") is None:
        raise BadConfig("storage dispatch needs the package kombu", hint=INSTALL)


def inspect_broker(url: str, queues: Iterable[str], seconds: float) -> BrokerState:
    """Look at the broker and at these queues. Raises Unavailable, Refused or BadConfig, within about `seconds`.

    No queue is created: what RabbitMQ thinks of DeviceVault's arguments is asked only of queues that exist.
    """
    addresses = parse_broker_url(url)
    check_installed()
    from devicevault_cli.broker import connection as _  # noqa: F401 - not in the thread, whose time is limited

    return _within(seconds, ", ".join(address.shown for address in addresses), lambda: _inspect(addresses, queues))


def _inspect(addresses: Sequence[BrokerAddress], queues: Iterable[str]) -> BrokerState:
    from devicevault_cli.broker.connection import BrokerConnection

    away: list[DvctlError] = []
    for number, address in enumerate(addresses, 1):
        connection = BrokerConnection((address,))
        with closing(connection):
            try:
                connection.open()
            except DvctlError as error:
                if number == len(addresses):
                    raise
                away.append(error)
                continue
            states = [_queue(connection, name) for name in queues]
            redis = _redis_settings(connection) if address.kind == "redis" else None
            return BrokerState(address.shown, away, states, redis)
    raise AssertionError("a broker URL names at least one broker")


def _queue(connection: BrokerConnection, name: str) -> QueueState:
    try:
        if connection.address.kind == "redis":
            return QueueState(name, connection.length(name))
        found = connection.look_at(name)
        if found is None:
            return QueueState(name)
        messages, consumers = found
        try:
            clash = connection.clash_of(name)
        except Unavailable:
            raise
        except DvctlError as error:
            return QueueState(name, messages, consumers, None, str(error))
        return QueueState(name, messages, consumers, clash)
    except Unavailable:
        raise
    except DvctlError as error:
        return QueueState(name, error=error)


def _redis_settings(connection: BrokerConnection) -> RedisSettings:
    def asked(command: str, name: str) -> Any:
        try:
            return connection.ask_redis(command, name)
        except Unavailable:
            raise
        except DvctlError:
            return None

    memory, persistence, save = asked("INFO", "memory"), asked("INFO", "persistence"), asked("CONFIG GET", "save")
    return RedisSettings(
        None if memory is None else memory.get("maxmemory_policy"),
        None if persistence is None else bool(persistence.get("aof_enabled")),
        None if save is None else bool(save.get("save")),
    )


def _within(seconds: float, where: str, function: Callable[[], T]) -> T:
    """Call a function in a thread, and stop waiting for it after so many seconds: name servers, brokers that accept and
    say nothing and fail-over lists of several add up to more than a monitoring system waits."""
    answers: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(function())
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run, name="broker inspection", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        hint = "check that the broker is running, and its address in --broker-url or CELERY_BROKER_URL"
        raise Unavailable(f"{where} did not answer within {seconds:g} s", hint=hint)
    return answers[0]
