"""A way back: every changing command says how it is undone, and what it names does undo it."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from devicevault_cli.cli.app import COMMANDS as ALL
from devicevault_cli.operations.changes import journal
from devicevault_cli.operations.changes.undo import CANNOT
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from tests.cli.conftest import Answer, Cli
from tests.cli.test_every_command import World
from tests.cli.test_exit_codes import consent
from tests.support.incidents import STAGED
from tests.support.records import execute_through
from tests.support.recovering import aged_alike, message, pending

POSTGRESQL_ALONE = {"db accept"}
"""Tried in tests/faults/test_postgres_failover.py: elsewhere there is nothing to accept."""
CHANGING = [
    *(words for words in ALL if ALL[words].needs.changes and words not in POSTGRESQL_ALONE),
    *("verify --repair", "replay --republish"),
]
SAYS = (
    CANNOT,
    "to undo this",
    "to bring ",
    "to process again ",
    "to put copies back",
    "to remove a dead letter",
    "a snapshot is written first",
)
"""How a plan or a result begins to say what undoes a change."""


@pytest.fixture
def world(cli: Cli, redis_url: str, sqlite_url: str, tmp_path: Path) -> World:
    return World(cli.at(redis_url, sqlite_url), redis_url, tmp_path)


def line(world: World, words: str, group: Group, table: Repository) -> list[str]:
    """A command line that changes something."""
    if words == "verify --repair":
        group.acknowledge(list(pending(group)))
        return ["verify", "--repair", "--yes"]
    if words == "replay --republish":
        return ["replay", "--id", world.held, "--republish", "--yes"]
    if words == "db dedupe":
        world.duplicate()
    if words == "dispatch":
        execute_through(table, "UPDATE devices_device SET backup_location_id = 1 WHERE id = 1")
    if words == "incidents acknowledge":
        world.client.flushdb()
        STAGED["redis-flushed"](group, table)
    if words == "snapshots prune":
        assert world.cli("claim", "--idle", "0", "--yes").code == 0
        time.sleep(0.002)
    repaired = ["--set", "device_id=1"] if words == "dlq retry" else []
    return [*world.line(words), *repaired, *consent(words)]


@pytest.mark.parametrize("words", CHANGING)
def test_plan_and_result_say_how_the_change_is_undone(
    words: str, world: World, group: Group, table: Repository
) -> None:
    typed = line(world, words, group, table)
    answer = world.cli(*typed, "-o", "json")
    assert answer.json["applied"] is True, answer.err
    plan, _, result = answer.err.partition("target: ")
    assert [said for said in plan.splitlines() if said.startswith(SAYS)], answer.err
    hints = [said.removeprefix("hint: ") for said in result.splitlines() if said.startswith("hint: ")]
    said = [hint for hint in hints if hint.startswith(SAYS)]
    undo = answer.json["undo"]
    if CANNOT in plan:
        assert (undo, said) == (None, []), "once it is made there is nothing to say"
    else:
        assert len(said) == 1, answer.err
        assert said[0].endswith(undo or "ID"), answer.err

    entry = world.cli("journal", "-n", "1", "-o", "json").json["entries"][0]
    assert (entry["outcome"], entry["undo"]) == ("done", undo)
    assert entry["line"] == shlex.join(["dvctl", *typed, "-o", "json"])
    assert entry["says"].endswith(".")
    assert entry["user"]


# --- do, undo: the state is as before


@pytest.fixture
def held(at: Cli, group: Group) -> Iterator[list[EntryId]]:
    """Ten entries: four held by `a`, of which two were delivered twice, three by `b`, three undelivered."""
    ids = group.stream.add(message(number) for number in range(10))
    group.create()
    GroupConsumer(group, "a").read_new(4)
    GroupConsumer(group, "b").read_new(3)
    client: Any = group.stream.client
    client.execute_command("XGROUP", "CREATECONSUMER", group.stream.key, group.name, "idle")
    for key, count in zip(ids[:2], (2, 7), strict=True):
        moved = ("XCLAIM", group.stream.key, group.name, "a", 0, str(key))
        client.execute_command(*moved, "IDLE", 500_000, "RETRYCOUNT", count, "JUSTID", parse_justid=True)
    yield ids


class State:
    """A group: position, consumers, pending entries."""

    def __init__(self, group: Group) -> None:
        self.began = time.monotonic()
        info = group.info()
        assert info is not None
        self.position = info.last_delivered_id, info.entries_read
        self.consumers = {consumer.name: consumer.pending for consumer in group.consumers()}
        self.pending = pending(group)

    def assert_same(self, group: Group) -> None:
        now = State(group)
        assert (now.position, now.consumers) == (self.position, self.consumers)
        assert now.pending.keys() == self.pending.keys()
        for key, entry in self.pending.items():
            after = now.pending[key]
            assert (after.consumer, after.deliveries) == (entry.consumer, entry.deliveries)
            assert aged_alike(entry, after, self.began)


def changed(at: Cli, *words: str) -> Answer:
    command = next(name for name in ALL if [*words[: name.count(" ") + 1]] == name.split())
    answer = at(*words, *consent(command), "-o", "json")
    assert answer.code == 0, answer.err
    assert answer.json["applied"] is True
    return answer


def undo(at: Cli, answer: Answer) -> Answer:
    """Run the command that the result names."""
    program, *words = shlex.split(answer.json["undo"])
    assert program == "dvctl"
    return changed(at, *words)


DONE = {
    "claim to a new consumer": ["claim", "--idle", "0", "--to", "heir"],
    "claim from one": ["claim", "--from", "a", "--to", "b"],
    "claim one": ["claim", "--from", "a", "--idle", "400s", "--to", "b"],
    "release": ["claim", "--from", "b"],
    "retire": ["consumers", "retire", "a", "idle", "--to", "heir", "--force"],
    "retire all": ["consumers", "retire", "--dead-for", "0s", "--force"],
    "retire idle": ["consumers", "retire", "idle"],
    "reset to start": ["reset-group", "--to", "start", "--force"],
    "reset to end": ["reset-group", "--to", "end", "--force"],
    "destroy": ["destroy-group", "--force"],
}


@pytest.mark.parametrize("words", DONE.values(), ids=DONE)
def test_what_was_done_to_a_group_is_undone(words: list[str], at: Cli, group: Group, held: list[EntryId]) -> None:
    """And the undoing is undone, and that once more."""
    before = State(group)
    done = changed(at, *words)
    after = State(group) if group.info() else None
    first = undo(at, done)
    before.assert_same(group)
    again = undo(at, first) if after else None
    if after and again:
        after.assert_same(group)
        undo(at, again)
        before.assert_same(group)


def test_a_restored_group_is_as_it_was_before_that(at: Cli, group: Group, held: list[EntryId]) -> None:
    """Restoring makes acknowledged entries pending again and creates consumers; undoing that takes both back."""
    snapshot = changed(at, "reset-group", "--to", "end", "--force").json["snapshot"]
    group.acknowledge(held[:3])
    GroupConsumer(group, "c").read_new(5)
    assert group.retire(["idle"], "c").retired == ["idle"]
    before = State(group)
    restored = changed(at, "restore-group", snapshot)
    assert set(held[:3]) <= set(pending(group))
    plan = at("restore-group", restored.json["snapshot"], "--dry-run").err
    assert "3 entries that restore-group made pending would be acknowledged" in plan
    undo(at, restored)
    before.assert_same(group)


def test_entries_acknowledged_after_a_claim_are_not_pending_again(at: Cli, group: Group, held: list[EntryId]) -> None:
    done = changed(at, "claim", "--from", "a", "--to", "heir")
    group.acknowledge(held[:1])
    group.stream.client.xdel(group.stream.key, str(held[1]))
    undone = undo(at, done).json
    assert (undone["restored"], undone["acknowledged"], undone["unrestorable"]) == (2, 1, [str(held[1])])
    assert held[0] not in pending(group)
    assert {pending(group)[key].consumer for key in held[2:4]} == {"a"}


def test_a_claim_snapshot_does_not_create_a_group(at: Cli, group: Group, held: list[EntryId]) -> None:
    done = changed(at, "claim", "--from", "a", "--to", "heir")
    changed(at, "destroy-group", "--force")
    answer = at("restore-group", done.json["snapshot"], "--yes")
    assert (answer.code, "has no group" in answer.err) == (1, True)


def test_a_claim_that_finds_nothing_any_more_leaves_no_file(at: Cli, group: Group, held: list[EntryId]) -> None:
    from devicevault_cli.operations.entries.claim import ClaimFilter, plan_claim

    planned = plan_claim(group, ClaimFilter(ids=held[:1]), "heir")
    group.acknowledge(held[:1])
    assert planned.apply().snapshot is None
    assert at("snapshots", "-o", "json").json["total"] == 0


def test_without_a_state_directory_the_plan_says_that_there_is_no_undo(
    at: Cli, group: Group, held: list[EntryId], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/1")
    answer = at("claim", "--from", "a", "--to", "b", "--yes")
    assert answer.code == 0
    assert answer.err.count(f"{CANNOT}: no snapshot can be written") == 1
    assert {entry.consumer for entry in pending(group).values()} == {"b"}


def test_acknowledged_messages_are_brought_back_by_replay_and_dropped_ones_processed_again(
    at: Cli, group: Group, table: Repository, held: list[EntryId]
) -> None:
    done = changed(at, "ack", *map(str, held[:2]))
    assert undo(at, done).json["inserted"] == 2
    (bad,) = group.stream.add([message(11, device_id="99")])
    assert at("consume", "--drain", "--claim-idle", "0").code == 0
    assert DeadLetters(group.stream, group.name).length() == 1
    dropped = changed(at, "dlq", "drop", "--all")
    assert dropped.json["undo"] == f"dvctl replay {bad}"
    answer = at("replay", str(bad), "--yes", "-o", "json")
    assert answer.json["rejected"] == {"unknown-device": 1}, "the message is as bad as before"
    assert "still invalid: rejected, or with --republish a dead letter again" in dropped.err
    said = at("replay", str(bad), "--yes")
    assert (said.out + said.err).count("Replayed 0 of 1 entry; 1 rejected (unknown-device 1).") == 1
    assert at("replay", str(bad), "--republish", "--yes").code == 0
    assert at("consume", "--drain").code == 0
    assert DeadLetters(group.stream, group.name).length() == 1, "a dead letter again"
    many = changed(at, "replay", "--from", "start").err
    assert CANNOT in many


def test_many_acknowledged_entries_are_not_listed(at: Cli, group: Group, held: list[EntryId]) -> None:
    answer = changed(at, "ack", *map(str, held[:7]))
    assert answer.json["undo"] is None
    assert "hint: to bring one back while its entry is on the stream: dvctl replay ID" in answer.err


def test_an_undo_repeats_the_settings_that_were_typed(at: Cli, group: Group, held: list[EntryId]) -> None:
    chosen = ["--stream", group.stream.key, "--group", group.name]
    done = changed(at, "ack", str(held[0]), *chosen)
    assert done.json["undo"] == f"dvctl replay {held[0]} {shlex.join(chosen)}"
    undo(at, done)


# --- trim


def trimmed(at: Cli, *words: str) -> Answer:
    assert at("consume", "--drain", "--claim-idle", "0").code == 0
    return at("trim", "--keep", "0s", "--yes", "-o", "json", *words)


def test_a_trim_exports_first_and_publish_reads_it_back(
    at: Cli, group: Group, held: list[EntryId], tmp_path: Path
) -> None:
    group.stream.add([message(20, device_config="secret")])
    file = tmp_path / "removed.jsonl"
    done = trimmed(at, "--export", str(file))
    assert (done.json["removed"], done.json["exported"], done.json["file"]) == (11, 11, str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    program, *words = shlex.split(done.json["undo"])
    assert at(*words).code == 0
    info = group.stream.info()
    assert info is not None
    assert info.length == 11
    assert b"secret" in [entry.fields.get(b"device_config") for page in group.stream.pages() for entry in page]
    drained = at("consume", "--drain", "-o", "json").json
    assert (drained["persisted"], drained["duplicates"]) == (0, 11), "each has its row already"
    assert program == "dvctl"


@pytest.mark.parametrize("where", ["there", "no-such-folder/file"])
def test_nothing_is_trimmed_if_the_export_fails(
    at: Cli, group: Group, held: list[EntryId], tmp_path: Path, where: str
) -> None:
    (tmp_path / "there").write_text("mine")
    (tmp_path / "no-such-folder").write_text("no folder")
    answer = trimmed(at, "--export", str(tmp_path / where))
    assert answer.code in {1, 2}
    info = group.stream.info()
    assert info is not None
    assert info.length == 10
    assert (tmp_path / "there").read_text() == "mine"


# --- the journal


def test_the_journal_has_no_secrets_and_says_what_failed(at: Cli, group: Group, held: list[EntryId]) -> None:
    url = at.environ["DEVICEVAULT_REDIS_URL"].replace("://", "://:hidden@")
    assert at("ack", "--database-url", "postgresql://u:hidden@127.0.0.1:1/x", str(held[0]), "--yes").code == 69
    assert at("dlq", "retry", "--all", "--set", "device_config=hidden", "--yes").code == 0, "nothing to do"
    at("ack", str(held[0]), "--why", f"see {url}", "--yes")
    (entry,) = at("journal", "-o", "json").json["entries"]
    assert "hidden" not in journal.journal_path().read_text()
    assert entry["line"] == f"dvctl ack {held[0]} --why 'see {url.replace('hidden', '***')}' --yes"
    assert (entry["stream"], entry["group"], entry["outcome"]) == (group.stream.key, group.name, "done")


def test_the_journal_names_the_stream_of_a_repair(at: Cli, group: Group, held: list[EntryId]) -> None:
    """The answer of verify has facts about the stream under that name."""
    group.acknowledge(held[:1])
    at("verify", "--repair", "--yes")
    entry = at("journal", "-n", "1", "-o", "json").json["entries"][0]
    assert (entry["command"], entry["stream"], entry["group"]) == ("verify --repair", group.stream.key, group.name)
    assert "{" not in at("journal", "-n", "1").out


def test_a_secret_on_the_command_line_is_hidden(at: Cli, group: Group, held: list[EntryId]) -> None:
    letters = DeadLetters(group.stream, group.name)
    group.stream.add([message(11, device_id="99")])
    assert at("consume", "--drain", "--claim-idle", "0").code == 0
    assert letters.length() == 1
    database = at.environ["DEVICEVAULT_DATABASE_URL"]
    given = ["--set", "device_config=hidden", "--set=device_id=1", f"--database-url={database}"]
    assert at("dlq", "retry", "--all", *given, "--yes").code == 0
    (entry,) = at("journal", "-o", "json").json["entries"]
    assert "hidden" not in journal.journal_path().read_text()
    assert "--set 'device_config=***' --set=device_id=1" in entry["line"]


def test_a_change_that_fails_half_way_is_journalled(
    at: Cli, group: Group, held: list[EntryId], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Group, "discard", broken)
    assert at("ack", str(held[0]), "--yes").code == 130
    shown = at("journal").out
    assert "  interrupted\n" in shown
    assert f"  dvctl ack {held[0]} --yes\n" in shown


def test_the_journal_does_not_grow_for_ever(
    at: Cli, group: Group, held: list[EntryId], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MOST_BYTES", 1500)
    for key in held[:7]:
        assert at("ack", str(key), "--yes").code == 0
    files = [journal.older_path(), journal.journal_path()]
    assert all(file.stat().st_size < 3000 for file in files)
    kept = [entry["line"].split()[2] for entry in at("journal", "-o", "json").json["entries"]]
    assert kept == [*map(str, held[7 - len(kept) : 7])], "the newest, in order"
    assert len(kept) >= 2
    assert at("journal", "-n", "1", "-o", "json").json["entries"][0]["line"].split()[2] == str(held[6])


def test_the_journal_is_filtered_by_time_and_survives_garbage(at: Cli, group: Group, held: list[EntryId]) -> None:
    assert "no changes: " in at("journal").out
    assert at("ack", str(held[0]), "--yes").code == 0
    path = journal.journal_path()
    old = {"at": "2020-01-01T00:00:00.000Z", "user": "eve", "host": "h", "pid": 1, "command": "ack", "plan": {}}
    lines = [json.dumps(old | {"result": {"error": "broken"}}), '{"at": 1', "[]", path.read_text()]
    path.write_text("\n".join(lines))
    answer = at("journal", "-o", "json")
    first, second = answer.json["entries"]
    assert (first["user"], first["outcome"], first["says"], first["line"]) == ("eve", "failed", "broken", None)
    assert answer.json["unreadable"] == 2
    assert "2 lines of" in answer.err
    assert at("journal", "--since", "-1h", "-o", "json").json["entries"] == [second]
    heads = at("journal", "-o", "csv").out.splitlines()[0]
    assert heads == "at,user,host,pid,command,line,stream,group,redis,database,outcome,says,undo"


# --- the snapshots


def test_snapshots_lists_what_can_be_restored(at: Cli, group: Group, held: list[EntryId], tmp_path: Path) -> None:
    assert "no snapshots: " in at("snapshots").out
    claimed = changed(at, "claim", "--from", "a", "--to", "b").json["snapshot"]
    destroyed = changed(at, "destroy-group", "--force").json["snapshot"]
    answer = at("snapshots", "list", "-o", "json").json
    assert [row["file"] for row in answer["snapshots"]] == [destroyed, claimed]
    newest, oldest = answer["snapshots"]
    assert (newest["command"], newest["entries"], newest["group"]) == ("destroy-group", 7, group.name)
    assert (oldest["command"], oldest["entries"], oldest["whole"]) == ("claim", 4, True)
    assert oldest["size"] == Path(claimed).stat().st_size
    Path(claimed).write_text(Path(claimed).read_text().replace('"a"', '"x"'))
    (oldest,) = (row for row in at("snapshots", "-o", "json").json["snapshots"] if row["file"] == claimed)
    assert (oldest["whole"], oldest["restore"]) == (False, None)
    shown = at("snapshots").out
    assert "DAMAGED" in shown
    assert f"  dvctl restore-group {destroyed}\n" in shown
    assert f"{claimed} does not match its checksum" in " ".join(shown.split())
    assert len(at("snapshots", "-n", "1", "-o", "jsonl").out.splitlines()) == 1


def test_old_snapshots_are_pruned(at: Cli, group: Group, held: list[EntryId]) -> None:
    old = Path(changed(at, "claim", "--from", "a", "--to", "b").json["snapshot"])
    new = Path(changed(at, "claim", "--from", "b", "--to", "a").json["snapshot"])
    os.utime(old, (time.time() - 90_000,) * 2)
    assert at("snapshots", "prune", "--keep", "1d", "--dry-run").code == 0
    assert old.exists()
    assert changed(at, "snapshots", "prune", "--keep", "1d").json["deleted"] == [str(old)]
    assert (old.exists(), new.exists()) == (False, True)


# --- rows


def test_a_file_for_the_other_table_or_under_the_index_is_refused(at: Cli, sqlite_url: str, table: Repository) -> None:
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as database, database:
        row = "('t', 'same', 1, 'success', '2026-01-01 00:00:00', '[]')"
        columns = "task_id, task_identifier, device_id, status, timestamp, log"
        database.execute(f"INSERT INTO devices_devicebackupresult ({columns}) VALUES {row}, {row}")
    done = changed(at, "db", "dedupe")
    answer = at("db", "restore", done.json["snapshot"], "--pipeline", "storage", "--yes")
    assert (answer.code, "has rows of devices_devicebackupresult" in answer.err) == (2, True)
    assert at("db", "index", "--yes").code == 0
    refused = at("db", "restore", done.json["snapshot"], "--yes")
    assert (refused.code, "refuses duplicate rows" in refused.err, table.count()) == (1, True, 1)
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as database, database:
        database.execute("DROP INDEX devices_devicebackupresult_task_identifier_dvctl")
    undo(at, done)
    assert table.count() == 2
