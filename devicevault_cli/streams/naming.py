"""Names of dvctl's connections in CLIENT LIST, which tell its consumers from DeviceVault's."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote

from redis.exceptions import ResponseError

OURS = "dvctl"
_CONSUMER = f"{OURS}:consume:"
_PERMITTED = "!#$&'()*+,/:;=?@[]^`{|}~"
"""Allowed in a name besides letters and digits; everything else is percent-encoded, the percent sign too."""


def consumer_name(consumer: str) -> str:
    """The name of the connections of `dvctl consume`."""
    return _CONSUMER + quote(consumer, safe=_PERMITTED, errors="surrogateescape")


def is_ours(name: str) -> bool:
    """Whether a connection of this name is dvctl's."""
    return name == OURS or name.startswith(f"{OURS}:")


def consumer_of(name: str) -> str | None:
    """The consumer of a connection of this name; None if it is not one of `dvctl consume`."""
    return unquote(name.removeprefix(_CONSUMER), errors="surrogateescape") if name.startswith(_CONSUMER) else None


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
