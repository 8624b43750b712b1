"""Names of dvctl's connections in CLIENT LIST, which tell its consumers from DeviceVault's."""

from __future__ import annotations

import secrets
from functools import cache
from hashlib import sha256
from typing import Any
from urllib.parse import quote, unquote

from redis.exceptions import ResponseError

OURS = "dvctl"
_CONSUMER = f"{OURS}:consume:"
_PERMITTED = "!#$&'()*+,/:;=?@[]^`{|}~"
"""Allowed in a name besides letters and digits; everything else is percent-encoded, the percent sign too."""


_MEMBER, _PROCESS = ">", "."
"""In the name of a consumer's connection: what precedes the digest of stream and group, and the process's token."""


def consumer_name(consumer: str, stream: str, group: str) -> str:
    """The name of the connections of `dvctl consume`: `dvctl:consume:CONSUMER>DIGEST.TOKEN`.

    DIGEST: of stream and group, in both of which a consumer's name may stand. TOKEN: this process's own, by which it
    tells its connections from those of a process on another host that has the same name.
    """
    member = sha256(f"{stream}\0{group}".encode("utf-8", "surrogateescape")).hexdigest()[:8]
    named = quote(consumer, safe=_PERMITTED, errors="surrogateescape")
    return f"{_CONSUMER}{named}{_MEMBER}{member}{_PROCESS}{_token()}"


@cache
def _token() -> str:
    return secrets.token_hex(4)


def same_member(name: str, other: str) -> bool:
    """Whether two connections have the names of one consumer of one group, of whatever processes."""
    return name.rpartition(_PROCESS)[0] == other.rpartition(_PROCESS)[0]


def is_ours(name: str) -> bool:
    """Whether a connection of this name is dvctl's."""
    return name == OURS or name.startswith(f"{OURS}:")


def consumer_of(name: str) -> str | None:
    """The consumer of a connection of this name; None if it is not one of `dvctl consume`."""
    if not name.startswith(_CONSUMER):
        return None
    return unquote(name.removeprefix(_CONSUMER).partition(_MEMBER)[0], errors="surrogateescape")


class ConnectionName:
    """Names each connection when it is made. redis-py itself would fail where CLIENT SETNAME is not permitted.

    `refused`: Redis did not permit CLIENT SETNAME.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.refused = False

    def __call__(self, connection: Any) -> None:
        connection.on_connect()
        connection.send_command("CLIENT", "SETNAME", self.name, check_health=False)
        self.refused = False
        try:
            connection.read_response()
        except ResponseError:
            self.refused = True


def naming_of(client: Any) -> ConnectionName | None:
    """What names the connections of a client that `connect` made, else None."""
    naming = client.connection_pool.connection_kwargs.get("redis_connect_func")
    return naming if isinstance(naming, ConnectionName) else None
