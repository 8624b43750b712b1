"""What the fault tests share: a PostgreSQL that one after the other breaks, and the right to break it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import psycopg
import pytest

from devicevault_cli.consumer import retry, worker
from tests.support import servers
from tests.support.postgres_server import PostgresServer
from tests.support.rabbitmq_server import RabbitServer

APP = "app"


@pytest.fixture(autouse=True)
def _whole_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dvctl.consume")


@pytest.fixture(autouse=True)
def _short_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer in this process ends once its read does: a second a test would be minutes in all.

    Nor does it wait half a minute between two attempts where a busy machine makes an outage long.
    """
    monkeypatch.setattr(worker, "BLOCK_MS", 150)
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 2.0)


@pytest.fixture(scope="session")
def breakable() -> Iterator[PostgresServer]:
    """A PostgreSQL for the fault tests alone; each heals it again."""
    kind = servers.postgres_to_break(None, tls=False)
    settings = ("max_locks_per_transaction=10", "max_connections=10", "autovacuum=off")
    server = PostgresServer(kind, *settings, durable=True).start()
    server.execute(f"CREATE ROLE {APP} LOGIN")
    yield server
    server.remove()


@pytest.fixture
def database(breakable: PostgresServer) -> Iterator[str]:
    """The URL of a fresh database, as a user who may no more than consuming needs."""
    url = breakable.database()
    name = url.rpartition("/")[2]
    breakable.execute(
        f"GRANT SELECT, INSERT ON devices_devicebackupresult TO {APP}",
        f"GRANT SELECT ON devices_device TO {APP}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {APP}",
        database=name,
    )
    yield breakable.url_for(name, APP)
    breakable.drop(url)


@pytest.fixture
def execute(breakable: PostgresServer, database: str) -> Callable[..., list[tuple[object, ...]]]:
    """Run statements in that database as its superuser."""
    return lambda *statements: breakable.execute(*statements, database=database.rpartition("/")[2])


@pytest.fixture
def other(breakable: PostgresServer, database: str) -> Iterator[psycopg.Connection]:
    """Another session in that database, of the superuser."""
    with psycopg.connect(breakable.url_for(database.rpartition("/")[2]), autocommit=True) as session:
        yield session


@pytest.fixture(scope="session")
def breakable_rabbitmq() -> Iterator[RabbitServer]:
    """A RabbitMQ node for the fault tests alone; each heals it again."""
    server = RabbitServer(servers.rabbitmq_to_use()).start()
    yield server
    server.remove()


@pytest.fixture
def breakable_url(breakable_rabbitmq: RabbitServer) -> Iterator[str]:
    """The URL of a fresh virtual host on that node."""
    url = breakable_rabbitmq.control.vhost()
    yield url
    breakable_rabbitmq.thaw()
    breakable_rabbitmq.control.memory_alarm(False)
    breakable_rabbitmq.control.drop(url)
