"""What an exit code says where nothing matched of what was typed, or nothing that was selected succeeded."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.typing import EncodableT, FieldT

from tests.cli.conftest import Answer, Cli
from tests.support.entries import entries
from tests.support.process import Dvctl
from tests.support.redis_server import RedisServer
from tests.support.screen import on_a_terminal

STREAM, GROUP = "device:results", "devicevault"


class World:
    """A good entry, two dead letters of a device that does not exist, and three entries that `ghost-1` holds."""

    def __init__(self, at: Cli, client: redis.Redis, database: str, folder: Path) -> None:
        self.at, self.client, self.folder = at, client, folder
        self._database = database.removeprefix("sqlite:///")
        self.good = self.publish(device="1")
        self.dead = [self.publish(device="7777"), self.publish(device="7777")]
        assert at("consume", "--drain").code == 0
        self.held = [self.publish(device="2") for _ in range(3)]
        client.xreadgroup(GROUP, "ghost-1", {STREAM: ">"})

    def publish(self, **fields: str) -> str:
        """A message; an id as in use, and larger than those before."""
        length = self.client.xlen(STREAM)
        whole: dict[FieldT, EncodableT] = {"task_identifier": f"job-{length}", "status": "success"}
        whole["device_id"] = fields["device"]
        key: Any = self.client.xadd(STREAM, whole, id=f"{1_767_225_600_000 + 1000 * length}-0")
        return str(key.decode())

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self._database)) as connection, connection:
            connection.execute(statement)

    def rows(self) -> int:
        with closing(sqlite3.connect(self._database)) as connection:
            return int(connection.execute("SELECT count(*) FROM devices_devicebackupresult").fetchone()[0])

    def state(self) -> Any:
        """All that a command could have changed."""
        keys = sorted(self.client.keys("*"))
        return {key: self.client.dump(key) for key in keys}, self.rows()

    def pending(self) -> list[str]:
        found: Any = self.client.xpending_range(STREAM, GROUP, "-", "+", 100)
        return [entry["message_id"].decode() for entry in found]


@pytest.fixture
def world(redis_url: str, sqlite_url: str, tmp_path: Path) -> Iterator[World]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    environ = {name: value for name, value in os.environ.items() if name.startswith("XDG_")} | {"HOME": str(tmp_path)}
    at = Cli(environ | {"TERM": "dumb"}).at(redis_url, sqlite_url)
    with redis.Redis.from_url(redis_url) as client:
        yield World(at, client, sqlite_url, tmp_path)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def one_error(answer: Answer) -> str:
    """The one error line; it is no traceback, and not said twice."""
    (line,) = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in answer.err
    return line


NOWHERE = {
    "dlq drop": (["dlq", "drop", "5-5"], "5-5", "DEAD"),
    "dlq retry": (["dlq", "retry", "5-5"], "5-5", "DEAD"),
    "dlq retry --set": (["dlq", "retry", "5-5", "--set", "device_id=1"], "5-5", "DEAD"),
    "claim": (["claim", "5-5"], "5-5", "HELD"),
    "claim --to": (["claim", "5-5", "--to", "ghost-1"], "5-5", "HELD"),
    "ack": (["ack", "5-5"], "5-5", "HELD"),
    "replay": (["replay", "5-5"], "5-5", "GOOD"),
    "replay --id": (["replay", "--id", "5-5", "--missing"], "5-5", "GOOD"),
    "replay --republish": (["replay", "5-5", "--republish"], "5-5", "GOOD"),
    "consumers retire": (["consumers", "retire", "ghost"], "ghost", "ghost-1"),
    "claim --from": (["claim", "--from", "Ghost1"], "Ghost1", "ghost-1"),
    "dlq drop --reason": (["dlq", "drop", "--reason", "unknown-devise"], "unknown-devise", "unknown-device"),
    "dlq retry --device": (["dlq", "retry", "--device", "99999"], "99999", ""),
    "replay --device": (["replay", "--device", "99999"], "99999", ""),
    "reset-group": (["reset-group", "--to", "start", "--group", "devicevalt"], "devicevalt", "devicevault"),
}


@pytest.mark.parametrize("name", NOWHERE)
def test_a_change_of_what_does_not_exist_is_1_and_names_it_and_the_nearest(name: str, world: World) -> None:
    words, typed, near = NOWHERE[name]
    near = {"DEAD": world.dead[0], "HELD": world.held[0], "GOOD": world.good}.get(near, near)
    before = world.state()
    for consent in (["--yes"], ["--dry-run"]):
        answer = world.at(*words, *consent)
        assert (answer.code, answer.out) == (1, ""), answer.err
        assert typed in one_error(answer)
        assert near in one_error(answer)
    answer = world.at(*words, "--yes", "-o", "json")
    assert answer.code == 1
    if name != "reset-group":
        assert answer.json["unknown"] == [typed]
        assert answer.json["applied"] is False
    assert world.state() == before


@pytest.mark.parametrize(
    ("words", "typed", "near"),
    [
        (["show", "1-1"], "1-1", "GOOD"),
        (["dlq", "show", "5-5"], "5-5", "DEAD"),
        (["dlq", "list", "5-5"], "5-5", "DEAD"),
        (["dlq", "list", "--reason", "nope"], "nope", "unknown-device"),
        (["dlq", "list", "--device", "99999"], "99999", ""),
        (["dlq", "list", "--group", "devicevalt"], "devicevalt", "devicevault"),
        (["dlq", "stats", "--group", "devicevalt"], "devicevalt", "devicevault"),
        (["pending", "--consumer", "ghost"], "ghost", "ghost-1"),
        (["pending", "--consumer", "ghost", "--summary"], "ghost", "ghost-1"),
        (["pending", "--group", "devicevalt"], "devicevalt", "devicevault"),
        (["consumers", "--group", "devicevalt"], "devicevalt", "devicevault"),
        (["verify", "--group", "devicevalt"], "devicevalt", "devicevault"),
    ],
)
def test_looking_at_what_does_not_exist_is_1(words: list[str], typed: str, near: str, world: World) -> None:
    near = {"DEAD": world.dead[1], "GOOD": world.good}.get(near, near)
    answer = world.at(*words)
    assert (answer.code, answer.out) == (1, ""), answer.err
    assert typed in one_error(answer)
    assert near in one_error(answer)
    if words[0] != "verify":
        answer = world.at(*words, "-o", "json")
        assert answer.code == 1
        assert answer.json


def test_what_exists_is_done_and_the_rest_is_listed(world: World) -> None:
    """Each command with one id that exists and one that does not: exit 0, and the other in `unknown`."""
    at, (first, second, third) = world.at, world.held
    shown = at("show", world.good, "5-5", "-o", "json")
    assert (shown.code, shown.json["unknown"]) == (0, ["5-5"])
    assert [entry["state"] for entry in shown.json["entries"]] == ["persisted", "gone"]
    assert "5-5" in shown.err
    listed = at("dlq", "list", world.dead[0], "5-5", "-o", "json").json
    assert (listed["total"], listed["unknown"]) == (1, ["5-5"])
    claimed = at("claim", first, "5-5", "--to", "worker-9", "--yes", "-o", "json")
    assert (claimed.code, claimed.json["claimed"], claimed.json["unknown"]) == (0, [first], ["5-5"])
    assert 'no consumer "worker-9": it will be created' in claimed.err
    acked = at("ack", second, "5-5", "--yes", "-o", "json")
    assert (acked.code, acked.json["acked"], acked.json["unknown"]) == (0, [second], ["5-5"])
    assert "dvctl replay ID" in acked.err
    replayed = at("replay", second, "5-5", "--yes", "-o", "json")
    assert (replayed.code, replayed.json["inserted"], replayed.json["unknown"]) == (0, 1, ["5-5"])
    copied = at("replay", third, "5-5", "--republish", "--yes", "-o", "json")
    assert (copied.code, copied.json["republished"], copied.json["unknown"]) == (0, 1, ["5-5"])
    retried = at("dlq", "retry", world.dead[0], "5-5", "--set", "device_id=3", "--yes", "-o", "json")
    assert (retried.code, retried.json["persisted"], retried.json["unknown"]) == (0, 1, ["5-5"])
    dropped = at("dlq", "drop", world.dead[1], "5-5", "--yes", "-o", "json")
    assert (dropped.code, dropped.json["dropped"], dropped.json["unknown"]) == (0, 1, ["5-5"])
    assert "dvctl replay ID" in dropped.err
    retired = at("consumers", "retire", "ghost-1", "ghost", "--to", "heir", "--yes", "-o", "json")
    assert (retired.code, retired.json["retired"], retired.json["unknown"]) == (0, ["ghost-1"], ["ghost"])
    assert 'no consumer "heir": it will be created' in retired.err
    assert 'no consumer "ghost"' in retired.err


def test_an_acknowledged_entry_is_not_pending_any_more(world: World) -> None:
    assert world.at("ack", world.held[0], "--yes").code == 0
    again = world.at("ack", world.held[0], "--yes", "-o", "json")
    assert (again.code, again.json["acked"], again.json["unknown"]) == (1, [], [world.held[0]])
    assert f"{world.held[1]} to {world.held[2]}" in one_error(again)
    assert world.pending() == world.held[1:]


def test_a_filter_that_matches_nothing_is_no_error(world: World) -> None:
    for words in (
        ["dlq", "list", "--older-than", "1h"],
        ["dlq", "list", "--reason", "malformed-log"],
        ["dlq", "list", "--device", "4"],
        ["dlq", "drop", "--older-than", "1h", "--yes"],
        ["dlq", "drop", world.dead[0], "--reason", "malformed-log", "--yes"],
        ["dlq", "retry", "--reason", "malformed-log", "--yes"],
        ["claim", "--idle", "1h", "--yes"],
        ["claim", world.held[0], "--idle", "1h", "--yes"],
        ["replay", "--device", "4", "--yes"],
        ["replay", world.good, "--device", "4", "--yes"],
        ["consumers", "retire", "--dead-for", "1h", "--yes"],
        ["export", str(world.folder / "none.jsonl"), "--device", "4"],
    ):
        before = world.state()
        answer = world.at(*words)
        assert answer.code == 0, (words, answer.err)
        assert "nothing matched" in answer.err, words
        assert world.state() == before


def test_no_stream_or_group_yet_is_no_error(world: World) -> None:
    world.client.delete(STREAM, "{device:results}:dead")
    looking = (["pending"], ["consumers"], ["tail", "--no-follow"], ["show", "1-1"], ["dlq", "show", "1-1"])
    for words in looking:
        answer = world.at(*words, "--group", "typed")
        assert answer.code == 0, (words, answer.err)
    world.client.xadd(STREAM, {"device_id": "1"})
    for words in (["pending"], ["consumers"], ["dlq", "list"], ["dlq", "stats"]):
        answer = world.at(*words, "--group", "typed")
        assert answer.code == 0, (words, answer.err)
    # An id that was typed is looked for on a stream that exists.
    assert world.at("show", "1-1").code == 1


def test_ids_from_a_file_and_from_an_export(world: World) -> None:
    ids, export, empty = (world.folder / name for name in ("ids", "export.jsonl", "empty.jsonl"))
    ids.write_text(f"{world.good}\n5-5\n")
    answer = world.at("export", str(export), "--ids", str(ids), "-o", "json")
    assert (answer.code, answer.json["exported"], answer.json["unknown"]) == (0, 1, ["5-5"])
    ids.write_text("5-5\n6-6\n")
    for more in ([], ["--dead"]):
        answer = world.at("export", str(empty), "--ids", str(ids), *more, "-o", "json")
        assert (answer.code, answer.json["unknown"]) == (1, ["5-5", "6-6"])
        assert not empty.exists(), "an empty export would be in the way of the next one"
    answer = world.at("replay", "--file", str(export), "--id", "5-5", "--yes")
    assert answer.code == 1
    assert "export.jsonl has no entry 5-5" in one_error(answer)
    for words in (["dlq", "drop"], ["dlq", "retry"], ["claim"], ["ack"], ["replay"], ["show"], ["dlq", "show"]):
        consent = ["--yes"] if words[-1] not in ("show",) else []
        answer = world.at(*words, "--ids", str(ids), *consent)
        assert answer.code == 1, (words, answer.err)
        assert "5-5, 6-6" in one_error(answer)


def test_names_of_commands_and_snapshots(world: World) -> None:
    for words, code, meant in (
        (["help", "nope"], 1, "nope"),
        (["help", "statsu"], 1, "status"),
        (["help", "dlq", "dorp"], 1, "dlq drop"),
        (["staus"], 2, "status"),
        (["dlq", "dorp"], 2, "'drop'"),
        (["consumers", "retier"], 2, "'retire'"),
    ):
        answer = world.at(*words)
        assert (answer.code, answer.out) == (code, ""), words
        assert meant in one_error(answer)
    assert "snapshots: none" in one_error(world.at("restore-group", "--yes"))
    made = [
        world.at("reset-group", "--to", "start", "--force", "--yes", "-o", "json").json["snapshot"],
        world.at("destroy-group", "--force", "--confirm", GROUP, "-o", "json").json["snapshot"],
    ]
    answer = world.at("restore-group", "--yes")
    assert answer.code == 2
    assert f"missing argument FILE; snapshots: {made[1]}, {made[0]}" in one_error(answer), "the newest first"
    answer = world.at("restore-group", f"{made[0]}x", "--yes")
    assert answer.code == 2
    assert made[0] in one_error(answer).partition("; ")[2]


# --- nothing that was selected succeeded


def test_letters_that_all_stay_dead_are_1_and_some_are_0(world: World) -> None:
    planned = world.at("dlq", "retry", "--all", "--dry-run", "-o", "json")
    assert (planned.code, planned.json["still_dead"]) == (0, 2)
    answer = world.at("dlq", "retry", "--all", "--yes", "-o", "json")
    assert (answer.code, answer.json["still_dead"], answer.json["applied"]) == (1, 2, True)
    assert "2 dead letters still dead (unknown-device 2)" in one_error(answer)
    world.publish(device="8888")
    assert world.at("consume", "--drain", "--claim-idle", "1ms").code == 0
    world.sql("UPDATE devices_device SET id = 7777 WHERE id = 50")
    answer = world.at("dlq", "retry", "--all", "--yes", "-o", "json")
    assert (answer.code, answer.json["persisted"], answer.json["still_dead"]) == (0, 2, 1)


def test_entries_that_are_all_rejected_are_1_and_some_are_0(world: World) -> None:
    planned = world.at("replay", *world.dead, "--dry-run", "-o", "json")
    assert (planned.code, planned.json["rejected"]) == (0, {"unknown-device": 2})
    answer = world.at("replay", *world.dead, "--yes", "-o", "json")
    assert (answer.code, answer.json["rejected"]) == (1, {"unknown-device": 2})
    assert "2 entries rejected (unknown-device 2)" in one_error(answer)
    answer = world.at("replay", *world.dead, world.good, "--yes", "-o", "json")
    assert (answer.code, answer.json["duplicates"]) == (0, 1)
    for times in range(3):
        assert world.at("replay", world.good, "--republish", "--yes").code == 0, times
    copies = [
        key.decode() for key, fields in entries(world.client, STREAM) if fields.get(b"_dvctl.republished") == b"1"
    ]
    assert world.at("replay", copies[0], "--republish", "--max-copies", "1", "--dry-run").code == 0
    answer = world.at("replay", copies[0], "--republish", "--max-copies", "1", "--yes", "-o", "json")
    assert (answer.code, answer.json["republished"], answer.json["refused"]) == (1, 0, 1)


def test_a_repair_that_repaired_nothing_is_1(dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str) -> None:
    """The lost entry is deleted while the operator thinks: at the prompt, on a real terminal."""
    dvctl.use(redis_server.url, sqlite_url)
    with redis_server.client() as client:
        client.xgroup_create(STREAM, GROUP, "$", mkstream=True)
        lost = client.xadd(STREAM, {"device_id": "1", "task_identifier": "lost", "status": "success"})
        client.xgroup_setid(STREAM, GROUP, "$")
        with on_a_terminal(["verify", "--repair"], dvctl.environment) as screen:
            screen.wait_for("Repair? [y/N]")
            client.xdel(STREAM, lost)
            screen.type("y\n")
            assert screen.code(30) == 1
            assert "nothing was repaired" in screen.text
