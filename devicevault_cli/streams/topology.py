"""Finds the server of a stream in a Redis Cluster or through Sentinels, each time a connection is made.

One plain client of redis-py, whose connections ask where to connect: nothing is sent more often than to a single Redis.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.retry import Retry

from devicevault_cli.errors import BadConfig, DvctlError, Refused, Unavailable
from devicevault_cli.redis_url import Address, RedisUrl, shown_address
from devicevault_cli.streams import keys

Ask = Callable[..., Any]
"""Sends one command and returns the reply."""
E = TypeVar("E", bound=DvctlError)

ASK_TIMEOUT_S = 1.0
"""How long a node or a Sentinel that is asked may take, to connect and to answer; then the next one is asked."""
CONNECT_TIMEOUT_S = 2.0
"""How long to wait for the server that was found, unless the URL says otherwise: its host may have lost power."""
SILENCE_S = 1.0
"""After so long without an answer, and again as often, it is looked up whether another server has taken over."""
LOOK_S, LOOK_AFTER_ERROR_S = 2.0, 30.0
"""How often the Sentinels are asked while the connection is in use: an old master may go on answering for seconds."""

_ELSEWHERE = re.compile(r"\b(?:MOVED|ASK|READONLY|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|LOADING|UNBLOCKED)\b")
_CLASSES = (
    redis.exceptions.MovedError,
    redis.exceptions.AskError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ReadOnlyError,
)
_ANSWERS = (DvctlError, ResponseError, redis.AuthenticationError)
_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")
_OPTIONS = ("username", "password", "socket_keepalive", "encoding", "encoding_errors", "protocol", "driver_info")


def moved_error(answer: object) -> bool:
    """Whether the error that a server answered with says, or may mean, that another server is to be asked."""
    return isinstance(answer, _CLASSES) or _ELSEWHERE.search(str(answer)) is not None


class Topology:
    """Where the stream's server is, for every connection of a client and of those separated from it.

    `found`: the server that was found last. `generation` grows when it may be another one: connections of an earlier
    generation are made anew. `connection_class`, `options`: how to ask a server, with short time-outs.
    """

    def __init__(self, url: RedisUrl, connection_class: type[redis.Connection], options: dict[str, Any]) -> None:
        self.url = url
        self.found: Address | None = None
        self.generation = 0
        self._nodes = list(url.nodes)
        self._lock = Lock()
        self.connection_class = connection_class
        kept = {name: value for name, value in options.items() if name in _OPTIONS or name.startswith("ssl_")}
        self.options = kept | {"retry": Retry(NoBackoff(), 0), **dict.fromkeys(_TIMEOUTS, ASK_TIMEOUT_S)}

    @property
    def place(self) -> str:
        """The server that was found, else those that were asked, for messages; no password."""
        return f"{shown_address(self.found) if self.found else self.url.places} ({self._kind})"

    @property
    def _kind(self) -> str:
        return "Redis Cluster" if self.found else "nodes of a Redis Cluster"

    def find(self) -> Address:
        """Ask one node after the other. Raises redis-py's errors, Unavailable or BadConfig if none knows."""
        with self._lock:
            errors: list[RedisError | OSError | DvctlError] = []
            for node in tuple(self._nodes):
                try:
                    with self._asking(node) as ask:
                        self.found = self._server(ask, node)
                    return self.found
                except (RedisError, OSError, DvctlError) as error:
                    errors.append(self._refusal(error, shown_address(node)))
                    self._put_last(node)
            self.found = None
            # What a node said tells more than that others are away.
            raise next((error for error in errors if isinstance(error, _ANSWERS)), errors[-1])

    def unreachable(self) -> None:
        """The server that was found is away: whoever named it may not know that yet, so another node is asked next."""
        with self._lock:
            self._put_last(self._nodes[0])

    def has_moved(self, address: Address) -> bool:
        """Whether another server than this one is named now; False if nobody can tell."""
        with suppress(RedisError, OSError, DvctlError):
            return self.find() != address
        return False

    def is_due(self) -> bool:
        """Whether it should be looked up beside the work if the server is still the right one."""
        return False

    def verify(self, connection: Any) -> None:
        """Check a connection that was just made. Raises Unavailable for a server that is not the right one."""

    def _server(self, ask: Ask, node: Address) -> Address:
        """The server of the stream according to one node."""
        raise NotImplementedError

    def _refusal(self, error: RedisError | OSError | DvctlError, where: str) -> RedisError | OSError | DvctlError:
        """What an error of a node that was asked means."""
        return error

    def _put_last(self, node: Address) -> None:
        self._nodes.remove(node)
        self._nodes.append(node)

    def _login(self) -> dict[str, Any]:
        return {}

    @contextmanager
    def _asking(self, node: Address) -> Iterator[Ask]:
        host, port = node
        connection = self.connection_class(host=host, port=port, **self.options | self._login())

        def ask(*command: Any) -> Any:
            connection.send_command(*command)
            return connection.read_response()

        try:
            connection.connect()
            yield ask
        finally:
            connection.disconnect()

    def _error(self, kind: type[E], message: str, hint: str | None = None) -> E:
        error = kind(message, hint=hint)
        error.server = "redis"
        return error


class ClusterTopology(Topology):
    """The node of a Redis Cluster that serves the slot of a key."""

    def __init__(self, url: RedisUrl, key: str, connection_class: type[redis.Connection], options: Any) -> None:
        super().__init__(url, connection_class, options)
        self.slot = slot_of(key)
        if slot_of(keys.dead(key)) != self.slot:
            raise self._error(
                BadConfig,
                f"stream {key} cannot be on a Redis Cluster: the keys beside it would be in another hash slot",
                "give the stream a name without braces, or with exactly one pair of them that holds some text",
            )

    def _server(self, ask: Ask, node: Address) -> Address:
        ranges = ask("CLUSTER", "SLOTS")
        masters = [(int(first), int(last), _address(master, node)) for first, last, master, *_ in ranges]
        named = [address for _, _, address in masters] + [_address(one, node) for r in ranges for one in r[3:]]
        self._nodes = [*dict.fromkeys((node, *named, *self._nodes))]
        for first, last, address in masters:
            if first <= self.slot <= last:
                return address
        raise self._error(Unavailable, f"no node of the Redis Cluster {self.url.places} serves slot {self.slot}")

    def _refusal(self, error: RedisError | OSError | DvctlError, where: str) -> RedisError | OSError | DvctlError:
        if "cluster support disabled" not in str(error) and "unknown command" not in str(error):
            return error
        hint = "use redis://HOST:PORT/DB, or redis+sentinel:// for Sentinels"
        return self._error(BadConfig, f"Redis at {where} is not a Redis Cluster node", hint)

    def masters(self) -> list[Address]:
        """Every node that serves slots."""
        self.find()
        with self._asking(self._nodes[0]) as ask:
            return [*dict.fromkeys(_address(master, self._nodes[0]) for _, _, master, *_ in ask("CLUSTER", "SLOTS"))]


def _address(node: list[Any], asked: Address) -> Address:
    """Host and port of a node; without a host it is the node that was asked."""
    host = bytes(node[0] or b"").decode()
    return (asked[0] if host in ("", "?") else host), int(node[1])


class SentinelTopology(Topology):
    """The master that Sentinels name."""

    def __init__(self, url: RedisUrl, connection_class: type[redis.Connection], options: Any) -> None:
        super().__init__(url, connection_class, options)
        self._next_look = 0.0

    @property
    def _kind(self) -> str:
        return f"{'master' if self.found else 'Sentinels of'} {self.url.service}"

    def find(self) -> Address:
        self._next_look = time.monotonic() + LOOK_AFTER_ERROR_S
        found = super().find()
        self._next_look = time.monotonic() + LOOK_S
        return found

    def is_due(self) -> bool:
        return time.monotonic() > self._next_look

    def verify(self, connection: Any) -> None:
        connection.send_command("ROLE", check_health=False)
        with suppress(NoPermissionError):
            if connection.read_response()[0] != b"master":
                hint = "wait: after a fail-over it takes a moment until the Sentinels and the master agree"
                raise self._error(Unavailable, f"Redis at {self.place} is not a master now", hint)

    def _login(self) -> dict[str, Any]:
        return {"username": self.url.sentinel_username, "password": self.url.sentinel_password}

    def _server(self, ask: Ask, node: Address) -> Address:
        state = _pairs(ask("SENTINEL", "MASTER", self.url.service))
        down = {"s_down", "o_down"} & set(state.get("flags", "").split(","))
        alone = len(self.url.nodes) > 1 and state.get("num-other-sentinels") == "0"
        if down or alone:
            why = "it is down" if down else "this Sentinel knows no other one"
            where = shown_address(node)
            raise self._error(Unavailable, f"the Sentinel at {where} names no master {self.url.service}: {why}")
        return state["ip"], int(state["port"])

    def _refusal(self, error: RedisError | OSError | DvctlError, where: str) -> RedisError | OSError | DvctlError:
        text = str(error)
        if isinstance(error, (redis.AuthenticationError, NoPermissionError)):
            hint = "put ?sentinel_username=USER&sentinel_password=PASSWORD at the end of the Redis URL"
            return self._error(Refused, f"the Sentinel at {where} refuses the login or the command", hint)
        if "No such master" in text:
            hint = "correct the name after the hosts in the Redis URL; SENTINEL MASTERS lists them"
            return self._error(BadConfig, f"the Sentinel at {where} knows no master {self.url.service}", hint)
        if "unknown command" in text:
            hint = "use redis://HOST:PORT/DB, or redis+cluster:// for a Redis Cluster"
            return self._error(BadConfig, f"Redis at {where} is not a Sentinel", hint)
        return error


def _pairs(reply: list[bytes]) -> dict[str, str]:
    texts = [part.decode("utf-8", "replace") for part in reply]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def slot_of(key: str) -> int:
    """The hash slot of a key."""
    return key_slot(key.encode("utf-8", "surrogateescape"))


class _Found(redis.Connection):
    """A connection to the server that its topology finds."""

    def __init__(self, *, topology: Topology, **options: Any) -> None:
        self._topology = topology
        self._generation = -1
        super().__init__(**options)

    @property
    def _address(self) -> Address:
        return self.host, self.port

    def connect(self) -> None:
        topology = self._topology
        if self.is_connected and topology.is_due() and topology.has_moved(self._address):
            topology.generation += 1
        if self.is_connected and self._generation != topology.generation:
            self.disconnect()
        super().connect()

    def _connect(self) -> Any:
        self._generation = self._topology.generation
        self.host, self.port = self._topology.find()
        try:
            return super()._connect()
        except (OSError, RedisError):
            self._topology.unreachable()
            raise

    def on_connect(self) -> None:
        super().on_connect()
        try:
            self._topology.verify(self)
        except DvctlError:
            self.disconnect()
            raise

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            self._await_answer()
            return super().read_response(*args, **options)
        except ResponseError as error:
            if moved_error(error):
                self._topology.generation += 1
            raise
        except (RedisError, OSError):
            self.disconnect()
            self._topology.generation += 1
            raise

    def _await_answer(self) -> None:
        """Wait for the first byte of an answer. Raises redis-py's TimeoutError if another server has taken over."""
        waited, longest = 0.0, self.socket_timeout or math.inf
        while self.is_connected and not self.can_read(min(SILENCE_S, longest - waited)):
            waited += SILENCE_S
            if waited >= longest or self._topology.has_moved(self._address):
                raise redis.TimeoutError(f"Timeout reading from {self._host_error()}")


class _FoundByTls(_Found, redis.SSLConnection):
    """The same with TLS."""


def attach(client: redis.Redis, url: RedisUrl, key: str) -> None:
    """Have the connections of a client find their server as the URL says, for this key."""
    pool: Any = client.connection_pool
    plain, options = pool.connection_class, dict(pool.connection_kwargs)
    topology: Topology
    if url.kind == "cluster":
        topology = ClusterTopology(url, key, plain, options)
    else:
        topology = SentinelTopology(url, plain, options)
    pool.connection_class = _FoundByTls if issubclass(plain, redis.SSLConnection) else _Found
    pool.connection_kwargs["topology"] = topology
    if "socket_connect_timeout=" not in url.plain:
        pool.connection_kwargs["socket_connect_timeout"] = CONNECT_TIMEOUT_S


def topology_of(client: redis.Redis) -> Topology | None:
    """What finds the server of a client; None for a single Redis."""
    topology = client.connection_pool.connection_kwargs.get("topology")
    return topology if isinstance(topology, Topology) else None
