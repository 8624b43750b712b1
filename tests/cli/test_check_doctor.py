"""check and doctor: exit codes as monitoring has them, every format, and every check with its fix."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from devicevault_cli.repository import open_repository, tables
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from tests.cli.conftest import CLOSED, CLOSED_DATABASE, Cli
from tests.support.consuming import GROUP, drain, good
from tests.support.redis_server import ExternalRedis, RedisServer

# --- check -----------------------------------------------------------------------------------------------------------


def test_no_stream_and_no_group_are_told_by_those_that_only_look(at: Cli, stream: Stream) -> None:
    for words in (["tail", "--no-follow"], ["show", "1-0"], ["status"], ["status", "-o", "jsonl"]):
        answer = at(*words)
        assert "there is no stream device:results yet\n" in answer.out + answer.err
    stream.add(good(3))
    answer = at("check")
    assert answer.code == 2
    assert "no group devicevault: 3 entries wait, start `dvctl consume` | lag=3;" in answer.out


def test_an_unknown_state_has_no_performance_data(at: Cli) -> None:
    answer = at.at(CLOSED)("check")
    assert answer.code == 3
    assert answer.out.startswith(
        "DVCTL UNKNOWN - devicevault of device:results: Redis at 127.0.0.1:1/0 cannot be reached"
    )
    assert "|" not in answer.out


def test_doctor_names_the_product_and_its_own_version(
    cli: Cli, each_redis_server: RedisServer | ExternalRedis, sqlite_url: str
) -> None:
    """Valkey gives 7.2.4 as its redis_version."""
    kind = each_redis_server.kind
    checks = cli.at(each_redis_server.url, sqlite_url)("doctor", "-o", "json").json["checks"]
    (found,) = [check for check in checks if check["name"] == "redis-version"]
    assert found["status"] == "ok"
    assert found["detail"].startswith(f"{'Valkey' if kind.is_valkey else 'Redis'} {kind.version}.")


def test_doctor_gives_a_fix_in_one_piece_below_what_it_is_for(at: Cli, group: Group) -> None:
    lines = at("doctor").out.splitlines()
    found = next(number for number, line in enumerate(lines) if line.startswith("warning  unique-index"))
    assert "fix: dvctl db index --dry-run" in [line.strip() for line in lines[found + 1 : found + 3]]
    assert all(len(line) <= 80 for line in lines)


def test_status_says_what_to_type_next(at: Cli, group: Group, stream: Stream) -> None:
    assert "hint" not in at("status").err
    (first, *_) = stream.add(good(2))
    delivery = GroupConsumer(group, "ghost")
    delivery.read_new(2)
    delivery.dead_letter(first, first, "malformed-log", "")
    assert "dvctl dlq list" in at("status").err


def test_no_stream_is_ok(at: Cli) -> None:
    answer = at("check")
    assert (answer.code, answer.out.count("\n")) == (0, 1)
    assert answer.out.startswith(
        "DVCTL OK - devicevault of device:results: there is no stream yet, storage dispatch is off"
    )


@pytest.mark.parametrize(
    ("limit", "status", "code"),
    [("20", "ok", 0), ("19", "critical", 2), ("19:20", "warning", 1), ("5:19", "critical", 2)],
)
def test_lag_against_its_limit(stream: Stream, group: Group, at: Cli, limit: str, status: str, code: int) -> None:
    stream.add(good(20))
    answer = at("check", "--max-lag", limit, "--format", "json")
    assert (answer.code, answer.json["status"]) == (code, status)
    assert "Infinity" not in answer.out
    values = {each["name"]: each["value"] for each in answer.json["checks"]}
    assert (values["lag"], values["pending"], values["dead"]) == (20, 0, 0)


def test_pending_age_and_dead(stream: Stream, group: Group, at: Cli) -> None:
    stream.call("XADD", stream.key, "1000-0", "device_id", "1")
    (second,) = stream.add(good(1))
    delivery = GroupConsumer(group, "worker")
    delivery.read_new(10)
    delivery.dead_letter(second, second, "max-deliveries", "")
    assert at("check", "--max-pending", "0").code == 2
    assert at("check", "--max-pending", "1").code == 0
    assert at("check", "--max-age", "1h").code == 2
    assert at("check", "--max-age", "1h:52000w").code == 1
    assert at("check", "--max-dead", "0:5").code == 1
    assert at("check").code == 2


def test_check_formats(stream: Stream, group: Group, at: Cli) -> None:
    stream.add(good(2))
    told = at("check", "--format", "prometheus").out
    assert 'dvctl_check_lag{stream="device:results",group="devicevault"} 2\n' in told
    assert all(line.startswith(("# TYPE dvctl_check_", "dvctl_check_")) for line in told.splitlines())
    assert at("check", "-o", "json").json["status"] == "ok"
    assert len(at("check", "-o", "jsonl").out.splitlines()) == 8


def test_what_cannot_be_reached_is_unknown(cli: Cli) -> None:
    answer = cli.at(CLOSED)("check")
    assert answer.code == 3
    assert answer.out.startswith("DVCTL UNKNOWN")
    assert "cannot be reached" in answer.out


@pytest.mark.parametrize("words", [["--max-lag", "x"], ["--max-lag", "9:5"], ["--max-age", "5"], ["--format", "xml"]])
def test_usage(at: Cli, words: list[str]) -> None:
    assert at("check", *words).code == 3, "monitoring knows no other code for what could not be checked"


# --- doctor ----------------------------------------------------------------------------------------------------------


def states(at: Cli, code: int) -> dict[str, str]:
    answer = at("doctor", "-o", "json")
    assert answer.code == code, answer
    assert all(each["fix"] for each in answer.json["checks"] if each["status"] == "problem")
    return {each["name"]: each["status"] for each in answer.json["checks"]}


def test_a_sound_system_has_no_problem(stream: Stream, group: Group, sqlite_url: str, at: Cli) -> None:
    with closing(open_repository(sqlite_url, tables.RESULTS)) as repository:
        stream.add(good(5))
        drain(stream, repository)
    assert "problem" not in states(at, 0).values()


def test_every_problem_is_found(stream: Stream, group: Group, sqlite_url: str, at: Cli) -> None:
    ids = stream.add(good(6))
    delivery = GroupConsumer(group, "consumer-4711")
    delivery.read_new(3)
    delivery.dead_letter(ids[0], ids[0], "max-deliveries", "")
    claim = ("XCLAIM", stream.key, GROUP)
    stream.call(*claim, "dead", 0, str(ids[1]), "IDLE", 7_200_000, "RETRYCOUNT", 9, "JUSTID", parse_justid=True)
    GroupConsumer(group, "consumer-4711").show_life()
    stream.call("XDEL", stream.key, str(ids[2]))
    columns = "(task_id, task_identifier, device_id, status, timestamp, log)"
    values = "('', 'twice', 1, 'success', '2026-01-01 00:00:00', '[]')"
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute(f"INSERT INTO devices_devicebackupresult {columns} VALUES {values}, {values}")
    found = states(at, 3)
    for name in ("devicevault-consumer", "dangling-pending", "duplicates"):
        assert found[name] == "problem", name
    for name in ("poison", "dead-letters", "unique-index"):
        assert found[name] == "warning", name


def test_stuck_consumers_trimmed_entries_and_eviction(stream: Stream, group: Group, at: Cli) -> None:
    stream.add(good(5))
    GroupConsumer(group, "worker").read_new(1)
    stream.call("XTRIM", stream.key, "MAXLEN", 2)
    stream.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        found = states(at, 3)
    finally:
        stream.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert found["redis-eviction"] == "problem"
    assert found["dangling-pending"] == "problem"


def test_a_database_that_is_away_or_not_devicevaults_is_a_problem(redis_url: str, cli: Cli, tmp_path: object) -> None:
    assert states(cli.at(redis_url, CLOSED_DATABASE), 3)["database"] == "problem"
    empty = f"sqlite:///{tmp_path}/empty.sqlite3"
    sqlite3.connect(empty.removeprefix("sqlite:///")).close()
    assert states(cli.at(redis_url, empty), 3)["database"] == "problem"
    assert "hidden" not in cli.at(redis_url, CLOSED_DATABASE)("doctor").out


def test_without_a_database_the_rest_is_examined(redis_url: str, cli: Cli) -> None:
    assert states(cli.at(redis_url), 0)["database"] == "unknown"


def test_doctor_without_redis(cli: Cli) -> None:
    assert cli.at(CLOSED)("doctor").code == 69


def test_what_devicevault_decides_otherwise_is_told(
    redis_url: str, sqlite_url: str, cli: Cli, tmp_path: object
) -> None:
    path = f"{tmp_path}/config.yaml"
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(json.dumps({"redis": {"url": "redis://elsewhere.example/1", "results_stream": "other:results"}}))
    answer = cli.at(redis_url, sqlite_url)("doctor", "--config", path, "--stream", "device:results", "-o", "json")
    (found,) = [each for each in answer.json["checks"] if each["name"] == "settings"]
    assert found["status"] == "warning"
    assert "redis_url" in found["detail"]
    assert "elsewhere" not in answer.out
