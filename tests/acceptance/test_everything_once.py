"""Real messages through the installed command: one row an identity, one dead letter a bad message, nothing pending."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support import django_models, messages, servers
from tests.support.entries import entries
from tests.support.oracle import assert_everything
from tests.support.postgres_server import PostgresServer
from tests.support.process import Dvctl
from tests.support.rows import read_rows, select

DEAD = "{device:results}:dead"


def check_all(dvctl: Dvctl, redis_url: str, database_url: str, count: int) -> None:
    """Publish good, odd, bad and repeated messages, drain, look at everything; then once more with a new group."""
    dvctl.use(redis_url, database_url)
    client = redis.Redis.from_url(redis_url)
    sent = messages.publish(client, messages.mixed(count))
    bad = messages.bad()
    first = dvctl.json("consume", "--drain")
    assert_everything(redis_url, database_url, sent)
    assert first["persisted"] == count + len(messages.odd())
    assert first["duplicates"] == count // 10
    assert first["dead_lettered"] == len(bad)
    reasons = [fields[b"_dvctl.reason"].decode() for _, fields in entries(client, DEAD)]
    assert sorted(reasons) == sorted(str(each.reason) for each in bad)
    again = dvctl.json("consume", "--drain", "--group", "second")
    assert (again["persisted"], again["duplicates"]) == (0, first["persisted"] + first["duplicates"])
    assert again["dead_lettered"] == len(bad)
    assert dvctl.json("verify")["ok"] is True


@servers.two_redis(1)
def test_twenty_thousand_messages(dvctl: Dvctl, each_redis_url: str, postgres_url: str) -> None:
    check_all(dvctl, each_redis_url, postgres_url, 20_000)


def test_every_postgresql(dvctl: Dvctl, redis_url: str, each_postgres_url: str) -> None:
    check_all(dvctl, redis_url, each_postgres_url, 3_000)


def test_every_database(dvctl: Dvctl, redis_url: str, database_url: str) -> None:
    check_all(dvctl, redis_url, database_url, 1_500)


def test_with_the_unique_index(dvctl: Dvctl, redis_url: str, postgres_url: str) -> None:
    dvctl.use(redis_url, postgres_url)
    assert dvctl.json("db", "index", "--yes")["created"] is True
    check_all(dvctl, redis_url, postgres_url, 1_500)


def test_eight_consumers_share_identities_that_come_twice(dvctl: Dvctl, redis_url: str, postgres_url: str) -> None:
    dvctl.use(redis_url, postgres_url)
    client = redis.Redis.from_url(redis_url)
    once = messages.good(1_500)
    sent = messages.publish(client, [each for pair in zip(once, once, strict=True) for each in pair])
    workers = [dvctl.start("consume", "--drain", "--batch-size", "40", "-o", "json") for _ in range(8)]
    answers = [worker.wait() for worker in workers]
    assert [each.code for each in answers] == [0] * 8
    assert sum(each.json()["persisted"] for each in answers) == 1_500
    assert_everything(redis_url, postgres_url, sent)


def test_a_row_reads_back_through_django(dvctl: Dvctl, redis_url: str, database_url: str) -> None:
    dvctl.use(redis_url, database_url)
    sent = messages.publish(redis.Redis.from_url(redis_url), [*messages.good(50), *messages.odd()])
    dvctl.ok("consume", "--drain")
    by_django = {row["id"]: row for row in django_models.read(database_url)}
    by_driver = read_rows(database_url)
    assert len(by_django) == len(by_driver) == len(sent)
    wanted = {each.message.fields[b"task_identifier"].decode(): each for each in sent}
    for row in by_django.values():
        each = wanted[row["task_identifier"]]
        ms, _, seq = each.id.partition("-")
        stamp = int(ms) * 1000 + int(seq) % 1000
        assert round(row["timestamp"].timestamp() * 1_000_000) == stamp
        assert row["log"] == (each.message.fields[b"log"].decode() or "[]")
        assert row["status"] == (each.message.fields[b"status"].decode() or "failure")
        assert row["device_id"] == int(each.message.fields[b"device_id"])


def test_the_storage_pipeline(dvctl: Dvctl, redis_url: str, database_url: str) -> None:
    dvctl.use(redis_url, database_url)
    client = redis.Redis.from_url(redis_url)
    messages.publish(client, messages.good(40))
    dvctl.ok("consume", "--drain")
    other = messages.Message({b"operation": b"delete", b"device_id": b"1"})
    bad = messages.Message({b"operation": b"store", b"device_id": b"1", b"storage_backend": b"x" * 33})
    messages.publish(client, [*messages.storage(40), other, bad], stream="storage:results")
    answer = dvctl.json("consume", "--drain", "--pipeline", "storage")
    assert (answer["persisted"], answer["skipped"], answer["dead_lettered"]) == (40, 1, 1)
    assert client.xlen("{storage:results}:dead") == 1
    assert select(database_url, "SELECT count(*) FROM backups_storedbackup")[0][0] == 40
    verdict = dvctl.json("verify", "--pipeline", "storage")
    assert verdict["ok"] is True
    assert verdict["classes"]["skipped"] == 1


def test_a_failed_store_is_healed_by_a_later_success(dvctl: Dvctl, redis_url: str, database_url: str) -> None:
    dvctl.use(redis_url, database_url)
    client = redis.Redis.from_url(redis_url)
    begun = datetime.now(UTC).isoformat().encode()
    collected = [messages.Message(message.fields | {b"initiated_at": begun}) for message in messages.good(12)]
    messages.publish(client, collected)
    dvctl.ok("consume", "--drain")
    healed = messages.storage(12)
    failed = [messages.Message(message.fields | {b"status": b"failure"}) for message in healed]
    messages.publish(client, failed[:8], stream="storage:results")
    consume = ("consume", "--drain", "--pipeline", "storage")
    assert dvctl.json(*consume)["persisted"] == 8
    sent = messages.publish(client, healed, stream="storage:results")
    messages.publish(client, [*healed[:3], *failed[7:9]], stream="storage:results")
    would = dvctl.json("show", sent[0].id, "--pipeline", "storage")["entries"][0]["would"]
    assert would == "replace: row 1 (failure)"
    answer = dvctl.ok(*consume, "-o", "json")
    counts = answer.json()
    assert [counts[name] for name in ("persisted", "replaced", "duplicates", "conflicting")] == [4, 8, 5, 2]
    assert counts["read"] == 17
    assert "persisted 4, duplicates 5, conflicting 2, replaced 8" in answer.stderr
    rows = select(database_url, "SELECT id, status FROM backups_storedbackup ORDER BY id")
    assert rows == [(number, "success") for number in range(1, 13)]
    unset = "SELECT count(*) FROM devices_devicebackupresult WHERE overall_duration_ms IS NULL"
    assert select(database_url, unset) == [(0,)]
    verified = dvctl.json("verify", "--pipeline", "storage")
    assert (verified["ok"], verified["classes"]["persisted"]) == (True, 25)
    assert verified["rows"]["conflicting"] == 10, "the failures, whose row is that of the success now"


def test_without_the_right_to_replace_nothing_is_acknowledged(
    dvctl: Dvctl, redis_url: str, postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    postgres_server.execute("DROP ROLE IF EXISTS healer", "CREATE ROLE healer LOGIN PASSWORD 'role-secret'")
    postgres_server.execute(
        "GRANT SELECT, INSERT ON backups_storedbackup TO healer",
        "GRANT SELECT ON devices_device TO healer",
        "GRANT SELECT, UPDATE (overall_duration_ms) ON devices_devicebackupresult TO healer",
        database=name,
    )
    client = redis.Redis.from_url(redis_url)
    healed = messages.storage(3)
    failed = messages.Message(healed[0].fields | {b"status": b"failure"})
    messages.publish(client, [failed, *healed], stream="storage:results")
    dvctl.use(redis_url, postgres_server.url_for(name, "healer", "role-secret"))
    checks = {
        check["name"]: check for check in dvctl.run("doctor", "--pipeline", "storage", "-o", "json").json()["checks"]
    }
    assert checks["database-rights"]["status"] == "warning"
    daemon = dvctl.start("consume", "--drain", "--pipeline", "storage")
    grant = "GRANT UPDATE ON backups_storedbackup TO healer"
    daemon.wait_for(f"{grant};")
    assert client.xpending("storage:results", "devicevault-storage")["pending"] == 4
    postgres_server.execute(grant, database=name)
    assert daemon.wait().code == 0
    assert client.xpending("storage:results", "devicevault-storage")["pending"] == 0
    rows = select(postgres_url, "SELECT status, count(*) FROM backups_storedbackup GROUP BY 1")
    postgres_server.execute("DROP OWNED BY healer", database=name)
    postgres_server.execute("DROP ROLE healer")
    assert rows == [("success", 3)]


def test_the_real_workers_messages_go_through_as_they_are(
    dvctl: Dvctl, redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    dvctl.use(redis_url, postgres_url)
    published = [_as_published(number) for number in range(12)]
    file = tmp_path / "device-results.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in published))
    assert dvctl.json("publish", "--file", str(file))["published"] == 12
    assert dvctl.json("consume", "--drain")["persisted"] == 12
    ids = dvctl.ok("tail", "--no-follow", "-n", "12", "-o", "ids").stdout.split()
    entries = dvctl.json("show", *ids)["entries"]
    assert [entry["state"] for entry in entries] == ["persisted"] * 12
    assert [entry["fields"]["log"] for entry in entries] == [each["log"] for each in published]
    assert "//5GSVJN" not in dvctl.ok("show", *ids).stdout
    assert "//5GSVJN" in dvctl.ok("show", *ids, "--reveal").stdout


def _as_published(number: int) -> dict[str, Any]:
    """The three collectors' shapes: nothing collected, a binary image, a failure with a structured log."""
    failure = {"source": "mikrotik_ssh", "severity": "ERROR", "message": "NoValidConnectionsError(None, 'port 22')"}
    shapes = [
        ("success", '["noop_plugin_executed"]', ""),
        ("success", '["Downloaded binary firmware: 1048576 bytes"]', "//5GSVJNV0FSRV9IRUFERVJfREVNTwAA" + "A" * 4000),
        ("failure", json.dumps([failure]), ""),
    ]
    status, log, config = shapes[number % 3]
    return {
        "task_id": f"87a8ef3a-8b8b-43d0-86fe-{number:012d}",
        "task_identifier": f"collect:{number + 1}:2026-11-23T19:00:20.357330+00:00",
        "device_id": str(number + 1),
        "status": status,
        "log": log,
        "device_config": config,
        "collection_duration_ms": "0",
        "initiated_at": "2026-11-23T19:00:20.357356+00:00",
        "is_binary": "False",
    }


@pytest.mark.parametrize(
    ("settings", "code", "says"),
    [
        ({"DEVICEVAULT_REDIS_URL": "redis://127.0.0.1:1/0"}, 69, "cannot be reached"),
        ({"DEVICEVAULT_DATABASE_URL": "postgresql://u:s3cr3t@127.0.0.1:1/x"}, 69, "cannot be reached"),
        ({"DEVICEVAULT_DATABASE_URL": "nonsense s3cr3t"}, 78, "no known scheme"),
        ({"DEVICEVAULT_REDIS_URL": "http://:s3cr3t@host"}, 78, "cannot be read"),
        ({"DVCTL_PROFILE": "nowhere"}, 78, "profile"),
    ],
)
def test_bad_settings_are_told_in_a_line(
    dvctl: Dvctl, redis_url: str, sqlite_url: str, settings: dict[str, str], code: int, says: str
) -> None:
    dvctl.use(redis_url, sqlite_url, **settings)
    answer = dvctl.run("consume", "--drain")
    assert (answer.code, answer.stdout) == (code, "")
    assert says in answer.stderr
    assert "hint:" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "s3cr3t" not in answer.stderr


def test_a_missing_table(dvctl: Dvctl, redis_url: str, empty_database_url: str) -> None:
    answer = dvctl.use(redis_url, empty_database_url).run("consume", "--drain")
    assert answer.code in (69, 78), answer
    if answer.code == 69:  # an SQLite file that is not there is not created
        assert empty_database_url.startswith("sqlite:")
    else:
        assert "devices_" in answer.stderr


@pytest.mark.parametrize("words", [["--drain"], []])
def test_a_wrong_password_of_redis(dvctl: Dvctl, new_redis: Any, sqlite_url: str, words: list[str]) -> None:
    locked = new_redis(password="right")
    answer = dvctl.use(locked.url_for(password="wr0ng"), sqlite_url).run("consume", *words)
    assert answer.code == 77
    assert "wr0ng" not in answer.stderr


@pytest.mark.parametrize("words", [["--drain"], []])
def test_a_wrong_password_of_postgresql(dvctl: Dvctl, redis_url: str, new_postgres: Any, words: list[str]) -> None:
    locked = new_postgres(password="right")
    url = locked.url_for(locked.database().rpartition("/")[2], password="wr0ng")
    answer = dvctl.use(redis_url, url).run("consume", *words)
    assert answer.code == 77
    assert "wr0ng" not in answer.stderr
