"""DeviceVault's own two consumers as they behave on the outside; written for the tests, with the real Celery.

A process for each: it reads ten new messages at a time under the name `consumer-PID`, waits two seconds for them, and
acknowledges each message whatever became of it. SIGTERM ends it after the messages in hand. Settings come from
DeviceVault's config.yaml in `config` beside the script, as there.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import redis
import yaml

from tests.support.celery_worker import send_jobs

BACKENDS = {"git": "git", "fs": "fs", "filesystem": "fs"}
MANAGE = """import sys
sys.path.insert(0, {project!r})
from tests.support.own_consumers import main
main()
"""
"""DeviceVault's `manage.py`."""


def main() -> None:
    """`manage.py consume_device_results` or `manage.py consume_storage_results`."""
    config = yaml.safe_load(Path("config/config.yaml").read_text())
    database = {name: value for name, value in config["database"].items() if name != "engine"}
    with psycopg.connect(dbname=database.pop("name"), autocommit=True, **database) as connection:
        if sys.argv[1] == "consume_device_results":
            broker, url = config["celery"]["broker"], config["redis"]["url"]
            _consume(url, "device:results", "devicevault", "consumer", lambda it: _result(connection, it, broker, url))
        else:
            url = config["redis"]["url"]
            _consume(
                url, "storage:results", "devicevault-storage", "storage-consumer", lambda it: _stored(connection, it)
            )


def _consume(url: str, stream: str, group: str, prefix: str, save: Callable[[Mapping[str, str]], None]) -> None:
    running = [True]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.clear())
    client: Any = redis.Redis.from_url(url, decode_responses=True)
    with suppress(redis.ResponseError):
        client.xgroup_create(stream, group, "0", mkstream=True)
    print("listening", flush=True)
    while running:
        for _, entries in client.xreadgroup(group, f"{prefix}-{os.getpid()}", {stream: ">"}, count=10, block=2000):
            for key, fields in entries:
                try:
                    save(fields)
                except Exception as error:  # noqa: BLE001 - as the real one: acknowledged and forgotten
                    print(f"failed: {key}: {error}", file=sys.stderr, flush=True)
                client.xack(stream, group, key)


def _result(connection: Any, fields: Mapping[str, str], broker: str, redis_url: str) -> None:
    """A row, and a task for the storage worker."""
    name, device = fields["task_identifier"], int(fields["device_id"])
    if _known(connection, "devices_devicebackupresult", name):
        return
    connection.execute(
        "INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (fields["task_id"], name, device, fields["status"], datetime.now(UTC), fields["log"]),
    )
    location = connection.execute(
        "SELECT location_type, config FROM locations_backuplocation AS l JOIN devices_device AS d"
        " ON d.backup_location_id = l.id WHERE d.id = %s",
        (device,),
    ).fetchone()
    if fields["status"] == "success" and location is not None:
        payload = {
            "task_id": fields["task_id"],
            "task_identifier": name,
            "device_id": device,
            "storage_backend": BACKENDS[location[0]],
            "storage_config": location[1],
            "device_config": fields["device_config"],
        }
        send_jobs(broker, redis_url, payload)


def _stored(connection: Any, fields: Mapping[str, str]) -> None:
    """A row of a stored backup."""
    name = fields["task_identifier"]
    if not _known(connection, "backups_storedbackup", name):
        connection.execute(
            "INSERT INTO backups_storedbackup"
            " (task_id, task_identifier, device_id, status, timestamp, log, storage_backend, storage_ref)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                fields["task_id"], name, int(fields["device_id"]), fields["status"], datetime.now(UTC), fields["log"],
                fields["storage_backend"], fields["storage_ref"],
            ),
        )  # fmt: skip


def _known(connection: Any, table: str, name: str) -> bool:
    query = f"SELECT 1 FROM {table} WHERE task_identifier = %s"
    return connection.execute(query, (name,)).fetchone() is not None
