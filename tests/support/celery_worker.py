"""DeviceVault's side of storage dispatch with the real Celery: a worker process to kill and restart, and a producer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.support import storage_worker_app as worker_app
from tests.support.amqp_queues import QUEUES
from tests.support.server import ServerProcess, server_directory

_PROJECT = Path(__file__).parent.parent.parent
_LIGHT = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "info")
PREFORK = ("-P", "prefork", "-c", "1")
"""DeviceVault's pool, with a process for the tasks. In the pool solo, every message is acknowledged after its task."""
_SWEEP = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
"""Look for a dead worker's messages each second; by default kombu does so at its start and every hundred seconds."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message that reached the worker, whether or not its task has run."""

    id: str
    headers: dict[str, Any]
    body: str
    redelivered: bool

    @property
    def payload(self) -> dict[str, Any]:
        [argument], _, _ = json.loads(self.body)
        given: dict[str, Any] = argument
        return given


@dataclass(frozen=True, slots=True)
class Stored:
    """A configuration that the worker has stored; its result may not be published yet."""

    id: str
    payload: dict[str, Any]
    ref: str


class StorageWorker:
    """`celery worker` on both queues, with one task at a time; it writes down what it receives and what it stores.

    args: more options of `celery worker`, such as PREFORK.
    delay_s: between storing and publishing the result, to be killed in between.
    visibility_timeout: seconds after which a Redis broker gives a dead worker's message to another (Celery: an hour); a
    task that takes longer is given out twice.
    """

    def __init__(
        self,
        broker_url: str,
        redis_url: str,
        *args: str,
        queues: tuple[str, ...] = QUEUES,
        delay_s: float = 0.0,
        visibility_timeout: int | None = None,
    ) -> None:
        self.redis_url = redis_url
        self.directory = server_directory("celery")
        self.log = self.directory / "log"
        self._record = self.directory / "record.jsonl"
        transport = {} if visibility_timeout is None else _SWEEP | {"visibility_timeout": visibility_timeout}
        self._command = [sys.executable, "-m", "celery", "-A", worker_app.__name__, "worker", "-Q", ",".join(queues)]
        self._command += ["-P", "solo", *_LIGHT, *args]
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("DEVICEVAULT_")}
        self._environment |= {
            "PYTHONPATH": str(_PROJECT),
            "HOME": str(self.directory),
            worker_app.BROKER: broker_url,
            worker_app.REDIS: redis_url,
            worker_app.RECORD: str(self._record),
            worker_app.OPTIONS: json.dumps({"delay_s": delay_s, "transport": transport}),
        }
        self._process: ServerProcess | None = None

    @property
    def process(self) -> ServerProcess:
        assert self._process is not None, "the worker was not started"
        return self._process

    def start(self, *, wait: bool = True) -> StorageWorker:
        """Start it and wait until it consumes; `wait` False: its broker may be away now."""
        before = len(self._events("ready")) if wait else 0
        self._process = ServerProcess(self._command, log=self.log, env=self._environment)
        if wait:
            self._process.wait_ready(lambda: len(self._events("ready")) > before)
        return self

    def received(self) -> list[Received]:
        """Every message that reached it, redeliveries included, in order."""
        return [
            Received(event["id"], event["headers"], event["body"], event["redelivered"])
            for event in self._events("received")
        ]

    def stored(self) -> list[Stored]:
        """Every configuration it stored, in order; more than once where a message came more than once."""
        return [Stored(event["id"], event["payload"], event["ref"]) for event in self._events("stored")]

    def results(self) -> list[dict[str, str]]:
        """What stands on `storage:results`, in order."""
        with closing(redis.Redis.from_url(self.redis_url, decode_responses=True)) as client:
            entries: Any = client.xrange(worker_app.STREAM)
            return [fields for _, fields in entries]

    def _events(self, event: str) -> list[dict[str, Any]]:
        if not self._record.exists():
            return []
        *complete, _ = self._record.read_text().split("\n")
        return [read for line in complete if (read := json.loads(line))["event"] == event]

    def stop(self) -> None:
        """SIGTERM: it finishes the task in hand and gives back the rest."""
        self.process.thaw()
        self.process.send(signal.SIGTERM)

    def kill9(self) -> None:
        self.process.kill9()

    def freeze(self) -> None:
        self.process.freeze()

    def thaw(self) -> None:
        self.process.thaw()

    def restart(self, *, kill: bool = True) -> None:
        """End it, by kill -9 unless told otherwise, and start it again; its record goes on."""
        self.kill9() if kill else self.stop()
        self.start()

    def remove(self) -> None:
        """End it for good and remove its directory."""
        if self._process is not None:
            self._process.kill9()
        shutil.rmtree(self.directory, ignore_errors=True)


def send_jobs(broker_url: str, redis_url: str, *payloads: Mapping[str, Any]) -> list[str]:
    """Dispatch as DeviceVault's consumer does, with Celery's own send_task. -> the Celery ids."""
    # A connection of its own: kombu keeps those of its pool for the whole process, and declares a queue once on each.
    with closing(worker_app.celery_app(broker_url, redis_url)) as app, app.connection_for_write() as connection:
        return [_send(app, connection, payload) for payload in payloads]


def _send(app: Any, connection: Any, payload: Mapping[str, Any]) -> str:
    queue = f"storage.{payload['storage_backend']}"
    sent = app.send_task("storage.store", args=[payload], queue=queue, routing_key=queue, connection=connection)
    return str(sent.id)
