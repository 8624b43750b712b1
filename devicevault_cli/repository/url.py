"""Database URLs: taken apart without ever echoing one, since a password may stand anywhere in it."""

from __future__ import annotations

from dataclasses import dataclass, field
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
        return DatabaseUrl(
            dialect,
            unquote(parts.path.removeprefix("/")),
            host,
            port,
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            dict(parse_qsl(parts.query)),
            f"{dialect}://{_for_libpq(parts.netloc)}{rest.removeprefix(parts.netloc)}",
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


def _sqlite(rest: str) -> DatabaseUrl:
    if not rest.startswith("/") or len(rest) < 2:
        raise BadConfig("the URL of an SQLite file has three slashes before a relative path, four before another")
    return DatabaseUrl("sqlite", unquote(rest[1:].partition("?")[0]))
