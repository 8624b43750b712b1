"""Commands about several streams of one pipeline: one answer, one plan, one confirmation, one exit code."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pytest
import redis

from devicevault_cli.cli.app import COMMANDS
from tests.cli.conftest import CLOSED, Answer, Cli
from tests.support.rows import select

RANGE = "s:{0..2}"
NAMES = ["s:{0}", "s:{1}", "s:{2}"]
GROUP = "devicevault"
HELD_BY = "holder"


class World:
    """Three streams: four messages on each, of which one is bad; all consumed but two on the second, one held."""

    def __init__(self, cli: Cli, url: str) -> None:
        self.cli = cli.at(DEVICEVAULT_RESULTS_STREAM=RANGE)
        client: Any = redis.Redis.from_url(url, decode_responses=True)
        self.client = client
        for name in NAMES:
            self.publish(name, *(f"{name}-{number}" for number in range(3)))
            self.publish(name, f"{name}-bad", device="999999")
        assert self.cli("consume", "--drain", "-q").code == 0
        self.held, self.waiting = self.publish(NAMES[1], "later-0", "later-1")
        self.client.xreadgroup(GROUP, HELD_BY, {NAMES[1]: ">"}, count=1)
        self.dead = f"{NAMES[0]} {self.client.xrange('s:{0}:dead')[0][1]['_dvctl.id']}"

    def publish(self, stream: str, *identifiers: str, device: str = "1") -> list[str]:
        fields = {"device_id": device, "status": "success", "log": "[]"}
        return [self.client.xadd(stream, fields | {"task_identifier": name}) for name in identifiers]

    def __call__(self, *words: str, stdin: str | None = None) -> Answer:
        return self.cli(*words, stdin=stdin)

    def json(self, *words: str, code: int = 0) -> Any:
        answer = self(*words, "-o", "json")
        assert answer.code == code, answer
        return answer.json

    def rows(self) -> set[str]:
        url = self.cli.environ["DEVICEVAULT_DATABASE_URL"]
        return {name for (name,) in select(url, "SELECT task_identifier FROM devices_devicebackupresult")}


@pytest.fixture
def world(at: Cli, redis_url: str) -> World:
    return World(at, redis_url)


def streams_of(document: Any) -> list[str]:
    return [
        part["stream"] if isinstance(part["stream"], str) else part["stream"]["key"] for part in document["streams"]
    ]


# --- looking ---------------------------------------------------------------------------------------------------------


def test_consume_reads_every_stream(world: World) -> None:
    assert world.rows() == {f"{name}-{number}" for name in NAMES for number in range(3)}
    summary = world.json("consume", "--max-messages", "1")
    assert (summary["read"], summary["persisted"], summary["stopped_by"]) == (1, 1, "max-messages")
    assert "later-1" in world.rows()


def test_status(world: World) -> None:
    document = world.json("status")
    assert streams_of(document) == NAMES
    assert [part["stream"]["length"] for part in document["streams"]] == [4, 6, 4]
    assert document["table"]["rows"] == 9
    lines = world("status").out.splitlines()
    assert lines[0].split() == ["STREAM", "LENGTH", "LAG", "PENDING", "CONSUMERS", "DEAD", "INCIDENTS"]
    assert [line.split()[0] for line in lines[1:]] == [*NAMES, "total"]
    assert lines[-1].split()[1:] == ["14", "1", "1", "1", "3", "0"]


def test_pending(world: World) -> None:
    document = world.json("pending")
    assert streams_of(document) == NAMES
    assert (document["total"], document["consumers"], document["group"]) == (1, {HELD_BY: 1}, GROUP)
    assert world("pending", "-o", "ids").out == f"{NAMES[1]} {world.held}\n"
    [row] = csv.DictReader(io.StringIO(world("pending", "-o", "csv").out))
    assert (row["stream"], row["id"]) == (NAMES[1], world.held)
    [line] = world("pending", "-o", "jsonl").out.splitlines()
    assert json.loads(line)["stream"] == NAMES[1]
    assert world("pending").out.split()[:6] == ["STREAM", "ID", "CONSUMER", "IDLE", "DELIVERIES", "STATE"]


@pytest.mark.parametrize("words", ["consumers list", "incidents list", "dlq list", "dlq stats", "groups", "doctor"])
def test_every_look_names_the_streams(world: World, words: str) -> None:
    if words == "groups":
        words = "verify --counts"
    answer = world(*words.split(), "-o", "json")
    assert answer.code in (0, 3), answer
    assert streams_of(answer.json) == NAMES


def test_letters(world: World) -> None:
    document = world.json("dlq", "list")
    assert (document["total"], document["reasons"]) == (3, {"unknown-device": 3})
    ids = world("dlq", "list", "-o", "ids").out.splitlines()
    assert [line.rpartition(" ")[0] for line in ids] == NAMES
    shown = world.json("dlq", "show", ids[2])
    assert streams_of(shown) == NAMES[2:]


def test_verify_adds_up(world: World) -> None:
    document = world.json("verify")
    assert document["classes"] == {
        "persisted": 9, "dead": 3, "discarded": 0, "pending": 1, "undelivered": 1, "skipped": 0, "lost": 0,
        "lost_invalid": 0,
    }  # fmt: skip
    assert document["rows"]["rows"] == 9  # of the table, not three times
    assert document["ok"] is True
    world.client.xgroup_setid(NAMES[1], GROUP, "$")
    found = world("verify", "-o", "json")
    assert (found.code, found.json["ok"], found.json["classes"]["lost"]) == (3, False, 1)
    listed = world("verify", "--show", "lost", "-o", "ids")
    assert (listed.code, listed.out) == (3, f"{NAMES[1]} {world.waiting}\n")
    assert world("verify", "--show", "lost", "-o", "json").json["entries"][0]["stream"] == NAMES[1]


def test_an_empty_list_is_one_document(world: World) -> None:
    assert world.json("verify", "--show", "lost") == {"entries": []}


def test_a_table_that_other_streams_fill_is_no_incident(world: World) -> None:
    world.client.delete(NAMES[2], "s:{2}:seen")
    world.client.xgroup_create(NAMES[2], GROUP, "0", mkstream=True)
    assert [part["incidents"] for part in world.json("incidents")["streams"]] == [[], [], []]
    one = world.cli.at(DEVICEVAULT_RESULTS_STREAM="")("incidents", "--stream", NAMES[2], "-o", "json")
    assert one.json == {"incidents": []}


def test_check_is_one_line_with_totals(world: World) -> None:
    answer = world("check")
    assert answer.code == 1
    assert answer.out.count("\n") == 1
    assert answer.out.startswith(f"DVCTL WARNING - {GROUP} of {RANGE}: dead is 3 (s:{{0}}: 1) | lag=1;1000;10000;0 ")
    assert " pending=1;" in answer.out
    document = world("check", "-o", "json").json
    assert [part["stream"] for part in document["streams"]] == NAMES
    lines = world("check", "--format", "prometheus").out.splitlines()
    assert [line for line in lines if line.startswith("dvctl_check_lag{")] == [
        f'dvctl_check_lag{{stream="{name}",group="{GROUP}"}} {value}' for name, value in zip(NAMES, "010", strict=True)
    ]
    assert len([line for line in lines if line == "# TYPE dvctl_check_lag gauge"]) == 1


def test_check_counts_all_streams_against_the_limit(world: World) -> None:
    assert world("check", "--max-dead", "2").code == 2
    assert world("check", "--max-dead", "3").code == 0


def test_check_without_redis(world: World) -> None:
    answer = world.cli.at(CLOSED)("check")
    assert (answer.code, answer.out.count("\n")) == (3, 1)
    assert "DVCTL UNKNOWN" in answer.out


def test_tail_merges_by_id(world: World) -> None:
    entries = [(key, name) for name in NAMES for key, _ in world.client.xrange(name)]
    ordered = sorted(entries, key=lambda entry: [int(part) for part in entry[0].split("-")])
    document = world.json("tail", "--no-follow", "-n", "5")
    assert [(entry["id"], entry["stream"]) for entry in document["entries"]] == ordered[-5:]
    assert len(world("tail", "--no-follow", "--since", "-1h", "-o", "ids").out.splitlines()) == 14


def test_show_takes_ids_with_their_stream(world: World) -> None:
    document = world.json("show", f"{NAMES[1]} {world.held}")
    assert streams_of(document) == [NAMES[1]]
    assert document["streams"][0]["entries"][0]["state"] == "pending"
    bare = world("show", world.held)
    assert (bare.code, bare.out) == (2, "")
    assert f"'{NAMES[0]} {world.held}'" in bare.err
    assert world("show", f"other {world.held}").code == 2
    piped = world("show", "--ids", "-", "-o", "json", stdin=f"{NAMES[1]} {world.held}\n{NAMES[1]} {world.waiting}\n")
    assert [entry["id"] for entry in piped.json["streams"][0]["entries"]] == [world.held, world.waiting]


def test_one_stream_takes_its_name_too(world: World) -> None:
    answer = world("show", "--stream", NAMES[1], f"{NAMES[1]} {world.held}", "-o", "json")
    assert [entry["id"] for entry in answer.json["entries"]] == [world.held]


def test_a_stream_that_cannot_be_read_does_not_hide_the_others(world: World) -> None:
    world.client.delete(NAMES[0])
    world.client.set(NAMES[0], "no stream")
    answer = world("pending", "-o", "json")
    assert answer.code == 1
    assert streams_of(answer.json) == NAMES[1:]
    assert NAMES[0] in answer.err


def test_without_redis_there_is_one_error(world: World) -> None:
    answer = world.cli.at(CLOSED)("status")
    assert (answer.code, answer.out, answer.err.count("error:")) == (69, "", 1)


@pytest.mark.parametrize("words", ["export -", "publish", "top", "verify --deep", "verify --report x.md"])
def test_what_works_on_one_stream_says_so(world: World, words: str) -> None:
    answer = world(*words.split())
    assert (answer.code, answer.out) == (2, ""), answer
    assert "--stream" in answer.err


# --- changing --------------------------------------------------------------------------------------------------------


def positions(world: World) -> list[str]:
    return [world.client.xinfo_groups(name)[0]["last-delivered-id"] for name in NAMES]


def test_a_change_needs_a_choice(world: World) -> None:
    before = positions(world)
    answer = world("reset-group", "--to", "start", "--yes")
    assert (answer.code, answer.out) == (2, "")
    assert "--stream 's:{0}'" in answer.err
    assert "--all-streams" in answer.err
    assert positions(world) == before


def test_one_stream_is_changed_alone(world: World) -> None:
    before = positions(world)
    assert world("reset-group", "--to", "start", "--stream", NAMES[2], "--yes", "--force").code == 0
    assert positions(world) == [*before[:2], "0-0"]


def test_all_streams_have_one_plan_and_one_confirmation(world: World) -> None:
    typing = world.cli.typing("y\n")
    answer = typing("reset-group", "--to", "start", "--all-streams", "--force")
    assert answer.code == 0, answer
    assert positions(world) == ["0-0"] * 3
    assert answer.err.count("[y/N]") == 1
    plan = answer.err[: answer.err.index("[y/N]")]
    assert all(f"{name}:\n" in plan for name in NAMES)
    assert plan.count("target:") == 1


def test_no_is_no_for_all(world: World) -> None:
    before = positions(world)
    assert world.cli.typing("n\n")("reset-group", "--to", "start", "--all-streams", "--force").code == 1
    assert positions(world) == before


def test_a_dry_run_changes_none(world: World) -> None:
    before = positions(world)
    document = world.json("reset-group", "--to", "start", "--all-streams", "--dry-run")
    assert (document["applied"], document["redelivered"], len(document["streams"])) == (False, 13, 3)
    assert positions(world) == before


def test_a_refusal_of_one_changes_none(world: World) -> None:
    before = positions(world)
    world.client.xreadgroup(GROUP, "alive", {NAMES[2]: ">"})
    answer = world("reset-group", "--to", "start", "--all-streams", "--yes")
    assert (answer.code, positions(world)) == (1, before)
    assert "no stream was changed" in answer.err


def test_each_stream_has_a_snapshot_that_restores_it(world: World) -> None:
    before = positions(world)
    document = world.json("destroy-group", "--all-streams", "--confirm", GROUP, "--force")
    snapshots = [part["snapshot"] for part in document["streams"]]
    assert len(set(snapshots)) == 3
    assert [world.client.xinfo_groups(name) for name in NAMES] == [[], [], []]
    for snapshot in snapshots:
        assert world("restore-group", snapshot, "--yes").code == 0
    assert positions(world) == before


def test_ids_choose_their_streams(world: World) -> None:
    piped = world("pending", "-o", "ids").out
    document = world("claim", "--ids", "-", "--to", "other", "--all-streams", "--yes", "-o", "json", stdin=piped).json
    assert streams_of(document) == [NAMES[1]]
    assert document["streams"][0]["claimed"] == [world.held]
    assert world("pending", "-o", "json").json["consumers"] == {"other": 1}
    answer = world("ack", f"{NAMES[1]} {world.held}", "--all-streams", "--yes", "-o", "ids")
    assert answer.out == f"{NAMES[1]} {world.held}\n"


def test_letters_are_retried_on_every_stream(world: World) -> None:
    document = world.json("dlq", "retry", "--all", "--set", "device_id=1", "--all-streams", "--yes")
    assert (document["retried"], document["persisted"], document["applied"]) == (3, 3, True)
    assert {f"{name}-bad" for name in NAMES} <= world.rows()


def test_one_letter_is_dropped(world: World) -> None:
    assert world.json("dlq", "drop", world.dead, "--all-streams", "--yes")["dropped"] == 1
    assert world.json("dlq", "list")["total"] == 2


def test_replay_and_trim(world: World) -> None:
    replayed = world.json("replay", "--missing", "--status", "success", "--all-streams", "--yes")
    assert (replayed["inserted"], replayed["rejected"]) == (2, {"unknown-device": 3})
    trimmed = world.json("trim", "--all-streams", "--yes")
    assert trimmed["removed"] == 4 + 4 + 4
    assert [world.client.xlen(name) for name in NAMES] == [0, 2, 0]


def test_what_is_lost_is_repaired_on_every_stream(world: World) -> None:
    lost = [world.publish(name, f"{name} lost")[0] for name in NAMES]
    for name in NAMES:
        world.client.xgroup_setid(name, GROUP, "$")
    refused = world("verify", "--repair", "--yes")
    assert (refused.code, refused.out) == (2, "")
    assert "--all-streams" in refused.err
    dry = world("verify", "--repair", "--all-streams", "--dry-run", "-o", "json")
    assert (dry.code, dry.json["applied"], dry.json["classes"]["lost"]) == (3, False, 4)
    assert len(world.rows()) == 9
    document = world.json("verify", "--repair", "--all-streams", "--yes")
    assert (document["ok"], document["classes"]["lost"], document["repaired"]["inserted"]) == (True, 0, 4)
    assert {f"{name} lost" for name in NAMES} <= world.rows()
    assert len(lost) == 3


def test_the_undo_names_the_stream(world: World) -> None:
    document = world.json("dlq", "drop", "--all", "--all-streams", "--yes")
    assert [f"--stream '{name}'" in part["undo"] for name, part in zip(NAMES, document["streams"], strict=True)]
    entries = world("journal", "-o", "json").json["entries"]
    assert [entry["stream"] for entry in entries[-3:]] == NAMES


def test_a_stream_that_fails_is_reported_and_the_others_are_changed(world: World) -> None:
    world.client.xgroup_destroy(NAMES[0], GROUP)
    answer = world("reset-group", "--to", "start", "--all-streams", "--yes", "--force", "-o", "json")
    assert answer.code == 1
    assert streams_of(answer.json) == NAMES[1:]
    assert f"error: {NAMES[0]}" in answer.err
    assert positions_of(world, NAMES[1:]) == ["0-0", "0-0"]


def positions_of(world: World, names: list[str]) -> list[str]:
    return [world.client.xinfo_groups(name)[0]["last-delivered-id"] for name in names]


@pytest.mark.parametrize(
    "words", ["replay --file x.jsonl", "trim --export x.jsonl", "incidents acknowledge 1"], ids=lambda words: words
)
def test_files_and_numbers_are_of_one_stream(world: World, words: str) -> None:
    answer = world(*words.split(), "--all-streams", "--yes")
    assert (answer.code, answer.out) == (2, "")
    assert "--stream" in answer.err


def test_one_stream_prints_what_it_always_did(world: World, at: Cli) -> None:
    """A stream that is configured alone, and one that is chosen among several, give the same answers."""
    alone = at.at(DEVICEVAULT_RESULTS_STREAM=NAMES[1])
    for words in ("pending", "dlq list -o json", "verify --counts -o csv", "consumers -o csv", "pending -o ids"):
        first, second = alone(*words.split()), world(*words.split(), "--stream", NAMES[1])
        assert "streams" not in first.out
        assert first.out.replace(",", " ").split()[0].lower() != "stream"
        assert without_times(first.out) == without_times(second.out)


def without_times(shown: str) -> str:
    return re.sub(r"[0-9.]+m?s?", "#", " ".join(shown.split()))


def test_which_commands_work_on_one_stream_alone() -> None:
    alone = {name for name, command in COMMANDS.items() if command.needs.redis and command.needs.streams == "one"}
    assert alone == {"export", "publish", "top"}
