"""What an error of redis-py means: wait, give up, or change the configuration. No part of a command is repeated."""

from __future__ import annotations

import re
import ssl
from typing import TypeAlias
from weakref import WeakSet

import redis
from redis.exceptions import AskError, AuthorizationError, ClusterCrossSlotError, InvalidResponse, NoPermissionError

from devicevault_cli.errors import (
    BadConfig,
    DvctlError,
    MemoryFull,
    MissingGroup,
    Refused,
    Unavailable,
    UnknownCommand,
    WrongType,
)
from devicevault_cli.redact import without_command
from devicevault_cli.streams.probe import heard, speaks_tls

Client: TypeAlias = redis.Redis

answered: WeakSet[Client] = WeakSet()
"""Clients that had an answer. What else might listen at their address is asked before the first one only."""

# Inside a script Redis 6.2 wraps the code into a sentence, so it is searched for, not compared with the first word.
_CODE = re.compile(
    r"\b(NOGROUP|WRONGTYPE|NOAUTH|WRONGPASS|NOPERM|DENIED|LOADING|READONLY|MISCONF|OOM|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|"
    r"UNBLOCKED|BUSY|NOREPLICAS|EXECABORT)\b"
)
_SILENT = "check host and port in --redis-url, that the server is not overloaded, and the firewalls between"
_REACH = "is it running? give its address with --redis-url or DEVICEVAULT_REDIS_URL"
_REACH_TLS = (
    "is it running, does it speak TLS on this port, and are ssl_ca_certs, ssl_certfile and ssl_keyfile in the URL"
    " what it asks for?"
)
_NO_CLUSTER = "Redis Cluster is not supported yet; give the address of a Redis without cluster mode"
_ADVICE = {
    "LOADING": "it is loading its data; wait",
    "READONLY": "it is a replica; use the primary's address",
    "MISCONF": "it cannot write to its disk; see its log",
    "CLUSTERDOWN": f"it is a Redis Cluster node; {_NO_CLUSTER}",
}
_PLACE = "set host and port in --redis-url or DEVICEVAULT_REDIS_URL"
# Redis 7.0 gives no code where a command within a script is not permitted.
_SCRIPT_REFUSED = "The user executing the script can't"
_REFUSED_COMMAND = re.compile(r"'([a-z|]+)' command", re.IGNORECASE)
_UNKNOWN_COMMAND = re.compile(r"unknown (?:redis )?command(?: [`']([A-Za-z. _|-]{1,40})[`'])?", re.IGNORECASE)


def place(client: Client) -> str:
    """Where a client connects to, for messages: no password."""
    kwargs = client.connection_pool.connection_kwargs
    if "path" in kwargs:
        return str(kwargs["path"])
    return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}/{kwargs.get('db', 0) or 0}"


def translate(error: redis.RedisError, client: Client) -> DvctlError:
    """dvctl's error for redis-py's, whose own text loses the command too: it is shown as the cause."""
    error.args = (without_command(str(error)), *error.args[1:])
    # Of an error that it has a class for, redis-py takes the code off the text.
    text = " ".join(filter(None, (getattr(error, "status_code", None), str(error))))
    match = _CODE.search(text)
    code = match[1] if match else ""
    where = f"Redis at {place(client)}"
    return (
        _misplaced(error, text, where, client)
        or _refused(error, code, where, client)
        or _by_code(error, code, where)
        or _unreachable(error, code, where, client)
        or Unavailable(f"{where} cannot do this now: {_shortened(error)}", hint=_ADVICE.get(code))
    )


def _misplaced(error: redis.RedisError, text: str, where: str, client: Client) -> DvctlError | None:
    """This is not the server, or not the database, that dvctl can work with."""
    cluster = isinstance(error, (AskError, ClusterCrossSlotError)) or "not allowed in cluster mode" in text
    if cluster or text.startswith(("MOVED ", "ASK ", "CROSSSLOT ")):
        return BadConfig(f"{where} is a Redis Cluster node", hint=_NO_CLUSTER)
    if "DB index is out of range" in text:
        if _mode(_about(client)) == "cluster":
            return BadConfig(f"{where} is a Redis Cluster node, which has only database 0", hint=_NO_CLUSTER)
        database = client.connection_pool.connection_kwargs.get("db")
        return BadConfig(
            f"{where} has no database {database}",
            hint="use a smaller number at the end of the URL: by default there are 0 to 15",
        )
    if unknown := _UNKNOWN_COMMAND.search(text):
        return _unknown_command(unknown[1] or "", where, client)
    if "syntax error" in text:
        return _too_old(_about(client), where)
    return None


def _unknown_command(command: str, where: str, client: Client) -> DvctlError:
    about = _about(client)
    if _mode(about) == "sentinel":
        return _sentinel(where)
    known = f"the command {command.upper()}" if command else "a command that a script of dvctl uses"
    return _too_old(about, where) or UnknownCommand(
        f"{where} does not know {known}",
        hint="enable it in that Redis: rename-command in redis.conf has disabled or renamed it",
    )


def _sentinel(where: str) -> DvctlError:
    return BadConfig(
        f"{where} is a Sentinel, which holds no data",
        hint="give the address of the primary, which SENTINEL MASTERS lists; Sentinel URLs are not supported yet",
    )


def _too_old(about: dict[str, str], where: str) -> DvctlError | None:
    version = str(about.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < (6, 2):
        return BadConfig(f"{where} is version {version}, which is too old", hint="upgrade to Redis 6.2 or newer")
    return None


def _mode(about: dict[str, str]) -> str:
    """`standalone`, `sentinel` or `cluster`, as Redis or as Valkey calls it."""
    return (about.get("redis_mode") or about.get("server_mode") or "").strip()


def _about(client: Client) -> dict[str, str]:
    """INFO server, on a connection that selects no database, which a Sentinel does not have; {} where it is refused."""
    pool = client.connection_pool
    for login in ({}, {"username": None, "password": None}):
        connection = pool.connection_class(**{**pool.connection_kwargs, "db": 0, **login})
        try:
            connection.connect()
            connection.send_command("INFO", "server")
            lines = bytes(connection.read_response()).decode("utf-8", "replace").splitlines()
            return dict(line.split(":", 1) for line in lines if ":" in line)
        except (redis.RedisError, OSError, TypeError, ValueError):
            continue
        finally:
            connection.disconnect()
    return {}


def _refused(error: redis.RedisError, code: str, where: str, client: Client) -> DvctlError | None:
    text = str(error)
    if code == "DENIED":
        return Refused(
            f"{where} is in protected mode: it takes no connections from other hosts while it has no password",
            hint="set requirepass there and the password in DEVICEVAULT_REDIS_URL, or run dvctl on that host",
        )
    if code == "NOAUTH":
        return Refused(
            f"{where} refuses the login: it wants a password and none is given",
            hint="put the password into DEVICEVAULT_REDIS_URL: redis://:PASSWORD@HOST:PORT/DB",
        )
    if "without any password configured" in text or "no password is set" in text:
        if _mode(_about(client)) == "sentinel":
            return _sentinel(where)
        return Refused(
            f"{where} refuses the login: a password is given, but the default user has none",
            hint="remove the password from DEVICEVAULT_REDIS_URL, or add the user name",
        )
    if isinstance(error, redis.AuthenticationError) or code == "WRONGPASS":
        return Refused(
            f"{where} refuses the login: user name or password is wrong",
            hint="check the user name and password in DEVICEVAULT_REDIS_URL",
        )
    if isinstance(error, (NoPermissionError, AuthorizationError)) or code == "NOPERM" or _SCRIPT_REFUSED in text:
        return Refused(f"{where} does not permit this: {_shortened(error)}", hint=_remedy(text, client))
    return None


def _remedy(text: str, client: Client) -> str:
    """The statement that grants the right, as far as Redis says which one is missing."""
    user = client.connection_pool.connection_kwargs.get("username") or "default"
    command = _REFUSED_COMMAND.search(text)
    right = f"+{command[1].lower()}" if command else "RIGHT"
    also = "" if command else " (a command or a key: Redis does not say which)"
    return f"as an administrator: ACL SETUSER {user} {right}{also}; docs/operations.md lists what each role needs"


def _by_code(error: redis.RedisError, code: str, where: str) -> DvctlError | None:
    text = str(error)
    if code == "NOGROUP" or "requires the key to exist" in text or "no such key" in text:
        return MissingGroup(f"the stream or the consumer group does not exist in {where}")
    if code == "WRONGTYPE":
        return WrongType(f"a key in {where} holds another type of value", hint="look at it with redis-cli TYPE")
    if code == "OOM":
        return MemoryFull(f"{where} is out of memory", hint="raise maxmemory, or free some with `dvctl trim`")
    if "max number of clients reached" in text:
        return Unavailable(
            f"{where} has reached its maximum number of clients",
            hint="close connections that CLIENT LIST shows to be idle, or raise maxclients",
        )
    if "exhausted the last possible ID" in text or "equal or smaller than the target stream top item" in text:
        return Unavailable(
            f"a stream in {where} takes no more entries: its last id is the largest there is",
            hint="look at last-generated-id with XINFO STREAM; somebody set it with XSETID or XADD",
        )
    return None


def _unreachable(error: redis.RedisError, code: str, where: str, client: Client) -> DvctlError | None:
    encrypted = issubclass(client.connection_pool.connection_class, redis.SSLConnection)
    first = client not in answered and not code and _may_be_another_server(error)
    if first and (found := (_instead_of_tls if encrypted else _instead_of_plain)(where, client)):
        return found
    if isinstance(error, InvalidResponse):
        hint = "check that the port is a Redis server and that no proxy rewrites replies"
        return Unavailable(f"{where} gave an answer that cannot be read", hint=hint)
    if isinstance(error, redis.TimeoutError):
        return Unavailable(f"{where} does not answer", hint=_REACH_TLS if encrypted else _SILENT)
    if isinstance(error, redis.ConnectionError) and not code:
        return Unavailable(f"{where} cannot be reached: {_shortened(error)}", hint=_REACH_TLS if encrypted else _REACH)
    return None


def _may_be_another_server(error: redis.RedisError) -> bool:
    """Something accepted the connection and then did not answer as Redis does."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return False
    lost = isinstance(cause, (ConnectionResetError, BrokenPipeError, ssl.SSLError)) or "closed by server" in str(error)
    return lost or isinstance(error, InvalidResponse) or "handshake" in str(cause)


def _instead_of_plain(where: str, client: Client) -> DvctlError | None:
    address = client.connection_pool.connection_kwargs
    said = heard(address)
    if said is None:
        return None
    if said[:1] == b"-":
        # A refusal of the connection itself, which redis-py has lost with it.
        return translate(redis.ResponseError(said[1:].partition(b"\r\n")[0].decode("utf-8", "replace")), client)
    if not said:
        return _tls_only(where) if speaks_tls(address) else None
    return None if said[:1] == b"+" else _no_redis(said, where)


def _instead_of_tls(where: str, client: Client) -> DvctlError | None:
    said = heard(client.connection_pool.connection_kwargs)
    if not said:
        return None
    if said[:1] in {b"-", b"+"}:
        return BadConfig(f"{where} does not speak TLS on this port", hint="use redis:// instead of rediss://")
    return _no_redis(said, where)


def _tls_only(where: str) -> DvctlError:
    return BadConfig(f"{where} speaks TLS on this port", hint="use rediss:// instead of redis://")


def _no_redis(said: bytes, where: str) -> DvctlError:
    kinds = {b"HTTP/": "a web server (HTTP)", b"<": "a web server (HTTP)", b"SSH-": "an SSH server"}
    kind = next((kind for start, kind in kinds.items() if said.startswith(start)), "another kind of server")
    return BadConfig(f"{where.removeprefix('Redis at ')} is {kind}, not Redis", hint=_PLACE)


def _shortened(error: BaseException) -> str:
    text = str(error)
    return text.splitlines()[0][:200] if text else "no reason given"
