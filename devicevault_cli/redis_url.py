"""Redis URLs: checked before anything connects. A message names the part that is wrong, never its text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from devicevault_cli.errors import BadConfig
from devicevault_cli.redact import invisible, is_whole

SCHEMES = ("redis", "rediss", "unix")
_SEVERAL = ("redis+cluster", "redis+sentinel", "rediss+cluster", "rediss+sentinel")
_PORTS = {"cluster": 6379, "sentinel": 26379}
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
_ESCAPES = "in a password write @ : / ? # % as %40 %3A %2F %3F %23 %25"
_HINT = f"write it as redis://[:PASSWORD@]HOST:PORT/DB, rediss://... or unix:///SOCKET?db=DB; {_ESCAPES}"
_HINTS = {
    "cluster": f"write it as redis+cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT or rediss+cluster://...; {_ESCAPES}",
    "sentinel": (
        "write it as redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/SERVICE/DB or rediss+sentinel://..., with"
        f" ?sentinel_username=...&sentinel_password=... for Sentinels that want a login; {_ESCAPES}"
    ),
}

Address: TypeAlias = tuple[str, int]
"""Host and port."""
Kind: TypeAlias = Literal["single", "cluster", "sentinel"]


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """What a Redis URL says. `plain`: the URL for redis-py, of the first node, with login, database and options.

    `nodes`: those to ask which server holds the stream; () for a single Redis. `service`: the master's name for the
    Sentinels. `sentinel_username` and `sentinel_password`: the login there.
    """

    kind: Kind
    plain: str
    nodes: tuple[Address, ...] = ()
    service: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = None

    @property
    def places(self) -> str:
        """The nodes, for messages."""
        return ",".join(map(shown_address, self.nodes))

    @property
    def meaning(self) -> str:
        """What is connected to, for people; '' for a single Redis, whose URL says it."""
        if self.kind == "cluster":
            return f"the node of a Redis Cluster that serves the stream; asked: {self.places}"
        return f"the master {self.service} that the Sentinels name; asked: {self.places}" if self.nodes else ""


def shown_address(address: Address) -> str:
    """`HOST:PORT`, an IPv6 address in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_redis_url(url: str) -> RedisUrl:
    """What a URL says that `check_redis_url` has accepted."""
    scheme = url.partition("://")[0]
    if scheme not in _SEVERAL:
        return RedisUrl("single", url)
    parts = _Several.of(url)
    kind: Kind = "cluster" if scheme.endswith("cluster") else "sentinel"
    nodes = tuple(_address(f"//{host}", _PORTS[kind]) for host in parts.hosts)
    first = next(parts.plain())
    if kind == "cluster":
        return RedisUrl(kind, first, nodes)
    login = {name: unquote(value) for name, value in parts.sentinel_options}
    return RedisUrl(kind, first, nodes, unquote(parts.service), *map(login.get, _SENTINEL_OPTIONS))


def _address(place: str, port: int) -> Address:
    parts = urlsplit(place)
    return unquote(parts.hostname or ""), parts.port or port


class _Several(NamedTuple):
    """The parts of a URL with several hosts, still percent-encoded. `sentinel_options`: names and values."""

    scheme: str
    login: str
    hosts: tuple[str, ...]
    service: str
    database: str
    options: tuple[str, ...]
    sentinel_options: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, url: str) -> _Several:
        scheme, _, rest = url.partition("://")
        place, _, query = rest.partition("?")
        authority, _, path = place.partition("/")
        userinfo, at, hosts = authority.rpartition("@")
        sentinel = scheme.endswith("sentinel")
        service, _, database = path.partition("/") if sentinel else ("", "", path)
        options = query.split("&") if query else []
        theirs = [option for option in options if sentinel and option.partition("=")[0] in _SENTINEL_OPTIONS]
        own = tuple(option for option in options if option not in theirs)
        pairs = tuple((name, value) for name, _, value in (option.partition("=") for option in theirs))
        return cls(scheme, userinfo + at, tuple(hosts.split(",")), service, database, own, pairs)

    def plain(self) -> Iterator[str]:
        """A URL of a single Redis for each host."""
        query = f"?{'&'.join(self.options)}" if self.options else ""
        database = f"/{self.database}" if self.database else ""
        return (f"{self.scheme.partition('+')[0]}://{self.login}{host}{database}{query}" for host in self.hosts)


_WHOLE = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?", re.ASCII)


def check_redis_url(url: str, name: str = "the Redis URL") -> None:
    """Raise BadConfig, which does not repeat the URL, for one that redis-py would refuse or read as another."""
    problem = _problem(url)
    if problem:
        raise BadConfig(f"{name} {problem}", hint=_HINTS.get(url.partition("://")[0].partition("+")[2], _HINT))


def _problem(url: str) -> str | None:
    """What is wrong, as the end of a sentence that begins with "the Redis URL"."""
    if hidden := invisible(url):
        return hidden
    if any(map(str.isspace, url)):
        return "has a space in it"
    scheme, separator, _ = url.partition("://")
    if separator and scheme in _SEVERAL:
        return _problem_of_several(url)
    if not separator or scheme not in SCHEMES:
        return (
            "cannot be read: it does not begin with redis://, rediss:// or unix://,"
            " nor with redis+cluster:// or redis+sentinel://"
        )
    try:
        url.encode()
        parts = urlsplit(url)
    except UnicodeEncodeError:
        return "is not UTF-8"
    except ValueError:
        return "cannot be read: its host is not a host name or an address"
    if not is_whole(parts) or "@" in parts.query:
        return _STRAY
    options = parse_qsl(parts.query, keep_blank_values=True)
    return _wrong_place(parts) or _wrong_options(options, parts)


_STRAY = "cannot be read: it has an @, # or ? that is part of no password, host or option"


def _problem_of_several(url: str) -> str | None:
    """Of a URL for a cluster or for Sentinels: its own parts, then each host in a URL of a single Redis."""
    parts = _Several.of(url)
    if "@" in parts.service + parts.database or "#" in url:
        return _STRAY
    if not all(host.partition(":")[0] for host in parts.hosts):
        return "has no host before a comma, a port or the end of the hosts"
    if parts.scheme.endswith("sentinel"):
        if not parts.service:
            return "names no service: the name that the Sentinels have for the master stands after the hosts"
        if len({name for name, _ in parts.sentinel_options}) < len(parts.sentinel_options):
            return "gives the login of the Sentinels more than once"
        if empty := next((name for name, value in parts.sentinel_options if not value), None):
            return f"has the option {empty}, which is empty"
    elif parts.database not in ("", "0", "0/") or any(_other_database(option) for option in parts.options):
        return "has a database other than 0, the only one of a Redis Cluster"
    return next(filter(None, map(_problem, parts.plain())), None)


def _other_database(option: str) -> bool:
    name, _, value = option.partition("=")
    return name == "db" and value != "0"


def _wrong_place(parts: SplitResult) -> str | None:
    """Of host, port and database, or the path of the socket."""
    if parts.scheme == "unix":
        if parts.netloc.rpartition("@")[2]:
            return "has a host before the path of the socket: a path begins with a third slash, unix:///PATH"
        return None if parts.path.strip("/") else "has no path of a socket"
    try:
        if parts.port == 0:
            raise ValueError
    except ValueError:
        return "has a port that is not a number from 1 to 65535"
    try:
        unquote(parts.hostname or "").encode("idna")
    except ValueError:
        return "has a host that is not a host name or an address"
    database = parts.path.removeprefix("/").removesuffix("/")
    if "/" in database:
        return "has more than one part after the host: only the database number stands there"
    return _database(database) if parts.path not in ("", "/") else None


def _wrong_options(options: list[tuple[str, str]], parts: SplitResult) -> str | None:
    elsewhere = {
        "db": parts.scheme != "unix" and parts.path not in ("", "/"),
        "username": parts.username is not None,
        "password": parts.password is not None,
    }
    seen = {name for name, given in elsewhere.items() if given}
    for name, value in options:
        if name not in _OPTIONS:
            return f"has an unknown option {name[:40]!r}"
        if name in seen:
            return f"gives {name} more than once"
        if name.startswith("ssl_") and parts.scheme != "rediss":
            return f"has the option {name}, which needs rediss://"
        if wrong := _OPTIONS[name](value):
            return wrong if name == "db" else f"has the option {name}, {wrong}"
        seen.add(name)
    return None


# --- what a value must be: each -> what is wrong, as the end of a sentence, or None ----------------------------------

_Check = Callable[[str], str | None]


def _database(text: str) -> str | None:
    whole = _WHOLE.fullmatch(text) and int(text) < 2**31
    return None if whole else "has a database that is not a number such as 0 or 1"


def _text(text: str) -> str | None:
    return None if text else "which is empty"


def _flag(text: str) -> str | None:
    # These alone: redis-py takes any other text, `off` for one, for yes.
    return None if text.lower() in {"true", "false", "yes", "no", "1", "0"} else "which is neither true nor false"


def _seconds(text: str) -> str | None:
    usable = _DECIMAL.fullmatch(text) and math.isfinite(float(text)) and 0 < float(text) <= 3600
    return None if usable else "which is not a number of seconds above 0, 3600 at most"


def _between(least: int, most: int) -> _Check:
    def check(text: str) -> str | None:
        inside = _WHOLE.fullmatch(text) and least <= int(text) <= most
        return None if inside else f"which is not a number from {least} to {most}"

    return check


def _one_of(*choices: str) -> _Check:
    return lambda text: None if text in choices else f"which is not one of {', '.join(choices)}"


_OPTIONS: dict[str, _Check] = {
    "db": _database,
    **dict.fromkeys(("username", "password", "client_name", "ssl_password", "ssl_ca_data", "ssl_ciphers"), _text),
    **dict.fromkeys(("ssl_ca_path", "ssl_include_verify_flags", "ssl_exclude_verify_flags"), _text),
    **dict.fromkeys(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), _text),
    **dict.fromkeys(("socket_keepalive", "retry_on_timeout", "ssl_check_hostname"), _flag),
    **dict.fromkeys(("socket_timeout", "socket_connect_timeout"), _seconds),
    "ssl_cert_reqs": _one_of("none", "optional", "required"),
    "ssl_min_version": _between(769, 772),
    "health_check_interval": _between(0, 86_400),
    "max_connections": _between(1, 2**31 - 1),
    "socket_read_size": _between(1, 2**26),
}
"""Options that redis-py knows, without those that would change how dvctl speaks to Redis (`protocol`, for one)."""
