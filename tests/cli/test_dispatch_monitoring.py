"""What operators see of storage dispatch: config, status, check and doctor, with dispatch on, off, and in trouble."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from devicevault_cli.broker import inspection
from devicevault_cli.repository import open_repository, tables
from devicevault_cli.streams.stream import Stream
from tests.cli.conftest import CLOSED_DATABASE, Cli
from tests.support import amqp_queues
from tests.support.brokers import Broker
from tests.support.celery_worker import StorageWorker
from tests.support.rabbitmq_server import Control
from tests.support.records import execute_through
from tests.support.schema import ASSIGN_LOCATIONS
from tests.support.storing import store

TABLES = ("backups_storedbackup", "locations_backuplocation")
SECRET = "broker-secret"
AWAY = f"amqp://vault:{SECRET}@127.0.0.1:1/v"
TWO = f"{AWAY};amqp://vault:{SECRET}@127.0.0.1:2/v"
OFF = {"DVCTL_NO_DISPATCH": "1"}


def change(sqlite_url: str, *statements: str) -> None:
    """Run statements on an SQLite file."""
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def storing(at: Cli, sqlite_url: str) -> Cli:
    """Command lines where devices 1 to 30 store in git and 31 to 45 on a file system."""
    change(sqlite_url, ASSIGN_LOCATIONS)
    return at


def through(cli: Cli, url: str) -> Cli:
    """The same with this broker."""
    return cli.at(CELERY_BROKER_URL=url)


def checks(cli: Cli, *words: str) -> dict[str, dict[str, Any]]:
    """What doctor says, by name."""
    answer = cli("doctor", *words, "-o", "json")
    assert SECRET not in answer.out + answer.err
    found = {check["name"]: check for check in answer.json["checks"]}
    assert all(check["fix"] for check in found.values() if check["status"] == "problem")
    assert (answer.code == 3) == any(check["status"] == "problem" for check in found.values())
    return found


def line(cli: Cli, *words: str) -> tuple[int, str]:
    """What check says."""
    answer = cli("check", *words)
    assert answer.out.count("\n") == 1
    assert SECRET not in answer.out + answer.err
    return answer.code, answer.out.partition(" | ")[0]


# --- config and status -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["config", "status"])
@pytest.mark.parametrize(
    ("environ", "words", "wanted"),
    [
        ({}, [], (False, None, "no-broker", "no broker is configured")),
        (OFF, [], (False, None, "no-dispatch", "DVCTL_NO_DISPATCH")),
        ({"CELERY_BROKER_URL": AWAY}, ["--no-dispatch"], (False, None, "no-dispatch", "--no-dispatch")),
        ({"CELERY_BROKER_URL": AWAY}, [], (True, "RabbitMQ 127.0.0.1:1/v", "configured", "CELERY_BROKER_URL")),
        (
            {"DEVICEVAULT_BROKER_URL": TWO},
            [],
            (True, "RabbitMQ 127.0.0.1:1/v, RabbitMQ 127.0.0.1:2/v", "configured", "DEVICEVAULT_BROKER_URL"),
        ),
        (
            {},
            ["--pipeline", "storage"],
            (False, None, "no-configurations", "messages of the storage pipeline bring no configurations"),
        ),
    ],
)
def test_whether_dispatch_is_on_and_why(
    at: Cli, command: str, environ: dict[str, str], words: list[str], wanted: tuple[object, ...]
) -> None:
    answer = at.at(**environ)(command, *words, "-o", "json")
    assert answer.code == 0
    assert answer.json["dispatch"] == dict(zip(("on", "broker", "why", "detail"), wanted, strict=True))
    shown = at.at(**environ)(command, *words)
    (said,) = re.findall(r"^(?:storage )?dispatch:? +(on, through|off)", shown.out, re.MULTILINE | re.IGNORECASE)
    assert said == ("on, through" if wanted[0] else "off")
    assert SECRET not in answer.out + shown.out + answer.err + shown.err


@pytest.mark.parametrize("command", ["config", "status"])
def test_a_broker_that_cannot_be_used_is_told_and_its_url_is_not(at: Cli, command: str) -> None:
    answer = through(at, f"amqp//{SECRET}")(command, "-o", "json")
    assert answer.code == 0
    assert answer.json["dispatch"]["why"] == "not-usable"
    assert "amqp://USER:PASSWORD@HOST" in answer.json["dispatch"]["hint"]
    assert SECRET not in answer.out + answer.err


def test_config_hides_every_password_of_a_list(at: Cli) -> None:
    answer = through(at, TWO)("config", "-o", "json")
    (shown,) = [setting["value"] for setting in answer.json["settings"] if setting["name"] == "broker_url"]
    assert shown == "amqp://vault:***@127.0.0.1:1/v;amqp://vault:***@127.0.0.1:2/v"


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_without_a_broker(at: Cli, storing: Cli, stream: Stream) -> None:
    code, said = line(storing)
    assert (code, "no broker is configured), but devices have a git or fs location" in said) == (2, True)
    code, said = line(storing.at(**OFF))
    assert code == 0
    assert said.endswith("there is no stream yet, storage dispatch is off (DVCTL_NO_DISPATCH)")
    code, said = line(storing, "--pipeline", "storage")
    assert (code, "dispatch" in said) == (0, False)


def test_check_where_no_device_needs_a_broker(at: Cli) -> None:
    for cli in (at, through(at, AWAY)):
        code, said = line(cli)
        assert (code, "no device has a git or fs location" in said) == (0, True)


def test_check_without_a_database_knows_less(cli: Cli, redis_url: str) -> None:
    code, said = line(cli.at(redis_url))
    assert (code, "whether a device needs it is not known" in said) == (0, True)
    code, said = line(cli.at(redis_url, CLOSED_DATABASE))
    assert (code, "cannot be reached" in said) == (3, True)
    assert "hidden" not in said


def test_check_asks_the_broker(storing: Cli, broker: Broker) -> None:
    code, said = line(through(storing, broker.url))
    assert (code, said.endswith("storage dispatch is on")) == (0, True)
    assert broker.length("storage.git") == 0
    code, said = line(through(storing, AWAY))
    assert (code, "storage dispatch is on, but RabbitMQ 127.0.0.1:1/v cannot be reached" in said) == (2, True)
    told = through(storing, AWAY)("check", "--format", "prometheus").out
    assert 'dvctl_check_dispatch{stream="device:results",group="devicevault"} 0\n' in told
    answer = through(storing, AWAY)("check", "--format", "json")
    (found,) = [check for check in answer.json["checks"] if check["name"] == "dispatch"]
    assert (answer.json["status"], found["status"], found["value"]) == ("critical", "critical", 0)


def test_check_of_a_url_that_cannot_be_read(storing: Cli) -> None:
    code, said = line(through(storing, f"amqp//{SECRET}"))
    assert (code, "has no scheme that dvctl supports" in said) == (3, True)


# --- doctor: the broker ----------------------------------------------------------------------------------------------


def test_doctor_without_a_broker(storing: Cli, sqlite_url: str) -> None:
    found = checks(storing)["broker"]
    assert (found["status"], "45 devices with a git or fs location" in found["detail"]) == ("problem", True)
    assert "--broker-url" in found["fix"]
    assert "--no-dispatch" in found["fix"]
    found = checks(storing.at(**OFF))["broker"]
    assert (found["status"], "off (DVCTL_NO_DISPATCH)" in found["detail"]) == ("warning", True)
    change(sqlite_url, "UPDATE devices_device SET backup_location_id = NULL")
    assert checks(storing)["broker"]["status"] == "ok"
    assert checks(through(storing, AWAY))["broker"]["status"] == "warning"
    assert not [name for name in checks(storing, "--pipeline", "storage") if "broker" in name or "stor" in name]


def test_doctor_reports_a_broker_that_is_away_once(storing: Cli) -> None:
    found = checks(through(storing, TWO))
    assert found["broker"]["status"] == "problem"
    assert "127.0.0.1:2/v cannot be reached" in found["broker"]["detail"]
    assert {found[name]["detail"] for name in ("broker-queues", "broker-arguments")} == {"the broker is unreachable"}
    assert found["settings"]["status"] == "ok"


def test_doctor_tells_a_refused_login(storing: Cli, rabbitmq_url: str) -> None:
    found = checks(through(storing, rabbitmq_url.replace(":secret@", f":{SECRET}@")))
    assert (found["broker"]["status"], "refuses the login" in found["broker"]["detail"]) == ("problem", True)
    assert found["broker-queues"]["detail"] == "not examined: see broker"


def test_doctor_without_kombu_names_the_extra(storing: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "kombu", raising=False)
    monkeypatch.setattr(inspection, "find_spec", lambda name: None)
    found = checks(through(storing, AWAY))["broker"]
    assert found["status"] == "problem"
    assert "pip install 'dvctl[dispatch]'" in found["fix"]


def test_doctor_names_the_broker_that_answers(storing: Cli, rabbitmq_url: str) -> None:
    found = checks(through(storing, f"{AWAY};{rabbitmq_url}"))["broker"]
    assert found["status"] == "warning"
    assert f"{rabbitmq_url.rpartition('@')[2]} takes the login, but is not the first" in found["detail"]
    assert "127.0.0.1:1/v cannot be reached" in found["detail"]


def test_doctor_on_queues_that_nobody_reads(storing: Cli, sqlite_url: str, rabbitmq_url: str) -> None:
    at_broker = through(storing, rabbitmq_url)
    found = checks(at_broker)["broker-queues"]
    assert (found["status"], "storage.git does not exist yet" in found["detail"]) == ("warning", True)
    assert not amqp_queues.exists(rabbitmq_url, "storage.git")
    amqp_queues.declare(rabbitmq_url)
    assert checks(at_broker)["broker-queues"]["status"] == "warning"
    amqp_queues.publish(rabbitmq_url, "storage.git", "one")
    found = checks(at_broker)["broker-queues"]
    assert found["status"] == "problem"
    assert found["detail"].startswith("no storage worker reads storage.git: 1 configuration waits")
    assert "storage.fs" in found["detail"]
    change(sqlite_url, "UPDATE devices_device SET backup_location_id = NULL WHERE id > 30")
    assert "storage.fs" not in checks(at_broker)["broker-queues"]["detail"], "no device stores there"


def test_doctor_sees_the_storage_worker(
    storing: Cli, redis_url: str, rabbitmq_url: str, storage_worker: Callable[..., StorageWorker]
) -> None:
    storage_worker(rabbitmq_url, redis_url)
    found = checks(through(storing, rabbitmq_url))
    assert found["broker-queues"]["status"] == found["broker-arguments"]["status"] == "ok"
    assert "storage.git: 0 configurations wait, 1 worker reads it" in found["broker-queues"]["detail"]


def test_doctor_names_arguments_that_clash(storing: Cli, rabbitmq_url: str, rabbitmq: Control) -> None:
    amqp_queues.declare(rabbitmq_url, "storage.git", arguments={"x-queue-type": "quorum"})
    amqp_queues.declare(rabbitmq_url, "storage.fs")
    found = checks(through(storing, rabbitmq_url))["broker-arguments"]
    assert (found["status"], "x-queue-type" in found["detail"]) == ("warning", True)
    limited = rabbitmq.user(rabbitmq_url, configure="")
    found = checks(through(storing, limited))["broker-arguments"]
    assert (found["status"], "refuse" in found["detail"]) == ("unknown", True)


def test_doctor_on_a_redis_broker(storing: Cli, new_redis: Callable[..., Any]) -> None:
    server = new_redis("--save", "", "--maxmemory-policy", "volatile-lru")
    found = checks(through(storing, server.url))
    assert found["broker"]["status"] == found["broker-queues"]["status"] == "ok"
    assert "is unknown on Redis" in found["broker-queues"]["detail"]
    assert "broker-arguments" not in found
    assert (found["broker-eviction"]["status"], found["broker-persistence"]["status"]) == ("warning", "warning")
    assert "a restart of the broker loses" in found["broker-persistence"]["detail"]


# --- doctor: the database --------------------------------------------------------------------------------------------


def test_doctor_counts_devices_that_no_storage_worker_serves(storing: Cli, sqlite_url: str) -> None:
    assert checks(storing)["backup-locations"]["status"] == "ok"
    change(
        sqlite_url,
        "INSERT INTO locations_backuplocation (id, name, location_type, config) VALUES (90, 'b', 'S3', '{}')",
        "UPDATE devices_device SET backup_location_id = 90 WHERE id > 48",
    )
    found = checks(storing)["backup-locations"]
    assert (found["status"], found["detail"].endswith("of 2 devices: s3 (2)")) == ("warning", True)


@pytest.mark.parametrize("table", TABLES)
def test_doctor_names_a_missing_right(at: Cli, postgres_url: str, table: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        role = f"looking-{connection.info.dbname}"
        connection.execute(ASSIGN_LOCATIONS)
        connection.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'reading'")
        connection.execute(f'GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO "{role}"')
        parts = urlsplit(postgres_url)
        cli = at.at(database_url=f"postgresql://{role}:reading@{parts.netloc.rpartition('@')[2]}{parts.path}")
        try:
            assert checks(through(cli, AWAY))["storage-rights"]["status"] == "ok"
            connection.execute(f'REVOKE SELECT ON {table} FROM "{role}"')
            found = checks(through(cli, AWAY))["storage-rights"]
        finally:
            connection.execute(f'DROP OWNED BY "{role}"')
            connection.execute(f'DROP ROLE "{role}"')
    assert (found["status"], table in found["detail"]) == ("problem", True)
    assert f"GRANT SELECT ON devices_device, {', '.join(sorted(TABLES, reverse=True))} TO {role}" in found["fix"]


def test_doctor_finds_successes_that_were_never_stored(
    cli: Cli, redis_url: str, database_url: str, stream: Stream
) -> None:
    cli = through(cli.at(redis_url, database_url), AWAY)
    assert checks(cli)["not-stored"]["detail"] == "no device has a git or fs location"
    with closing(open_repository(database_url, tables.RESULTS)) as repository:
        store(stream, repository)
    found = checks(cli)["not-stored"]
    assert found["status"] == "warning"
    assert found["detail"].startswith("5 of the newest 9 successes older than an hour have no successful stored backup")
    assert "dvctl dispatch --missing" in found["fix"]
    with closing(open_repository(database_url, tables.RESULTS)) as repository:
        names = "'failed-0', 'failed-1', 'twice', 'alone', 'raw'"
        execute_through(repository, f"DELETE FROM devices_devicebackupresult WHERE task_identifier IN ({names})")
    assert checks(cli)["not-stored"]["detail"] == "all of the newest 4 successes older than an hour are stored"
