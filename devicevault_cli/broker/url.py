"""Broker URLs as Celery has them, several for fail-over: taken apart without ever repeating one in a message."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from devicevault_cli.errors import BadConfig
from devicevault_cli.redact import invisible, is_whole, redact

_SCHEMES: dict[str, tuple[Literal["amqp", "redis"], bool]] = {
    "amqp": ("amqp", False),
    "pyamqp": ("amqp", False),
    "amqps": ("amqp", True),
    "redis": ("redis", False),
    "rediss": ("redis", True),
    "redis+socket": ("redis", False),
}
_PORTS = {("amqp", False): 5672, ("amqp", True): 5671, ("redis", False): 6379, ("redis", True): 6379}
_VERIFY = {"required": True, "cert_required": True, "none": False, "cert_none": False}
_HINT = (
    "a broker URL is amqp://USER:PASSWORD@HOST:PORT/VHOST, amqps://... or redis://[:PASSWORD@]HOST:PORT/DB, several"
    " of them separated by a semicolon; in a password write @ : / ? # % ; as %40 %3A %2F %3F %23 %25 %3B"
)


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """One broker. `place`: the virtual host of RabbitMQ, the database number of Redis. `socket`: a path, or empty."""

    kind: Literal["amqp", "redis"]
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    place: str
    tls: bool = False
    socket: str = ""
    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    verify: bool = True
    check_hostname: bool = True

    @property
    def shown(self) -> str:
        """What messages call this broker: no user and no password."""
        title = "RabbitMQ" if self.kind == "amqp" else "Redis broker"
        if self.socket:
            return f"{title} {self.socket}, database {self.place}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{title} {host}:{self.port}/{'' if self.place == '/' else self.place}"


def split_urls(text: str) -> list[str]:
    """The URLs of a fail-over list, separated by semicolons; a comma separates them too, where a URL follows it."""
    return [url for part in text.split(";") for url in re.split(r",\s*(?=[a-z+]+://)", part.strip()) if url]


def redact_urls(text: str) -> str:
    """A fail-over list without passwords."""
    return ";".join(map(redact, split_urls(text)))


def parse_broker_url(text: str, name: str = "the broker URL") -> tuple[BrokerAddress, ...]:
    """Take a broker URL, or several, apart. Raises BadConfig, which repeats no part of it."""
    if hidden := invisible(text):
        raise BadConfig(f"{name} {hidden}")
    addresses = tuple(_parse(url, name) for url in split_urls(text))
    if not addresses:
        raise BadConfig(f"{name} is empty", hint=_HINT)
    if len({address.kind for address in addresses}) > 1:
        raise BadConfig(f"{name} names RabbitMQ and Redis: all brokers of a fail-over list must be of one kind")
    return addresses


def _parse(url: str, name: str) -> BrokerAddress:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in _SCHEMES:
        schemes = ", ".join(f"{known}://" for known in _SCHEMES)
        raise BadConfig(f"{name} has no scheme that dvctl supports ({schemes})", hint=_HINT)
    try:
        parts = urlsplit(url)
        if not is_whole(parts) or any(map(str.isspace, url)):
            raise ValueError
        return _address(*_SCHEMES[scheme.lower()], parts, name)
    except ValueError:
        raise BadConfig(f"{name} cannot be read", hint=_HINT) from None


def _address(kind: Literal["amqp", "redis"], tls: bool, parts: SplitResult, name: str) -> BrokerAddress:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    path = unquote(parts.path.removeprefix("/"))
    socket = ""
    if parts.scheme.lower() == "redis+socket":
        socket, path = f"/{path}", options.pop("virtual_host", "0")
    place = path or ("/" if kind == "amqp" else "0")
    if kind == "redis" and not (place.isascii() and place.isdigit()):
        raise BadConfig(f"{name} has a database that is no number", hint=_HINT)
    reqs = options.get("ssl_cert_reqs", "required").lower()
    if reqs not in _VERIFY:
        raise BadConfig(f"{name}: ssl_cert_reqs is neither required nor none")
    default = "guest" if kind == "amqp" else ""  # as Celery has it
    return BrokerAddress(
        kind,
        parts.hostname or "localhost",
        parts.port or _PORTS[kind, tls],
        unquote(parts.username or "") or default,
        default if parts.password is None else unquote(parts.password),
        place,
        tls,
        socket,
        options.get("ssl_ca_certs"),
        options.get("ssl_certfile"),
        options.get("ssl_keyfile"),
        _VERIFY[reqs],
        _VERIFY[reqs] and options.get("ssl_check_hostname", "true").lower() != "false",
    )
