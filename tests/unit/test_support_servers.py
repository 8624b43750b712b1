"""The private servers do what the tests ask of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support import django_models, records
from tests.support.mariadb_server import MariaDbServer
from tests.support.postgres_server import PostgresServer
from tests.support.redis_server import AOF, ExternalRedis, RedisServer
from tests.support.schema import ASSIGN_LOCATIONS, DEVICES
from tests.support.server import ServerFailed, ServerProcess, wait_until


def test_each_redis_is_empty_and_of_the_version_it_says(each_redis_server: RedisServer | ExternalRedis) -> None:
    with each_redis_server.client() as client:
        assert client.dbsize() == 0
        kind, about = each_redis_server.kind, client.info("server")
        assert about["valkey_version" if kind.is_valkey else "redis_version"].startswith(f"{kind.version}.")
        client.set("left", "over")
    each_redis_server.fresh()
    with each_redis_server.client() as client:
        assert client.dbsize() == 0


def test_redis_keeps_its_append_only_file_through_kill_9(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis(*AOF, "--appendfsync", "always")
    with server.client() as client:
        client.xadd("stream", {"field": "value"})
        server.restart(kill=True)
        assert client.xlen("stream") == 1


def test_a_frozen_redis_answers_again_when_thawed(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    server.freeze()
    with server.client(socket_timeout=0.2) as client, pytest.raises(redis.TimeoutError):
        client.ping()
    server.thaw()
    with server.client() as client:
        assert client.ping()


def test_a_password_is_demanded(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis(password="redis-secret")
    with server.client() as client, redis.Redis.from_url(server.url_for(password="wrong")) as other:
        assert client.ping()
        with pytest.raises(redis.AuthenticationError):
            other.ping()


def test_redis_speaks_tls_and_its_authority_is_checked(
    new_redis: Callable[..., RedisServer], certificates: Path
) -> None:
    server = new_redis(tls=certificates)
    with server.client() as client, redis.Redis(port=server.port, ssl=True, retry=Retry(NoBackoff(), 0)) as stranger:
        assert client.ping()
        with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            stranger.ping()


def test_postgres_speaks_tls_and_its_authority_is_checked(
    new_postgres: Callable[..., PostgresServer], certificates: Path
) -> None:
    url = f"{new_postgres(tls=certificates).url_for('postgres')}?sslmode=verify-full"
    with psycopg.connect(f"{url}&sslrootcert={certificates / 'ca.pem'}") as connection:
        assert connection.pgconn.ssl_in_use
    with pytest.raises(psycopg.OperationalError, match="root certificate"):
        psycopg.connect(f"{url}&sslrootcert=/nowhere")


def test_every_database_holds_the_devices_and_reads_through_django(database_url: str) -> None:
    records.execute(database_url, ASSIGN_LOCATIONS)
    devices = django_models.read(database_url, django_models.Device)
    assert len(devices) == DEVICES
    assert devices[0]["backup_location_id"] == 1
    assert devices[-1]["backup_location_id"] is None
    locations = django_models.read(database_url, django_models.BackupLocation)
    assert [location["location_type"] for location in locations] == ["git", "filesystem"]
    assert locations[1]["config"] == {"path": "/srv/backups"}
    assert django_models.read(database_url) == []


def test_postgres_shows_a_missing_device_only_at_commit(postgres_url: str) -> None:
    insert = (
        "INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log)"
        " VALUES ('', '', 999, 'success', now(), '[]')"
    )
    with psycopg.connect(postgres_url) as connection:
        connection.execute(insert)
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.commit()


def test_keys_may_be_of_eight_bytes(postgres_server: PostgresServer) -> None:
    url = postgres_server.database(bigint=True)
    kind = "SELECT data_type FROM information_schema.columns WHERE table_name = %s AND column_name = %s"
    with postgres_server.connect(url) as connection:
        for table, column in (("devices_device", "id"), ("devices_devicebackupresult", "device_id")):
            assert connection.execute(kind, (table, column)).fetchall() == [("bigint",)]
    postgres_server.drop(url)


@pytest.mark.parametrize("end", ["stop", "restart", "kill9"])
def test_postgres_keeps_what_it_committed(new_postgres: Callable[..., PostgresServer], end: str) -> None:
    server = new_postgres(durable=True)
    url = server.database()
    server.execute("DELETE FROM devices_device WHERE id > 10", database=url)
    getattr(server, end)()
    if end != "restart":
        server.start()
    assert server.execute("SELECT count(*) FROM devices_device", database=url) == [(10,)]


def test_a_frozen_postgres_answers_again_when_thawed(new_postgres: Callable[..., PostgresServer]) -> None:
    server = new_postgres()
    server.freeze()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.url_for("postgres"), connect_timeout=2)
    server.thaw()
    wait_until(lambda: server.execute("SELECT 1") == [(1,)])


def test_mariadb_keeps_what_it_committed(new_mariadb: Callable[..., MariaDbServer]) -> None:
    server = new_mariadb("--innodb-flush-log-at-trx-commit=1")
    url = server.database()
    server.execute("DELETE FROM devices_device WHERE id > 10", database=url)
    server.restart()
    assert server.execute("SELECT count(*) FROM devices_device", database=url) == [(10,)]


def test_sqlite_holds_the_same_columns_as_the_models(sqlite_url: str) -> None:
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        for model in django_models.MODELS:
            found = [row[1] for row in connection.execute(f"PRAGMA table_info({model._meta.db_table})")]
            assert sorted(found) == sorted(field.column for field in model._meta.fields)


def test_the_tables_are_what_django_would_create(empty_database_url: str, database_url: str) -> None:
    """Columns, types, keys and indexes, as Django's introspection sees them in ours and in its own."""
    django_models.create(empty_database_url)
    assert django_models.describe(database_url) == django_models.describe(empty_database_url)


def test_a_server_that_does_not_start_says_why_and_leaves_no_process(
    new_postgres: Callable[..., PostgresServer],
) -> None:
    with pytest.raises(ServerFailed, match="no_such_setting"):
        new_postgres("no_such_setting=1")


def test_a_server_that_never_answers_is_ended(tmp_path: Path) -> None:
    process = ServerProcess(["sleep", "60"], log=tmp_path / "log")
    with pytest.raises(ServerFailed, match="no answer"):
        process.wait_ready(lambda: False, timeout=0.2)
    assert not process.alive()
