"""The ground of every measurement: private servers, a stream made once and copied for each run, fresh tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import redis

from tests.bench.load import tree_cpu
from tests.bench.measure import Run, dvctl
from tests.bench.messages import GROUP, STREAM, publish
from tests.support.postgres_server import PostgresServer, postgres_kinds
from tests.support.rabbitmq_server import RabbitServer, rabbitmq_kind
from tests.support.redis_server import RedisServer, redis_kinds
from tests.support.server import wait_until
from tests.support.sqlite_database import SqliteFiles

# Short logs: an INSERT meets the indexes of the rows that are there, and each run begins with a copy of the files.
ROWS_BEFORE = """
INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log)
SELECT md5(n::text), 'collect:before:' || n, n % 50 + 1, 'success', now(), '["' || repeat('x', 80) || '"]'
FROM generate_series(1, {rows}) AS n"""


class Ground:
    """A Redis and a PostgreSQL with fsync, and folders for SQLite. `track_commit_timestamp` tells when a row came."""

    def __init__(self, directory: Path) -> None:
        self.redis_server = RedisServer(redis_kinds()[0])
        self.postgres = PostgresServer(
            postgres_kinds()[0], "track_commit_timestamp=on", "shared_buffers=512MB", "max_wal_size=8GB", durable=True
        )
        self.sqlite = SqliteFiles(directory)
        self._client: redis.Redis | None = None
        self._rabbitmq: RabbitServer | None = None

    @property
    def client(self) -> redis.Redis:
        assert self._client is not None, "the servers were not started"
        return self._client

    @property
    def url(self) -> str:
        return self.redis_server.url

    @property
    def rabbitmq(self) -> RabbitServer:
        """A RabbitMQ node, started when it is first needed."""
        if self._rabbitmq is None:
            kind = rabbitmq_kind()
            assert kind is not None, "this machine has no rabbitmq-server"
            self._rabbitmq = RabbitServer(kind)
            self._rabbitmq.start()
        return self._rabbitmq

    def start(self) -> None:
        self.redis_server.start()
        self.postgres.start()
        self._client = self.redis_server.client(socket_timeout=60)

    def remove(self) -> None:
        self.redis_server.remove()
        self.postgres.remove()
        if self._rabbitmq is not None:
            self._rabbitmq.remove()

    def versions(self) -> dict[str, str]:
        broker = rabbitmq_kind()
        found = {"redis": self.redis_server.kind.name, "postgresql": self.postgres.kind.name}
        return found | ({"rabbitmq": broker.name} if broker else {})

    def stream(self, count: int, size: int = 2048, device: int | None = None) -> None:
        """The stream with so many messages, all of them undelivered; no dead letters."""
        source = f"bench:{count}:{size}:{device}"
        if not self.client.exists(source):
            self.client.flushall()
            publish(self.client, source, count, size, device)
        self.client.delete(*(f"{{{STREAM}}}:{kept}" for kept in ("dead", "dead:ids", "discarded")))
        with self.client.pipeline(transaction=True) as pipe:
            pipe.copy(source, STREAM, replace=True)
            pipe.xgroup_create(STREAM, GROUP, "0")
            pipe.execute()

    def dvctl(self, *words: str, database_url: str, code: int = 0) -> Run:
        """Run the installed command on these servers, and see what they use meanwhile."""
        servers = {"PostgreSQL": self.postgres.process.pid, "Redis": self.redis_server.process.pid}
        before = {name: tree_cpu(pid) for name, pid in servers.items()}
        ran = dvctl(*words, redis_url=self.url, database_url=database_url, code=code)
        return ran._replace(servers={name: tree_cpu(pid) - before[name] for name, pid in servers.items()})

    @cached_property
    def start_s(self) -> float:
        """Processor time of `consume` that has nothing to do."""

        def idle() -> float:
            self.client.delete(STREAM)
            with self.table() as url:
                return self.dvctl("consume", "--drain", "-o", "json", database_url=url).cpu_s

        return median(idle() for _ in range(3))

    def await_readers(self, number: int) -> None:
        """Wait until so many consumers wait for messages; Redis lists those that never got one only from 7.2 on."""
        wait_until(lambda: self.client.info("clients")["blocked_clients"] == number, what=f"{number} blocked readers")

    @contextmanager
    def table(self, *, rows: int = 0, unique_index: bool = False, sqlite: bool = False) -> Iterator[str]:
        """The URL of a fresh database; `rows` of them in the table already (made once, then cloned)."""
        url = self.sqlite.database() if sqlite else self._clone(rows)
        if unique_index:
            index = "CREATE UNIQUE INDEX bench_unique ON devices_devicebackupresult (task_identifier)"
            self.postgres.execute(f"{index} WHERE task_identifier <> ''", database=url)
        try:
            yield url
        finally:
            (self.sqlite if sqlite else self.postgres).drop(url)

    def _clone(self, rows: int) -> str:
        if not rows:
            return self.postgres.database()
        full = f"full_{rows}"
        if not self.postgres.execute(f"SELECT 1 FROM pg_database WHERE datname = '{full}'"):
            url = self.postgres.database()
            self.postgres.execute(
                ROWS_BEFORE.format(rows=rows), "VACUUM ANALYZE devices_devicebackupresult", database=url
            )
            self.postgres.execute(f"ALTER DATABASE {url.rpartition('/')[2]} RENAME TO {full}")
        url = self.postgres.database(empty=True)
        self.postgres.drop(url)
        self.postgres.execute(
            f"CREATE DATABASE {url.rpartition('/')[2]} TEMPLATE {full} STRATEGY FILE_COPY", "CHECKPOINT"
        )
        return url


@contextmanager
def started() -> Iterator[Ground]:
    """Everything, and its end."""
    with TemporaryDirectory(prefix="dvctl-bench-") as directory:
        ground = Ground(Path(directory))
        try:
            ground.start()
            yield ground
        finally:
            ground.remove()
