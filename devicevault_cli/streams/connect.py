"""From a URL to a client, and from redis-py's errors to dvctl's: the one seam to the driver."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthorizationError, NoPermissionError
from redis.retry import Retry

from devicevault_cli.errors import BadConfig, DvctlError, MemoryFull, MissingGroup, Refused, Unavailable, WrongType
from devicevault_cli.streams.naming import OURS, ConnectionName, command_name, named

Client: TypeAlias = redis.Redis

SOCKET_TIMEOUT_S = 10.0
"""Above every BLOCK that dvctl uses (5 s at most), so that only a lost reply runs into it."""
READ_BYTES = 1024 * 1024
"""Taken from the socket at once: a page of entries has megabytes, and redis-py's 64 KB cost a tenth of the time."""


def connect(url: str, *, socket_timeout: float = SOCKET_TIMEOUT_S, command: str = OURS) -> Client:
    """Make a client for `redis://`, `rediss://` or `unix://`; nothing is sent before the first command.

    Its connections are named after the command, as far as Redis permits that.

    The client never repeats a command by itself: a second XREADGROUP would answer [] and strand what the first
    delivered.  Raises BadConfig for a URL that cannot be read (without echoing it).
    """
    try:
        scheme = urlsplit(url).scheme
        if scheme not in ("redis", "rediss", "unix"):
            raise ValueError
        tcp = {} if scheme == "unix" else {"socket_keepalive": True}
        client: Client = redis.Redis.from_url(
            url,
            protocol=2,
            encoding_errors="surrogateescape",
            socket_timeout=socket_timeout,
            socket_connect_timeout=min(5.0, socket_timeout),
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            socket_read_size=READ_BYTES,
            driver_info=None,  # the name says more, for one round trip instead of two
            **tcp,
        )
        pool = client.connection_pool
        pool.connection_class = named(pool.connection_class, ConnectionName(command_name(command)))
        _ = str(pool.connection_kwargs.get("host", "")).encode("idna")
        # An option that redis-py does not know shows only when a connection is made, which does not connect yet.
        pool.connection_class(**pool.connection_kwargs)
        for name in ("XRANGE", "XREVRANGE", "XREAD", "XREADGROUP"):
            # Entries are made of what Redis sent in one step: `streams.stream.entries`.
            client.set_response_callback(name, _as_sent)
        return client
    except (ValueError, TypeError, AttributeError):
        raise BadConfig(
            "the Redis URL cannot be read",
            hint="write it as redis://[:PASSWORD@]HOST:PORT/DB, rediss://... or unix://...",
        ) from None


def _as_sent(reply: Any, **options: Any) -> Any:
    return reply


def place(client: Client) -> str:
    """Where a client connects to, for messages: no password."""
    kwargs = client.connection_pool.connection_kwargs
    if "path" in kwargs:
        return str(kwargs["path"])
    return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}/{kwargs.get('db', 0) or 0}"


_UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)


@contextmanager
def translated(client: Client) -> Iterator[None]:
    """Raise dvctl's errors for redis-py's, and where an answer has not the shape that it has in any Redis."""
    try:
        yield
    except redis.RedisError as error:
        raise _translate(error, client) from error
    except OSError as error:
        raise Unavailable(
            f"Redis at {place(client)} cannot be reached: {error.strerror or type(error).__name__}"
        ) from error
    except _UNREADABLE as error:
        raise Unavailable(
            f"Redis at {place(client)} gave an answer that cannot be read ({type(error).__name__})",
            hint="is this a Redis, 6.2 or newer, and nothing between that changes its answers?",
        ) from error


# Inside a script Redis 6.2 wraps the code into a sentence, so it is searched for, not compared with the first word.
_CODE = re.compile(
    r"\b(NOGROUP|WRONGTYPE|NOAUTH|WRONGPASS|NOPERM|LOADING|READONLY|MISCONF|OOM|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|"
    r"UNBLOCKED|BUSY|NOREPLICAS|EXECABORT)\b"
)
_REACH = "is it running? give its address with --redis-url or DEVICEVAULT_REDIS_URL"
_REACH_TLS = (
    "is it running, does it speak TLS on this port, and are ssl_ca_certs, ssl_certfile and ssl_keyfile in the URL"
    " what it asks for?"
)
_ADVICE = {
    "LOADING": "it is loading its data; wait",
    "READONLY": "it is a replica; use the primary's address",
    "MISCONF": "it cannot write to its disk; see its log",
}


# Redis 7.0 gives no code where a command within a script is not permitted.
_SCRIPT_REFUSED = "The user executing the script can't"
_REFUSED_COMMAND = re.compile(r"'([a-z|]+)' command", re.IGNORECASE)


def _remedy(text: str, client: Client) -> str:
    """The statement that grants the right, as far as Redis says which one is missing."""
    user = client.connection_pool.connection_kwargs.get("username") or "default"
    command = _REFUSED_COMMAND.search(text)
    right = f"+{command[1].lower()}" if command else "RIGHT"
    also = "" if command else " (a command or a key: Redis does not say which)"
    return f"as an administrator: ACL SETUSER {user} {right}{also}; docs/operations.md lists what each role needs"


def _translate(error: Exception, client: Client) -> DvctlError:
    text, where = str(error), place(client)
    # Of an error that it has a class for, redis-py takes the code off the text.
    match = _CODE.search(f"{getattr(error, 'status_code', None) or ''} {text}")
    code = match[1] if match else ""
    if isinstance(error, redis.AuthenticationError) or code in ("NOAUTH", "WRONGPASS"):
        return Refused(
            f"Redis at {where} refuses the login", hint="check the user name and password in DEVICEVAULT_REDIS_URL"
        )
    if isinstance(error, (NoPermissionError, AuthorizationError)) or code == "NOPERM" or _SCRIPT_REFUSED in text:
        return Refused(f"Redis at {where} does not permit this: {_shortened(text)}", hint=_remedy(text, client))
    if code == "NOGROUP" or "requires the key to exist" in text or "no such key" in text:
        return MissingGroup(f"the stream or the consumer group does not exist in Redis at {where}")
    if code == "WRONGTYPE":
        return WrongType(
            f"a key in Redis at {where} holds another type of value", hint="look at it with redis-cli TYPE"
        )
    if isinstance(error, redis.TimeoutError):
        return Unavailable(f"Redis at {where} does not answer", hint="is it overloaded or cut off?")
    if isinstance(error, redis.ConnectionError) and not code:
        return Unavailable(
            f"Redis at {where} cannot be reached: {_shortened(text)}",
            hint=_REACH_TLS if issubclass(client.connection_pool.connection_class, redis.SSLConnection) else _REACH,
        )
    if code == "OOM":
        return MemoryFull(f"Redis at {where} is out of memory", hint="raise maxmemory, or free some with `dvctl trim`")
    return Unavailable(f"Redis at {where} cannot do this now: {_shortened(text)}", hint=_ADVICE.get(code))


def _shortened(text: str) -> str:
    return text.splitlines()[0][:200] if text else "no reason given"
