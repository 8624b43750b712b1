"""docs/take-over.md, word for word, while messages flow: from DeviceVault's consumers to dvctl without a gap, and back.

DeviceVault's consumers are those of tests.support.own_consumers; its storage worker is the real Celery.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
import yaml

from tests.support.brokers import Broker
from tests.support.celery_worker import StorageWorker
from tests.support.incidents import FIRST_MS
from tests.support.own_consumers import MANAGE
from tests.support.pages import pattern, shell, steps
from tests.support.process import DVCTL, Dvctl
from tests.support.schema import ASSIGN_LOCATIONS
from tests.support.server import wait_until

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "docs" / "take-over.md").read_text("utf-8")
STREAM, GROUP = "device:results", "devicevault"
SERVICES = {"backup-consumer": "consume_device_results", "storage-consumer": "consume_storage_results"}
STRANDED, LOST, NOT_STORED = range(5), range(5, 9), range(9, 12)
"""What DeviceVault's consumers left behind before: entries of a dead one, acknowledged ones without a row, and rows
without a stored backup."""
SCRIPT = """#!/bin/bash
# As DeviceVault's own script: pid files, process groups, two seconds between the signals.
SCRIPT_DIR="$(cd "$(dirname "$0")" && pwd)"
PID_DIR="$SCRIPT_DIR/.pids"
BACKUP_CONSUMER_PID_FILE="$PID_DIR/backup-consumer.pid"
STORAGE_CONSUMER_PID_FILE="$PID_DIR/storage-consumer.pid"
cd "$SCRIPT_DIR/backend"

function runs() {
    [ -f "$1" ] && kill -0 $(cat "$1") 2>/dev/null
}

function start_backup_consumer() {
    runs "$BACKUP_CONSUMER_PID_FILE" && echo "Backup consumer is already running" && return
    nohup "$PYTHON" manage.py consume_device_results > "$PID_DIR/backup-consumer.log" 2>&1 &
    echo $! > "$BACKUP_CONSUMER_PID_FILE"
    sleep 2
    runs "$BACKUP_CONSUMER_PID_FILE" && echo "Backup consumer started"
}

function start_storage_consumer() {
    runs "$STORAGE_CONSUMER_PID_FILE" && echo "Storage consumer is already running" && return
    nohup "$PYTHON" manage.py consume_storage_results > "$PID_DIR/storage-consumer.log" 2>&1 &
    echo $! > "$STORAGE_CONSUMER_PID_FILE"
    sleep 2
    runs "$STORAGE_CONSUMER_PID_FILE" && echo "Storage consumer started"
}

function end_group() {
    if runs "$1"; then
        kill -TERM -$(cat "$1") 2>/dev/null
        sleep 2
        [ -f "$1" ] && kill -9 -$(cat "$1") 2>/dev/null
    fi
    rm -f "$1"
}

function start() {
    start_backup_consumer
    start_storage_consumer
}

function stop() {
    end_group "$STORAGE_CONSUMER_PID_FILE"
    end_group "$BACKUP_CONSUMER_PID_FILE"
}

"$1"
"""


class Collectors:
    """DeviceVault's collectors: a success each tenth of a second, from every device."""

    def __init__(self, url: str) -> None:
        self.sent: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collectors")

    def _run(self) -> None:
        with closing(redis.Redis.from_url(self._url)) as client:
            while not self._stop.wait(0.1):
                number = len(self.sent)
                client.xadd(STREAM, fields(f"live-{number}", number % 45 + 1))
                self.sent.append(f"live-{number}")

    def __enter__(self) -> Collectors:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def fields(name: str, device: int = 1) -> dict[Any, Any]:
    """A success with a configuration."""
    return {
        "task_id": f"task-{name}",
        "task_identifier": name,
        "device_id": str(device),
        "status": "success",
        "log": "[]",
        "device_config": f"hostname {name}",
    }


@pytest.fixture
def database(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(ASSIGN_LOCATIONS)
        yield connection


@pytest.fixture
def installation(
    dvctl: Dvctl,
    redis_url: str,
    postgres_url: str,
    database: psycopg.Connection[Any],
    broker: Broker,
    storage_worker: Callable[..., StorageWorker],
) -> Iterator[Dvctl]:
    """DeviceVault's folder as it is on a server, with what went wrong before; its two consumers run."""
    storage_worker(broker.url, redis_url)
    home = dvctl.directory
    (home / ".pids").mkdir()
    (home / "backend" / "config").mkdir(parents=True)
    (home / "backend" / "manage.py").write_text(MANAGE.format(project=str(PROJECT)))
    (home / "devicevault.sh").write_text(SCRIPT)
    (home / "devicevault.sh").chmod(0o755)
    (home / "backend/config/config.yaml").write_text(config_yaml(redis_url, postgres_url, broker.url))
    leave_behind(redis_url, database)
    with ended_at_last(home / ".pids"), own_consumers(home):
        yield dvctl.use(PYTHON=sys.executable).on_its_own_host()


def config_yaml(redis_url: str, postgres_url: str, broker_url: str) -> str:
    parts = urlsplit(postgres_url)
    database = {"host": parts.hostname, "port": parts.port, "user": parts.username, "name": parts.path[1:]}
    return yaml.safe_dump(
        {
            "database": {"engine": "postgres", **database},
            "redis": {"url": redis_url},
            "celery": {"broker": broker_url},
        }
    )


def leave_behind(redis_url: str, database: psycopg.Connection[Any]) -> None:
    """Twelve messages of last year: see STRANDED, LOST and NOT_STORED."""
    row = (
        "INSERT INTO devices_devicebackupresult (task_id, task_identifier, device_id, status, timestamp, log)"
        " VALUES ('t', %s, 1, 'success', '2026-01-01', '[]')"
    )
    with closing(redis.Redis.from_url(redis_url)) as client:
        client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        for number in range(12):
            client.xadd(STREAM, fields(f"old-{number}"), id=f"{FIRST_MS + 1000 * number}-0")
        client.xreadgroup(GROUP, "consumer-4711", {STREAM: ">"})
        client.xack(STREAM, GROUP, *(f"{FIRST_MS + 1000 * number}-0" for number in (*LOST, *NOT_STORED)))
        stranded: Any = [f"{FIRST_MS + 1000 * number}-0" for number in STRANDED]
        client.xclaim(STREAM, GROUP, "consumer-4711", 0, stranded, idle=600_000, justid=True)
    for number in NOT_STORED:
        database.execute(row, (f"old-{number}",))


@contextmanager
def own_consumers(home: Path) -> Iterator[None]:
    """Both consumers of DeviceVault, with their pid files."""
    started: list[tuple[subprocess.Popen[bytes], threading.Thread]] = []
    for service, command in SERVICES.items():
        with (home / ".pids" / f"{service}.log").open("wb") as log:
            popen = subprocess.Popen(
                [sys.executable, "manage.py", command], cwd=home / "backend", stdout=log, stderr=log
            )
        (home / ".pids" / f"{service}.pid").write_text(f"{popen.pid}\n")
        reaper = threading.Thread(target=popen.wait)  # else the page would wait for a process that has ended
        reaper.start()
        started.append((popen, reaper))
    try:
        for service in SERVICES:
            log_file = home / ".pids" / f"{service}.log"
            wait_until(partial(says, log_file, "listening"), what=service)
        yield
    finally:
        for popen, reaper in started:
            with suppress(ProcessLookupError):
                popen.kill()
            reaper.join()


def says(file: Path, text: str) -> bool:
    return text in file.read_text()


@contextmanager
def ended_at_last(directory: Path) -> Iterator[None]:
    """What the script has started ends with the test."""
    try:
        yield
    finally:
        for file in directory.glob("*.pid"):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(file.read_text()), signal.SIGKILL)


def follow_the_page(dvctl: Dvctl) -> None:
    for command, shown in steps(TEXT):
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            dvctl.use(**{name: value})
            continue
        said = shell(dvctl, command)
        assert re.fullmatch(pattern(shown), said), f"$ {command}\n--- printed\n{said}\n--- the page shows\n{shown}"


def holds(database: psycopg.Connection[Any], table: str, everything: set[str]) -> bool:
    return set(names(database, table)) == everything


def nothing_pending(client: Any, stream: str, group: str) -> bool:
    return int(client.xpending(stream, group)["pending"]) == 0


def names(database: psycopg.Connection[Any], table: str) -> Counter[str]:
    where = "WHERE status = 'success'" if table == "backups_storedbackup" else ""
    rows = database.execute(f"SELECT task_identifier, count(*) FROM {table} {where} GROUP BY 1")
    return Counter(dict(rows.fetchall()))


def test_the_page_takes_over_without_a_gap_and_goes_back(
    installation: Dvctl, redis_url: str, database: psycopg.Connection[Any]
) -> None:
    with Collectors(redis_url) as collectors:
        wait_until(lambda: len(names(database, "backups_storedbackup")) > 10, what="DeviceVault's consumers to store")
        follow_the_page(installation)
        until = len(collectors.sent) + 10
        wait_until(lambda: len(collectors.sent) > until, what="more messages")
    everything = {*collectors.sent, *(f"old-{number}" for number in range(12))}
    for table in ("devices_devicebackupresult", "backups_storedbackup"):
        wait_until(partial(holds, database, table, everything), what=f"every message in {table}")
        assert set(names(database, table).values()) == {1}
    with closing(redis.Redis.from_url(redis_url)) as client:
        for place in ((STREAM, GROUP), ("storage:results", "devicevault-storage")):
            wait_until(partial(nothing_pending, client, *place), what=f"nothing pending of {place[0]}")
        assert not client.exists(f"{{{STREAM}}}:dead")


def test_the_compose_file_is_one(tmp_path: Path) -> None:
    """By the schema of the Compose Specification that check-jsonschema brings."""
    (text,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "compose.yaml"
    file.write_text(text)
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_is_one(tmp_path: Path) -> None:
    """Where the machine has systemd; elsewhere its keys are read."""
    (text,) = re.findall(r"```ini\n(.*?)```", TEXT, re.DOTALL)
    (command,) = re.findall(r"^ExecStart=(\S+)", text, re.MULTILINE)
    unit = tmp_path / "dvctl.service"
    unit.write_text(text.replace(command, str(DVCTL)).replace("User=devicevault\n", ""))
    parsed = ConfigParser(strict=True, interpolation=None)
    parsed.optionxform = str  # type: ignore[method-assign,assignment]
    parsed.read_string(text)
    assert set(parsed) == {"DEFAULT", "Unit", "Service", "Install"}
    if analyze := shutil.which("systemd-analyze"):
        done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_commands_of_the_snippets_are_commands(dvctl: Dvctl) -> None:
    (compose,) = re.findall(r"^ +command: (.*)$", TEXT, re.MULTILINE)
    (unit,) = re.findall(r"^ExecStart=\S+ (.*)$", TEXT, re.MULTILINE)
    for words in (compose, unit):
        refused = dvctl.run(*words.split(), env={"DEVICEVAULT_DATABASE_URL": ""})
        assert (refused.code, "no database is configured" in refused.stderr) == (78, True), refused
