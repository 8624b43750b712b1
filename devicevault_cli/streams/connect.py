"""Makes a client of redis-py from a URL, and translates its errors to dvctl's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from devicevault_cli.errors import BadConfig, Unavailable
from devicevault_cli.redis_url import check_redis_url, parse_redis_url
from devicevault_cli.streams.errors import Client, answered, of_redis, place, translate
from devicevault_cli.streams.naming import OURS, ConnectionName
from devicevault_cli.streams.topology import ClusterTopology, attach, topology_of

__all__ = ["Client", "connect", "other_masters", "place", "separate", "topology_of", "translated"]

SOCKET_TIMEOUT_S = 10.0
"""Above every BLOCK that dvctl uses (5 s at most), so that only a lost reply runs into it."""
READ_BYTES = 1024 * 1024
"""Read from the socket at once: a page of entries has megabytes, and redis-py's 64 KB cost a tenth of the time."""


def connect(url: str, stream: str = "", *, socket_timeout: float = SOCKET_TIMEOUT_S, command: str = "") -> Client:
    """A client for the Redis that holds a stream; nothing is sent before the first command.

    `redis://`, `rediss://` and `unix://` name the server. For a cluster or Sentinels (`streams/topology.py`) it is
    looked up each time a connection is made; on a cluster the client serves the keys of this stream alone.

    Its connections are named after the command (`dvctl:reset-group`) where Redis permits that. The client never repeats
    a command by itself: a second XREADGROUP would answer [] and strand what the first delivered. Raises BadConfig,
    which does not repeat the URL.
    """
    check_redis_url(url)
    parsed = parse_redis_url(url)
    try:
        tcp = {} if urlsplit(parsed.plain).scheme == "unix" else {"socket_keepalive": True}
        client: Client = redis.Redis.from_url(
            parsed.plain,
            protocol=2,
            encoding_errors="surrogateescape",
            socket_timeout=socket_timeout,
            socket_connect_timeout=min(5.0, socket_timeout),
            retry=Retry(NoBackoff(), 0),
            socket_read_size=READ_BYTES,
            driver_info=None,  # the name says more, for one round trip instead of two
            redis_connect_func=ConnectionName(f"{OURS}:{command.replace(' ', '-')}" if command else OURS),
            **tcp,
        )
        _check_options(client)
    except (ValueError, TypeError, AttributeError, redis.RedisError):
        hint = "write it as redis://[:PASSWORD@]HOST:PORT/DB, rediss://... or unix://..."
        raise BadConfig("the Redis URL cannot be read", hint=hint) from None
    _leave_entries_unparsed(client)
    _check_files(client)
    if parsed.kind != "single":
        attach(client, parsed, stream)
    return client


def _check_options(client: Client) -> None:
    """Raise one of redis-py's errors for options that it refuses: it notices them only when a connection is made."""
    pool = client.connection_pool
    pool.max_connections = max(pool.max_connections, 10)  # a URL may serve other programs, which need only one
    pool.connection_class(**pool.connection_kwargs)  # does not connect yet


def _leave_entries_unparsed(client: Client) -> None:
    for name in ("XRANGE", "XREVRANGE", "XREAD", "XREADGROUP"):
        # `replies.entries` makes entries of the raw reply in one step.
        client.set_response_callback(name, lambda reply, **_: reply)


def separate(client: Client, socket_timeout: float) -> Client:
    """Make a client for the same server, with the same name, whose connections are its own. For another thread.

    On a cluster or behind Sentinels both follow the server together.
    """
    pool = client.connection_pool
    timeouts = {"socket_timeout": socket_timeout, "socket_connect_timeout": socket_timeout}
    own = redis.ConnectionPool(pool.connection_class, **(pool.connection_kwargs | timeouts))
    separated: Client = redis.Redis(connection_pool=own)
    _leave_entries_unparsed(separated)
    answered.add(separated)  # what else might listen there is found out by the first client
    return separated


def other_masters(client: Client) -> Iterator[Client]:
    """A client for each other node of a cluster that serves slots, to be closed; nothing for any other Redis."""
    topology = topology_of(client)
    if not isinstance(topology, ClusterTopology):
        return
    with translated(client):
        masters = topology.masters()
    for host, port in masters:
        if (host, port) != topology.found:
            options = topology.options | {"host": host, "port": port}
            yield redis.Redis(connection_pool=redis.ConnectionPool(topology.connection_class, **options))


def _check_files(client: Client) -> None:
    """Raise BadConfig for a file that is missing: redis-py would report a server that cannot be reached."""
    options = client.connection_pool.connection_kwargs
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        try:
            if name in options and not Path(options[name]).is_dir():
                Path(options[name]).open("rb").close()
        except (OSError, ValueError) as error:
            why = f"{name} cannot be read: {getattr(error, 'strerror', None) or 'not a file name'}"
            raise BadConfig(f"Redis at {place(client)}: {why}", hint=f"correct {name} in the Redis URL") from None


_UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)


@contextmanager
def translated(client: Client) -> Iterator[None]:
    """Raise dvctl's errors for redis-py's, and Unavailable for a reply that no Redis gives."""
    try:
        yield
        answered.add(client)
    except redis.RedisError as error:
        raise translate(error, client) from error
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise of_redis(Unavailable(f"Redis at {place(client)} cannot be reached: {why}")) from error
    except _UNREADABLE as error:
        unreadable = Unavailable(
            f"Redis at {place(client)} gave an answer that cannot be read ({type(error).__name__})",
            hint="check that the port is a Redis server, 6.2 or newer, and that no proxy rewrites replies",
        )
        raise of_redis(unreadable) from error
