"""What an error of redis-py means: retry, stop, or change the configuration. No part of a command is repeated."""

from __future__ import annotations

import re
import ssl
from typing import NamedTuple, TypeAlias
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
from devicevault_cli.streams.probe import first_bytes, server_facts, speaks_tls
from devicevault_cli.streams.topology import moved_error, topology_of

Client: TypeAlias = redis.Redis

answered: WeakSet[Client] = WeakSet()
"""Clients that had an answer. Whether another kind of server listens is examined only before the first answer."""

_SILENT = "check host and port in --redis-url, that the server is not overloaded, and the firewalls between"
_REACH = "check that it is running, and its address in --redis-url or DEVICEVAULT_REDIS_URL"
_REACH_TLS = (
    "check that it is running and speaks TLS here, and ssl_ca_certs, ssl_certfile and ssl_keyfile in --redis-url"
)
_PLACE = "set host and port in --redis-url or DEVICEVAULT_REDIS_URL"
_USE_CLUSTER = "use {cluster} in --redis-url or DEVICEVAULT_REDIS_URL, with several nodes separated by commas"
_UNNAMED_RIGHT = "RIGHT (a command or a key: Redis does not say which)"
_BUSY = "{where} cannot do this now: {reason}"
_NO_DATABASE = "DB index is out of range"
_NO_PASSWORD = ("without any password configured", "no password is set")
_ASK_SERVER = (*_NO_PASSWORD, _NO_DATABASE, "syntax error")


class _Rule(NamedTuple):
    """A kind of error, recognized by its code, a phrase in its text, or redis-py's class for it.

    `message` and `hint` may hold {where}, {reason} (the first line of the text), {user}, {right}, {database} and
    {cluster} (the URL of the same node for a cluster).
    """

    error: type[DvctlError]
    message: str
    hint: str | None = None
    codes: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    classes: tuple[type[redis.RedisError], ...] = ()


_RULES = (
    _Rule(
        BadConfig, "{where} is a Redis Cluster node", _USE_CLUSTER,
        ("MOVED", "ASK", "CROSSSLOT"), ("not allowed in cluster mode",), (AskError, ClusterCrossSlotError),
    ),
    _Rule(
        Refused, "{where} is in protected mode: it takes no connections from other hosts while it has no password",
        "set requirepass there and the password in DEVICEVAULT_REDIS_URL, or run dvctl on that host", ("DENIED",),
    ),
    _Rule(
        Refused, "{where} refuses the login: it wants a password and none is given",
        "put the password into DEVICEVAULT_REDIS_URL: redis://:PASSWORD@HOST:PORT/DB", ("NOAUTH",),
    ),
    _Rule(
        BadConfig, "{where} has no database {database}",
        "use a smaller number at the end of the URL: by default there are 0 to 15", phrases=(_NO_DATABASE,),
    ),
    _Rule(
        Refused, "{where} refuses the login: a password is given, but the default user has none",
        "remove the password from DEVICEVAULT_REDIS_URL, or add the user name", phrases=_NO_PASSWORD,
    ),
    _Rule(
        Refused, "{where} refuses the login: user name or password is wrong",
        "check the user name and password in DEVICEVAULT_REDIS_URL; see `dvctl help credentials-rotated`",
        ("WRONGPASS",), classes=(redis.AuthenticationError,),
    ),
    _Rule(
        Refused, "{where} does not permit this: {reason}",
        "as an administrator: ACL SETUSER {user} {right}; docs/operations.md lists what each role needs", ("NOPERM",),
        ("The user executing the script can't",),  # 7.0 gives no code where a command within a script is not permitted
        (NoPermissionError, AuthorizationError),
    ),
    _Rule(
        MissingGroup, "the stream or the consumer group does not exist in {where}", None,
        ("NOGROUP",), ("requires the key to exist", "no such key"),
    ),
    _Rule(WrongType, "a key in {where} holds another type of value", "look at it with redis-cli TYPE", ("WRONGTYPE",)),
    _Rule(MemoryFull, "{where} is out of memory", "raise maxmemory, or free some with `dvctl trim`", ("OOM",)),
    _Rule(
        Unavailable, "{where} has reached its maximum number of clients",
        "close connections that CLIENT LIST shows to be idle, or raise maxclients",
        phrases=("max number of clients reached",),
    ),
    _Rule(
        Unavailable, "a stream in {where} takes no more entries: its last id is the largest there is",
        "look at last-generated-id with XINFO STREAM; somebody set it with XSETID or XADD",
        phrases=("exhausted the last possible ID", "equal or smaller than the target stream top item"),
    ),
    _Rule(Unavailable, _BUSY, "it is loading its data; wait", ("LOADING",)),
    _Rule(Unavailable, _BUSY, "it is a replica; use the primary's address", ("READONLY",)),
    _Rule(Unavailable, _BUSY, "it cannot write to its disk; see its log", ("MISCONF",)),
    _Rule(Unavailable, _BUSY, f"it is a Redis Cluster node; {_USE_CLUSTER}", ("CLUSTERDOWN",)),
    _Rule(Unavailable, _BUSY, None, ("TRYAGAIN", "MASTERDOWN", "UNBLOCKED", "BUSY", "NOREPLICAS", "EXECABORT")),
)  # fmt: skip
"""The first rule that fits applies."""

# Inside a script Redis 6.2 wraps the code into a sentence, so it is searched for, not compared with the first word.
_CODE = re.compile(rf"^(?:MOVED|ASK|CROSSSLOT) |\b(?:{'|'.join(code for rule in _RULES[1:] for code in rule.codes)})\b")
_REFUSED_COMMAND = re.compile(r"'([a-z|]+)' command", re.IGNORECASE)
_UNKNOWN_COMMAND = re.compile(r"unknown (?:redis )?command(?: [`']([A-Za-z. _|-]{1,40})[`'])?", re.IGNORECASE)


def place(client: Client) -> str:
    """Where a client connects to, for messages: no password."""
    kwargs = client.connection_pool.connection_kwargs
    if topology := topology_of(client):
        return topology.place
    if "path" in kwargs:
        return str(kwargs["path"])
    return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}/{kwargs.get('db', 0) or 0}"


def translate(error: redis.RedisError, client: Client) -> DvctlError:
    """dvctl's error for redis-py's, whose own text loses the command too: it is shown as the cause."""
    error.args = (without_command(str(error)), *error.args[1:])
    # Of an error that it has a class for, redis-py takes the code off the text.
    text = " ".join(filter(None, (getattr(error, "status_code", None), str(error))))
    where = f"Redis at {place(client)}"
    return of_redis(
        _moving_server(text, where, client)
        or _unsuitable_server(text, where, client)
        or _by_rule(error, text, where, client)
        or _unreachable(error, where, client)
        or Unavailable(_BUSY.format(where=where, reason=_first_line(error)))
    )


def of_redis(error: DvctlError) -> DvctlError:
    """Mark an error as one of Redis."""
    error.server = "redis"
    return error


def _by_rule(error: redis.RedisError, text: str, where: str, client: Client) -> DvctlError | None:
    match = _CODE.search(text)
    code = match[0].strip() if match else None
    for rule in _RULES:
        if code in rule.codes or any(phrase in text for phrase in rule.phrases) or isinstance(error, rule.classes):
            login = client.connection_pool.connection_kwargs
            refused = _REFUSED_COMMAND.search(text)
            words = {
                "where": where,
                "reason": _first_line(error),
                "user": login.get("username") or "default",
                "right": f"+{refused[1].lower()}" if refused else _UNNAMED_RIGHT,
                "database": login.get("db"),
                "cluster": _cluster_url(client),
            }
            return rule.error(rule.message.format(**words), hint=rule.hint.format(**words) if rule.hint else None)
    return None


def _moving_server(text: str, where: str, client: Client) -> DvctlError | None:
    """What a server of a cluster or behind Sentinels says while another one takes over, or just after it."""
    if topology_of(client) is None or not moved_error(text):
        return None
    hint = "a fail-over or the move of a slot is going on; the server is looked up again at the next attempt"
    return Unavailable(_BUSY.format(where=where, reason=text.splitlines()[0][:200]), hint=hint)


def _cluster_url(client: Client) -> str:
    address = client.connection_pool.connection_kwargs
    encrypted = issubclass(client.connection_pool.connection_class, redis.SSLConnection)
    place = "HOST:PORT" if "path" in address else f"{address.get('host', 'localhost')}:{address.get('port', 6379)}"
    return f"redis{'s' if encrypted else ''}+cluster://{place}"


def _unsuitable_server(text: str, where: str, client: Client) -> DvctlError | None:
    """What only INFO can tell: a Sentinel, a cluster, or a version that is too old."""
    unknown = _UNKNOWN_COMMAND.search(text)
    if not unknown and not any(phrase in text for phrase in _ASK_SERVER):
        return None
    facts = server_facts(client)
    mode = (facts.get("redis_mode") or facts.get("server_mode") or "").strip()  # as Redis or as Valkey calls it
    if mode == "sentinel":
        return BadConfig(
            f"{where} is a Sentinel, which holds no data",
            hint="use redis+sentinel://HOST:PORT/SERVICE/DB, or the primary's address; SENTINEL MASTERS lists both",
        )
    if mode == "cluster" and _NO_DATABASE in text:
        return BadConfig(
            f"{where} is a Redis Cluster node, which has only database 0",
            hint=_USE_CLUSTER.format(cluster=_cluster_url(client)),
        )
    version = facts.get("redis_version", "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if () < numbers < (6, 2) and (unknown or "syntax error" in text):
        return BadConfig(f"{where} is version {version}, which is too old", hint="upgrade to Redis 6.2 or newer")
    if not unknown:
        return None
    known = f"the command {unknown[1].upper()}" if unknown[1] else "a command that a script of dvctl uses"
    return UnknownCommand(
        f"{where} does not know {known}",
        hint="enable it in that Redis: rename-command in redis.conf has disabled or renamed it",
    )


def _unreachable(error: redis.RedisError, where: str, client: Client) -> DvctlError | None:
    encrypted = issubclass(client.connection_pool.connection_class, redis.SSLConnection)
    if client not in answered and topology_of(client) is None and _may_be_another_server(error):
        another = _another_server(where, client, encrypted=encrypted)
        if another:
            return another
    if isinstance(error, InvalidResponse):
        hint = "check that the port is a Redis server and that no proxy rewrites replies"
        return Unavailable(f"{where} gave an answer that cannot be read", hint=hint)
    if isinstance(error, redis.TimeoutError):
        return Unavailable(f"{where} does not answer", hint=_REACH_TLS if encrypted else _SILENT)
    if isinstance(error, redis.ConnectionError):
        return Unavailable(f"{where} cannot be reached: {_first_line(error)}", hint=_REACH_TLS if encrypted else _REACH)
    return None


def _may_be_another_server(error: redis.RedisError) -> bool:
    """Whether something accepted the connection and then did not answer as Redis does."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return False
    lost = isinstance(cause, (ConnectionResetError, BrokenPipeError, ssl.SSLError)) or "closed by server" in str(error)
    return lost or isinstance(error, InvalidResponse) or "handshake" in str(cause)


def _another_server(where: str, client: Client, *, encrypted: bool) -> DvctlError | None:
    """What listens there instead of a Redis, or of one that speaks TLS or does not, as the URL says."""
    address = client.connection_pool.connection_kwargs
    greeting = first_bytes(address)
    if not greeting:
        tls = greeting is not None and not encrypted and speaks_tls(address)
        return BadConfig(f"{where} speaks TLS on this port", hint="use rediss:// instead of redis://") if tls else None
    if greeting[:1] in {b"-", b"+"}:
        if encrypted:
            return BadConfig(f"{where} does not speak TLS on this port", hint="use redis:// instead of rediss://")
        # A refusal of the connection itself, which redis-py has lost with it.
        line = greeting[1:].partition(b"\r\n")[0].decode("utf-8", "replace")
        return translate(redis.ResponseError(line), client) if greeting[:1] == b"-" else None
    kinds = {b"HTTP/": "a web server (HTTP)", b"<": "a web server (HTTP)", b"SSH-": "an SSH server"}
    kind = next((kind for start, kind in kinds.items() if greeting.startswith(start)), "another kind of server")
    return BadConfig(f"{where.removeprefix('Redis at ')} is {kind}, not Redis", hint=_PLACE)


def _first_line(error: BaseException) -> str:
    text = str(error)
    return text.splitlines()[0][:200] if text else "no reason given"
