"""Database URLs: taken apart without ever echoing one, since a password may stand anywhere in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from devicevault_cli.errors import BadConfig
from devicevault_cli.redact import is_whole

_HINT = "a database URL is postgresql://USER@HOST/NAME, mysql://USER@HOST/NAME or sqlite:////path/to/file"
_QUOTING = "in a password write @ : / ? # % as %40 %3A %2F %3F %23 %25"
_DIALECTS = {"postgres": "postgresql", "postgresql": "postgresql", "mysql": "mysql", "sqlite": "sqlite"}


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A database URL in parts. `name` is the database, or the path of the SQLite file."""

    dialect: str
    name: str
    host: str = ""
    port: int | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    options: dict[str, str] = field(default_factory=dict, repr=False)
    text: str = field(default="", repr=False)

    @property
    def shown(self) -> str:
        """What messages call this database: no user, no password, no options."""
        if self.dialect == "sqlite":
            return f"SQLite file {self.name}"
        title = "PostgreSQL" if self.dialect == "postgresql" else "MySQL"
        return f"{title} {self.host or 'localhost'}{f':{self.port}' if self.port else ''}/{self.name}"

    @property
    def names_several(self) -> bool:
        """Whether it names several hosts, of which the first that can be used is taken."""
        return "," in self.host

    def at(self, host: str, port: int) -> DatabaseUrl:
        """The same database on one of the hosts, for messages."""
        return replace(self, host=f"[{host}]" if ":" in host else host, port=port)


def parse_url(url: str) -> DatabaseUrl:
    """Take a database URL apart. Raises BadConfig, which does not repeat the URL."""
    scheme, separator, rest = url.partition("://")
    dialect = _DIALECTS.get(scheme.partition("+")[0].lower())
    if not separator or dialect is None:
        raise BadConfig("the database URL has no known scheme", hint=_HINT)
    if dialect == "sqlite":
        return _sqlite(rest)
    try:
        parts = urlsplit(f"{dialect}://{rest}")
        if not (is_whole(parts) and rest.isprintable()):
            raise ValueError
        host, port = _hosts(parts.netloc) if dialect == "postgresql" else (parts.hostname or "", parts.port)
        query = parts.query
        if dialect == "postgresql":
            host, port, query = _hosts_in_query(query, host, port)
        rest = rest.removeprefix(parts.netloc).partition("?")[0] + (f"?{query}" if query else "")
        return DatabaseUrl(
            dialect,
            unquote(parts.path.removeprefix("/")),
            host,
            port,
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            dict(parse_qsl(parts.query)),
            f"{dialect}://{_for_libpq(parts.netloc)}{rest}",
        )
    except ValueError:
        raise BadConfig("the database URL cannot be read", hint=f"{_HINT}; {_QUOTING}") from None


def _for_libpq(netloc: str) -> str:
    """Hosts, with user and password quoted: libpq takes the first @ for their end, and names what follows as a host."""
    login, at, hosts = netloc.rpartition("@")
    user, colon, password = login.partition(":")
    return f"{quote(unquote(user), safe='')}{colon}{quote(unquote(password), safe='')}{at}{hosts}"


def _hosts(netloc: str) -> tuple[str, int | None]:
    """PostgreSQL's URLs may name several hosts, which is more than urlsplit reads."""
    hosts = unquote(netloc.rpartition("@")[2])
    host, _, port = hosts.rpartition(":") if hosts.rpartition("]")[2].count(":") else (hosts, "", "")
    return (host, int(port)) if port and "," not in hosts else (hosts, None)


def _hosts_in_query(query: str, host: str, port: int | None) -> tuple[str, int | None, str]:
    """Hosts given as parameters: `host=a:1&host=b:2`, as SQLAlchemy spells several, or `host=a,b&port=1,2`.

    -> hosts and port to show, and the query in the spelling of libpq, which takes the last of several `host=`.
    """
    pieces = query.split("&")
    hosts = [name for value in _values(pieces, "host") for name in value.split(",")]
    if not any(hosts):
        return host, port, query
    common = [number for value in _values(pieces, "port") for number in value.split(",")]
    common = common * len(hosts) if len(common) == 1 else common
    places = [_place(name, number) for name, number in zip_longest(hosts, common[: len(hosts)], fillvalue="")]
    if [name for name, _ in places] == hosts and query.count("host=") == 1:
        spelled = query
    else:
        spelled = "&".join(
            (
                *(piece for piece in pieces if piece.partition("=")[0] not in ("host", "port")),
                "host=" + quote(",".join(name for name, _ in places), safe="/,"),
                *(["port=" + ",".join(number for _, number in places)] if any(n for _, n in places) else []),
            )
        )
    if len(places) == 1:
        [(name, number)] = places
        return name, int(number) if number else None, spelled
    return ",".join(f"{name}:{number}" if number else name for name, number in places), None, spelled


def _values(pieces: Sequence[str], name: str) -> list[str]:
    """The decoded values of a parameter; a plus stands for itself, as for libpq."""
    return [unquote(piece.partition("=")[2]) for piece in pieces if piece.partition("=")[0] == name]


def _place(host: str, port: str) -> tuple[str, str]:
    """A host and its port. `host`: a name, an address, `name:port`, `[address]:port`, or the directory of a socket."""
    if not host.startswith("/") and (host.startswith("[") or host.count(":") == 1):
        name, _, own = host.removeprefix("[").rpartition("]" if host.startswith("[") else ":")
        host, port = name, own.removeprefix(":") or port
    if port and not 0 < int(port) < 65_536:
        raise ValueError(port)
    return host, port


def _sqlite(rest: str) -> DatabaseUrl:
    if not rest.startswith("/") or len(rest) < 2:
        raise BadConfig("the URL of an SQLite file has three slashes before a relative path, four before another")
    return DatabaseUrl("sqlite", unquote(rest[1:].partition("?")[0]))
