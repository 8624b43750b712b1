"""A connection to the broker: opened, used, and every error of it translated."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from amqp import spec
from amqp.exceptions import AccessRefused, AMQPError, ChannelError, NotFound, PreconditionFailed
from kombu.connection import Connection
from kombu.entity import Exchange, Queue

from devicevault_cli.broker.errors import grant, reply, translate
from devicevault_cli.broker.url import BrokerAddress
from devicevault_cli.errors import DvctlError, Refused
from devicevault_cli.log_fields import fields

log = logging.getLogger("dvctl.broker")

CONNECT_S = 5.0
IO_S = 8.0
"""How long RabbitMQ may take to read or write: one that is low on memory stops reading."""
REDIS_S = 4.0
LISTEN_BYTES = 32 * 1024
"""After so many bytes dvctl looks for what RabbitMQ says, such as that it takes no more. py-amqp's basic_publish looks
before each message, which takes 9 of 44 us."""
_SOCKET_SETTINGS = {socket.TCP_USER_TIMEOUT: 0} if hasattr(socket, "TCP_USER_TIMEOUT") else {}
"""py-amqp has the kernel end a connection on which the broker reads nothing for 1 s, as it does under an alarm."""


class BrokerConnection:
    """One connection to the first broker of a fail-over list that answers.

    `blocked`: why the broker does not take messages now, empty where it does. `published`: how many messages were sent
    on the channel: RabbitMQ's delivery tags count on as long as it lives. Every method raises Unavailable, Refused or
    BadConfig; after an error the connection is closed, and opened anew when it is used next.
    """

    def __init__(self, addresses: tuple[BrokerAddress, ...]) -> None:
        self._addresses = addresses
        self._turn = 0
        self._connection: Connection | None = None
        self._channel: Any = None
        self._declared: set[str] = set()
        self.blocked = ""
        self.published = 0
        self._unheard = 0

    @property
    def address(self) -> BrokerAddress:
        """The broker in use, or tried last."""
        return self._addresses[self._turn % len(self._addresses)]

    @property
    def shown(self) -> str:
        """What messages call the brokers."""
        return ", ".join(address.shown for address in self._addresses)

    def open(self) -> Any:
        """Connect if need be. -> the channel"""
        if self._channel is None:
            with self.translated():
                self._connect()
                self._channel = self._new_channel()
        return self._channel

    def _connect(self) -> None:
        """Try each broker once, beginning with the one used last."""
        for left in reversed(range(len(self._addresses))):
            connection = _kombu_connection(self.address, self._on_blocked, self._on_unblocked)
            try:
                # `connect` would sleep for 2 s and try once more.
                connection.ensure_connection(max_retries=0, timeout=CONNECT_S, reraise_as_library_errors=False)
            except Exception as error:
                with suppress(Exception):
                    connection.release()
                if not left:
                    raise
                log.warning("%s", translate(error, self.address), extra=fields(server="broker"))
                self._turn += 1
            else:
                self._connection, self.blocked = connection, ""
                self._declared.clear()
                return

    def _new_channel(self) -> Any:
        assert self._connection is not None  # noqa: S101
        channel = self._connection.channel()
        self.published = 0
        if self.address.kind == "amqp":
            channel.confirm_select()
        return channel

    def close(self) -> None:
        """Close the connection without waiting for the broker."""
        connection, self._connection, self._channel, self.blocked = self._connection, None, None, ""
        if connection is not None:
            with suppress(Exception):
                connection.collect(socket_timeout=0.5)

    def reopen_channel(self) -> None:
        """Go on with a new channel, after an error that closed the one before."""
        before, self._channel = self._channel, None
        with suppress(ChannelError):
            before.close()
        self._channel = self._new_channel()

    def interrupt(self) -> None:
        """From another thread: end a call that waits for the broker, which then raises Unavailable."""
        connection = self._connection
        with suppress(Exception):
            if connection is not None and self.address.kind == "amqp":
                transport = connection.connection.transport
                transport.sock.shutdown(2)
            elif self._channel is not None:
                self._channel.pool.disconnect()

    def publish(self, message: Any, queue: str) -> int:
        """Send a message on the channel, `mandatory`. -> its delivery tag"""
        self.published += 1
        if self.address.kind == "redis":
            self._channel.basic_publish(message, exchange="", routing_key=queue)
            return self.published
        self._unheard += len(message.body)
        if self._unheard > LISTEN_BYTES:
            self._unheard = 0
            self.drain(0)
        self._channel.send_method(spec.Basic.Publish, "Bssbb", (0, "", queue, True, False), message)
        return self.published

    def drain(self, seconds: float) -> bool:
        """Handle what the broker sent, waiting at most `seconds`. -> whether there was something"""
        assert self._connection is not None  # noqa: S101
        try:
            self._connection.drain_events(timeout=seconds)
        except TimeoutError:
            return False
        return True

    def declare(self, queue: str) -> None:
        """See that a queue exists: create it only where it is missing, as Celery declares it."""
        if queue in self._declared:
            return
        exchange = Exchange(queue, type="direct", durable=True)
        declared = Queue(queue, exchange, routing_key=queue, durable=True)
        if self.address.kind == "redis" or not self._exists(queue):
            try:
                declared(self.open()).declare()
            except PreconditionFailed:  # created in this moment, or there is another exchange of its name
                self.reopen_channel()
                if not self._exists(queue):
                    self.open().queue_declare(queue, durable=True, auto_delete=False)
            except AccessRefused as error:
                raise self._may_not_create(queue, error) from None
        self._declared.add(queue)

    def _exists(self, queue: str) -> bool:
        try:
            self.open().queue_declare(queue, passive=True)
        except NotFound:
            self.reopen_channel()
            return False
        return True

    def look_at(self, queue: str) -> tuple[int, int] | None:
        """-> messages that wait in a queue of RabbitMQ, and consumers on it; None: there is no such queue"""
        with self.translated():
            channel = self._connected().channel()
            try:
                found = channel.queue_declare(queue, passive=True)
            except NotFound:
                return None
            with suppress(AMQPError):
                channel.close()
            return int(found.message_count), int(found.consumer_count)

    def clash_of(self, queue: str) -> str:
        """Which argument of a queue that exists differs from those of DeviceVault, in RabbitMQ's words; empty: none.

        RabbitMQ answers a declaration of a queue that exists by a comparison.
        """
        with self.translated():
            channel = self._connected().channel()
            try:
                channel.queue_declare(queue, durable=True, auto_delete=False)
            except PreconditionFailed as error:
                return reply(error)
            with suppress(AMQPError):
                channel.close()
            return ""

    def length(self, queue: str) -> int:
        """How many messages wait in a queue of Redis, under every priority; 0 where there is none."""
        with self.translated():
            return int(self.open()._size(queue))

    def ask_redis(self, command: str, name: str) -> Any:
        """INFO or CONFIG GET of a Redis broker, as a dict."""
        with self.translated():
            client = self.open().client
            return client.info(name) if command == "INFO" else client.config_get(name)

    def _connected(self) -> Any:
        self.open()
        assert self._connection is not None  # noqa: S101
        return self._connection

    def _may_not_create(self, queue: str, error: AccessRefused) -> Refused:
        address = self.address
        return Refused(
            f"{address.shown}: queue {queue} does not exist, and user {address.user} may not create it"
            f" ({reply(error)})",
            hint=f"start the storage worker, which creates it, or grant all that dispatch needs: {grant(address)}",
        )

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn errors of kombu and its transports into dvctl's; the connection is closed."""
        try:
            yield
        except DvctlError:
            self.close()
            raise
        except Exception as error:  # noqa: BLE001 - py-amqp raises AttributeError and more where a connection broke
            address = self.address
            self.close()
            if len(self._addresses) > 1:
                self._turn += 1
            raise translate(error, address) from None

    def _on_blocked(self, reason: str) -> None:
        self.blocked = reason or "no reason given"

    def _on_unblocked(self) -> None:
        self.blocked = ""


def _kombu_connection(address: BrokerAddress, on_blocked: Any, on_unblocked: Any) -> Connection:
    if address.kind == "redis":
        options: dict[str, Any] = {
            "socket_timeout": REDIS_S,
            "socket_connect_timeout": CONNECT_S,
            "socket_keepalive": True,
        }
    else:
        options = {
            "read_timeout": IO_S,
            "write_timeout": IO_S,
            "socket_settings": _SOCKET_SETTINGS,
            "on_blocked": on_blocked,
            "on_unblocked": on_unblocked,
            "client_properties": {"connection_name": "dvctl", "product": "dvctl"},
        }
    return Connection(
        hostname=f"socket://{address.socket.lstrip('/')}" if address.socket else address.host,
        port=None if address.socket else address.port,
        userid=address.user or None,
        password=address.password or None,
        virtual_host=address.place,
        transport="redis" if address.kind == "redis" else "pyamqp",
        ssl=_tls(address) if address.tls else False,
        connect_timeout=CONNECT_S,
        heartbeat=0,
        transport_options=options,
    )


def _tls(address: BrokerAddress) -> dict[str, Any]:
    """TLS as py-amqp or redis-py take it: the certificate is verified unless the URL says otherwise."""
    reqs = ssl.CERT_REQUIRED if address.verify else ssl.CERT_NONE
    files = {"ca_certs": address.ca_certs, "certfile": address.certfile, "keyfile": address.keyfile}
    if address.kind == "redis":
        return {
            **{f"ssl_{name}": value for name, value in files.items() if value},
            "ssl_cert_reqs": reqs,
            "ssl_check_hostname": address.check_hostname,
        }
    return {
        **{name: value for name, value in files.items() if value},
        "cert_reqs": reqs,
        # py-amqp compares the certificate with this name; kombu would replace None by the host.
        **({"server_hostname": address.host} if address.check_hostname else {}),
    }
