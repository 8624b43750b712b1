"""The fixtures of every test: fresh URLs on shared private servers, or servers of a test's own to break."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from tests.support import servers
from tests.support.amqp_queues import remove_queues
from tests.support.brokers import AmqpBroker, Broker, RedisBroker
from tests.support.celery_worker import StorageWorker
from tests.support.certificates import write_certificates
from tests.support.guard import guarded_directory
from tests.support.mariadb_server import MariaDbServer, mariadb_kind
from tests.support.postgres_server import PostgresServer
from tests.support.process import Dvctl
from tests.support.rabbitmq_server import Control, RabbitServer
from tests.support.recovering import GROUP, table_at
from tests.support.redis_server import ExternalRedis, RedisServer
from tests.support.sqlite_database import SqliteFiles
from tests.support.topologies import RedisCluster, SentinelGroup

_running = servers.Servers()


def pytest_configure(config: pytest.Config) -> None:
    """A shell's background ignores SIGINT, and nohup SIGHUP; what the tests start would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if getattr(config.option, "numprocesses", None):  # of pytest-xdist: its processes inherit the environment
        os.environ[servers.SHARED_DIRECTORY] = str(guarded_directory())


def pytest_report_header() -> list[str]:
    return servers.report()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist tells the process that reports which servers it used."""
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        told["servers"] = sorted(servers.used), sorted(servers.missed)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The other end of it."""
    used, missed = getattr(node, "workeroutput", {}).get("servers", ((), ()))
    servers.used.update(used)
    servers.missed.update(missed)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("servers")
    terminalreporter.line(f"used: {', '.join(sorted(servers.used)) or 'none'}")
    for text in sorted({*servers.missed, *servers.lacking()}):
        terminalreporter.line(f"not run, for want of it: {text}")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or writes what belongs to the person who runs it."""
    for name in os.environ:
        if name.startswith(("DEVICEVAULT_", "DVCTL_", "XDG_", "PG")):
            monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.fixture(autouse=True)
def _no_thread_left_behind() -> Iterator[None]:
    """A thread that outlives its test would write into the next one's Redis."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    for thread in left:
        thread.join(10)
    assert not any(thread.is_alive() for thread in left), f"still running: {left}"


@pytest.fixture(scope="session")
def shared_servers() -> Iterator[servers.Servers]:
    """The servers that tests share; nobody kills or freezes these."""
    yield _running
    _running.remove()


# --- Redis -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def redis_server(shared_servers: servers.Servers) -> RedisServer | ExternalRedis:
    """The shared Redis of one version, emptied."""
    server = shared_servers.redis(servers.some_redis())
    server.fresh()
    return server


@pytest.fixture
def redis_url(redis_server: RedisServer | ExternalRedis) -> str:
    """The URL of an empty Redis."""
    return redis_server.url


@pytest.fixture(params=servers.redis_params())
def each_redis_server(request: pytest.FixtureRequest, shared_servers: servers.Servers) -> RedisServer | ExternalRedis:
    """A shared Redis, emptied; the test runs once for each version there is."""
    server = shared_servers.redis(request.param)
    server.fresh()
    return server


@pytest.fixture
def each_redis_url(each_redis_server: RedisServer | ExternalRedis) -> str:
    """The URL of an empty Redis; the test runs once for each version there is."""
    return each_redis_server.url


@pytest.fixture
def new_redis() -> Iterator[Callable[..., RedisServer]]:
    """Start a Redis of the test's own, to kill, freeze and restart: `new_redis(*AOF, password=..., kind=...)`."""
    made: list[RedisServer] = []

    def start(*args: str, kind: Any = None, **options: Any) -> RedisServer:
        made.append(RedisServer(servers.redis_to_break(kind, tls="tls" in options), *args, **options))
        return made[-1].start()

    yield start
    for server in made:
        server.remove()


@pytest.fixture
def redis_cluster() -> Iterator[RedisCluster]:
    """A Redis Cluster of the test's own: three masters with a replica each."""
    made = RedisCluster(servers.redis_to_break(None, tls=False))
    try:
        yield made.start()
    finally:
        made.remove()


@pytest.fixture
def sentinel_group() -> Iterator[SentinelGroup]:
    """A master of the test's own with two replicas, under three Sentinels."""
    made = SentinelGroup(servers.redis_to_break(None, tls=False))
    try:
        yield made.start()
    finally:
        made.remove()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem, server.pem, server.key, client.pem and client.key for `new_redis(tls=...)`."""
    return write_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def stream_key() -> str:
    """The stream's name as DeviceVault has it."""
    return "device:results"


# --- databases -------------------------------------------------------------------------------------------------------


@pytest.fixture
def postgres_server(shared_servers: servers.Servers) -> PostgresServer:
    """The shared PostgreSQL of one version."""
    return shared_servers.postgres(servers.some_postgres())


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A fresh PostgreSQL database with DeviceVault's tables and fifty devices."""
    yield from _dropped_afterwards(postgres_server)


@pytest.fixture(params=servers.postgres_params())
def each_postgres_url(request: pytest.FixtureRequest, shared_servers: servers.Servers) -> Iterator[str]:
    """A fresh PostgreSQL database; the test runs once for each version there is."""
    yield from _dropped_afterwards(shared_servers.postgres(request.param))


@pytest.fixture
def new_postgres() -> Iterator[Callable[..., PostgresServer]]:
    """Start a PostgreSQL of the test's own: `new_postgres("max_connections=5", durable=True)`."""
    made: list[PostgresServer] = []

    def start(*settings: str, kind: Any = None, **options: Any) -> PostgresServer:
        made.append(PostgresServer(servers.postgres_to_break(kind, tls="tls" in options), *settings, **options))
        return made[-1].start()

    yield start
    for server in made:
        server.remove()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A fresh SQLite file with DeviceVault's tables and fifty devices."""
    return SqliteFiles(tmp_path).database()


@pytest.fixture
def mariadb_server(shared_servers: servers.Servers) -> MariaDbServer:
    """The shared MariaDB; a test that asks for it is skipped where there is none."""
    return shared_servers.mariadb(mariadb_kind())


@pytest.fixture
def mariadb_url(mariadb_server: MariaDbServer) -> Iterator[str]:
    """A fresh MariaDB database with DeviceVault's tables and fifty devices."""
    yield from _dropped_afterwards(mariadb_server)


@pytest.fixture
def new_mariadb() -> Iterator[Callable[..., MariaDbServer]]:
    """Start a MariaDB of the test's own."""
    made: list[MariaDbServer] = []

    def start(*args: str) -> MariaDbServer:
        made.append(MariaDbServer(servers.available(mariadb_kind(), servers.NO_MARIADB, required=False), *args))
        return made[-1].start()

    yield start
    for server in made:
        server.remove()


@pytest.fixture(params=servers.database_params())
def database_backend(request: pytest.FixtureRequest, shared_servers: servers.Servers, tmp_path: Path) -> Any:
    """Something with `database()` and `drop()`: SQLite, each PostgreSQL and MariaDB, one after the other."""
    which, kind = request.param
    if which == "sqlite":
        return SqliteFiles(tmp_path)
    return shared_servers.postgres(kind) if which == "postgres" else shared_servers.mariadb(kind)


@pytest.fixture
def database_url(database_backend: Any) -> Iterator[str]:
    """A fresh database with DeviceVault's tables; the test runs once for SQLite, each PostgreSQL and MariaDB."""
    yield from _dropped_afterwards(database_backend)


@pytest.fixture
def empty_database_url(database_backend: Any) -> Iterator[str]:
    """A fresh database without any table; the test runs once for SQLite, each PostgreSQL and MariaDB."""
    yield from _dropped_afterwards(database_backend, empty=True)


def _dropped_afterwards(server: PostgresServer | MariaDbServer | SqliteFiles, *, empty: bool = False) -> Iterator[str]:
    url = server.database(empty=empty)
    yield url
    server.drop(url)


# --- RabbitMQ --------------------------------------------------------------------------------------------------------


@pytest.fixture
def rabbitmq_url(shared_servers: servers.Servers) -> Iterator[str]:
    """The URL of a fresh virtual host with a user of its own; or DVCTL_TEST_AMQP_URL, its two queues deleted."""
    if servers.GIVEN_AMQP:
        servers.used.add("rabbitmq (given)")
        remove_queues(servers.GIVEN_AMQP)
        yield servers.GIVEN_AMQP
        return
    control = shared_servers.rabbitmq()
    url = control.vhost()
    yield url
    control.drop(url)


@pytest.fixture
def rabbitmq(shared_servers: servers.Servers) -> Control:
    """The shared RabbitMQ node, for users with fewer rights: `rabbitmq.user(rabbitmq_url, write="")`."""
    if servers.GIVEN_AMQP:
        servers.unavailable(servers.NO_CONTROL)
    return shared_servers.rabbitmq()


@pytest.fixture(params=["amqp", "redis"])
def broker(request: pytest.FixtureRequest, redis_server: RedisServer | ExternalRedis) -> Broker:
    """An empty broker for Celery; the test runs once for RabbitMQ, once for Redis (database 1 of `redis_url`'s)."""
    if request.param == "amqp":
        return AmqpBroker(request.getfixturevalue("rabbitmq_url"))
    return RedisBroker(redis_server.url_for(db=1) if isinstance(redis_server, RedisServer) else redis_server.url)


@pytest.fixture
def storage_worker() -> Iterator[Callable[..., StorageWorker]]:
    """Start a real Celery worker with a task `storage.store`: `storage_worker(broker.url, redis_url, delay_s=5)`."""
    made: list[StorageWorker] = []

    def start(*args: str, **options: Any) -> StorageWorker:
        made.append(StorageWorker(*args, **options))
        return made[-1].start()

    yield start
    for worker in made:
        worker.remove()


@pytest.fixture
def new_rabbitmq() -> Iterator[Callable[..., RabbitServer]]:
    """Start a RabbitMQ node of the test's own: `new_rabbitmq({"max_message_size": 65536}, tls=certificates)`."""
    made: list[RabbitServer] = []

    def start(*args: Any, **options: Any) -> RabbitServer:
        found = servers.rabbitmq_to_use()
        made.append(RabbitServer(found, *args, **options))
        return made[-1].start()

    yield start
    for server in made:
        server.remove()


# --- the two libraries, opened ---------------------------------------------------------------------------------------


@pytest.fixture
def stream(redis_url: str, stream_key: str) -> Iterator[Stream]:
    """DeviceVault's stream on an empty Redis; it does not exist yet."""
    with closing(connect(redis_url)) as client:
        yield Stream(client, stream_key)


@pytest.fixture
def group(stream: Stream) -> Group:
    """DeviceVault's group, which has read nothing."""
    group = Group(stream, GROUP)
    group.create()
    return group


@pytest.fixture
def table(sqlite_url: str) -> Iterator[Repository]:
    """The table of results in an SQLite file: no rows, fifty devices."""
    with table_at(sqlite_url) as table:
        yield table


# --- the installed command -------------------------------------------------------------------------------------------


@pytest.fixture
def dvctl(tmp_path: Path) -> Iterator[Dvctl]:
    """The installed `dvctl` as a process, in an environment of its own; what still runs at the end is killed."""
    command = Dvctl(tmp_path)
    yield command
    command.kill_all()
