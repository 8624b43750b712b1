"""The recovery commands as typed: every format, every refusal, and the stuck system repaired by commands alone."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from devicevault_cli.cli.app import run
from devicevault_cli.output.terminal import Terminal
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from tests.support.consuming import drain
from tests.support.recovering import dump, message, pending


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def dvctl_run(redis_url: str, sqlite_url: str) -> Run:
    """Run a command in this process; `answers` makes it believe in a terminal and types them."""
    environ = {name: value for name, value in os.environ.items() if name.startswith("XDG_")}
    environ |= {"DEVICEVAULT_REDIS_URL": redis_url, "DEVICEVAULT_DATABASE_URL": sqlite_url}

    def command(*words: str, stdin: str = "", answers: str | None = None, **extra: str) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        terminal = Terminal(
            io.StringIO(stdin if answers is None else answers),
            out,
            err,
            environ | extra,
            stdin_is_tty=answers is not None,
            stderr_is_tty=answers is not None,
        )
        return Ran(run(words, terminal), out.getvalue(), err.getvalue())

    return command


@pytest.fixture
def broken(group: Group, table: Repository) -> list[EntryId]:
    """Twelve entries: two persisted, two dead, four held by a consumer that is gone, four undelivered."""
    ids = group.stream.add([message(0), message(1), message(2, device_id="abc"), message(3, device_id="99")])
    drain(group.stream, table)
    ids += group.stream.add(message(number) for number in range(4, 12))
    GroupConsumer(group, "ghost").read_new(4)
    return ids


CHANGING = {
    "claim": ["claim", "--idle", "0"],
    "claim --to": ["claim", "--from", "ghost", "--to", "heir"],
    "ack": ["ack", "HELD"],
    "retire": ["consumers", "retire", "ghost"],
    "reset-group": ["reset-group", "--to", "start", "--force"],
    "replay": ["replay", "--id", "HELD"],
    "republish": ["replay", "--id", "HELD", "--republish"],
    "retry": ["dlq", "retry", "--all", "--set", "device_id=3"],
    "drop": ["dlq", "drop", "--all"],
    "trim": ["trim"],
    "dedupe": ["db", "dedupe"],
    "destroy-group": ["destroy-group", "--force"],
    "restore-group": ["restore-group", "SNAPSHOT"],
}
KEYS = {
    "claim": "claimed released gone",
    "claim --to": "claimed released gone",
    "ack": "acked unknown",
    "retire": "retired moved",
    "reset-group": "group from to redelivered already_persisted would_insert would_dispatch skipped pending snapshot",
    "replay": "selected inserted duplicates overwritten rejected",
    "republish": "selected republished",
    "retry": "retried persisted duplicates still_dead",
    "drop": "dropped",
    "trim": "floor would_remove removed blocked_by",
    "dedupe": "removed conflicting",
    "destroy-group": "group pending_lost snapshot",
    "restore-group": "group restored unrestorable",
}


@pytest.fixture
def typed(broken: list[EntryId], dvctl_run: Run, group: Group, tmp_path: Path) -> Callable[[str], list[str]]:
    """The words of a changing command, with real ids and files in them."""

    def words(name: str) -> list[str]:
        places = {"HELD": str(broken[4]), "SNAPSHOT": str(tmp_path / "snapshot")}
        if "SNAPSHOT" in CHANGING[name]:
            from devicevault_cli.operations.groups.snapshots import Before, existing_group, write_snapshot

            write_snapshot(group, existing_group(group), Before("test")).rename(places["SNAPSHOT"])
        return [places.get(word, word) for word in CHANGING[name]]

    return words


def state(group: Group, table: Repository) -> tuple[Any, Any]:
    return dump(group), table.fetch(range(100))


def consent(name: str) -> list[str]:
    return ["--confirm", "devicevault"] if name == "destroy-group" else ["--yes"]


@pytest.mark.parametrize("name", CHANGING)
def test_a_dry_run_changes_nothing_and_has_the_same_keys(
    name: str, typed: Callable[[str], list[str]], dvctl_run: Run, group: Group, table: Repository
) -> None:
    words = typed(name)
    before = state(group, table)
    planned = dvctl_run(*words, "--dry-run", "-o", "json")
    assert planned.code == 0, planned.err
    assert state(group, table) == before
    assert planned.json["applied"] is False
    done = dvctl_run(*words, *consent(name), "-o", "json")
    assert done.code == 0, done.err
    assert done.json["applied"] is True
    assert set(KEYS[name].split()) <= set(planned.json) <= set(done.json)


@pytest.mark.parametrize("name", CHANGING)
def test_without_a_terminal_and_consent_nothing_is_even_looked_at(
    name: str, typed: Callable[[str], list[str]], dvctl_run: Run, group: Group, table: Repository
) -> None:
    words = typed(name)
    before = state(group, table)
    refused = dvctl_run(*words)
    assert (refused.code, refused.out) == (2, "")
    assert "--confirm" in refused.err if name == "destroy-group" else "--yes" in refused.err
    assert state(group, table) == before
    away = dvctl_run(*words, DEVICEVAULT_REDIS_URL="redis://127.0.0.1:1/0")
    assert away.code == 2


@pytest.mark.parametrize("name", [each for each in CHANGING if each != "dedupe"])
def test_what_cannot_be_reached_is_69(name: str, typed: Callable[[str], list[str]], dvctl_run: Run) -> None:
    answer = dvctl_run(*typed(name), *consent(name), DEVICEVAULT_REDIS_URL="redis://127.0.0.1:1/0")
    assert (answer.code, answer.out) == (69, "")
    assert "127.0.0.1:1" in answer.err


@pytest.mark.parametrize("name", CHANGING)
def test_a_no_changes_nothing(
    name: str, typed: Callable[[str], list[str]], dvctl_run: Run, group: Group, table: Repository
) -> None:
    words = typed(name)
    before = state(group, table)
    answer = dvctl_run(*words, answers="n\n")
    if name != "dedupe":  # which finds nothing to ask about
        assert answer.code == 1
        assert "Cancelled; no changes made." in answer.err
    assert state(group, table) == before


@pytest.mark.parametrize("name", CHANGING)
def test_asked_on_a_terminal_it_is_done(name: str, typed: Callable[[str], list[str]], dvctl_run: Run) -> None:
    answer = dvctl_run(*typed(name), "-o", "json", answers="devicevault\n" if name == "destroy-group" else "y\n")
    assert answer.code == 0, answer.err
    assert answer.json["applied"] is True


@pytest.mark.parametrize("output", ["table", "json", "jsonl", "csv"])
@pytest.mark.parametrize("name", CHANGING)
def test_every_format(name: str, output: str, typed: Callable[[str], list[str]], dvctl_run: Run) -> None:
    answer = dvctl_run(*typed(name), *consent(name), "-o", output)
    assert answer.code == 0, answer.err
    key = KEYS[name].split()[0]
    if output in ("json", "jsonl"):
        assert key in json.loads(answer.out)
    elif output == "csv":
        header, row = csv.reader(io.StringIO(answer.out))
        assert key in header
        assert len(header) == len(row)
    else:
        assert answer.out.count(".\n") == 1, "one sentence"
        assert answer.out[0].isupper()


@pytest.mark.parametrize("output", ["table", "json", "jsonl", "csv"])
@pytest.mark.parametrize("words", [["consumers"], ["dlq", "list"], ["dlq", "stats"], ["dlq", "show", "DEAD"]])
def test_every_format_of_what_only_looks(words: list[str], output: str, broken: list[EntryId], dvctl_run: Run) -> None:
    answer = dvctl_run(*[str(broken[2]) if word == "DEAD" else word for word in words], "-o", output)
    assert answer.code == 0, answer.err
    assert ("ghost" if words == ["consumers"] else "invalid-device-id") in answer.out.replace("\n", "")


@pytest.mark.parametrize(
    "words", [["reset-group", "--to", "start", "--yes"], ["destroy-group", "--confirm", "devicevault"]]
)
def test_a_live_consumer_is_a_refusal(words: list[str], broken: list[EntryId], dvctl_run: Run, group: Group) -> None:
    before = dump(group)
    answer = dvctl_run(*words)
    assert answer.code == 1
    assert "ghost" in answer.err
    assert "--force" in answer.err
    assert dump(group) == before


def test_confirming_another_group_is_a_refusal(broken: list[EntryId], dvctl_run: Run, group: Group) -> None:
    answer = dvctl_run("destroy-group", "--force", "--confirm", "device")
    assert answer.code == 2
    assert group.info() is not None


def test_a_damaged_snapshot_is_1(tmp_path: Path, dvctl_run: Run) -> None:
    (tmp_path / "x").write_text("{}\n")
    assert dvctl_run("restore-group", str(tmp_path / "x"), "--yes").code == 1
    assert dvctl_run("restore-group", str(tmp_path / "y"), "--yes").code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["claim", "--yes"],
        ["ack", "--yes"],
        ["ack", "5-x", "--yes"],
        ["replay", "--yes"],
        ["reset-group", "--yes"],
        ["reset-group", "--to", "tomorrow", "--yes"],
        ["consumers", "retire", "--yes"],
        ["consumers", "retire", "a", "--dead-for", "1h", "--yes"],
        ["consumers", "retire", "--dead-for", "soon", "--yes"],
        ["dlq", "retry", "--yes"],
        ["dlq", "drop", "--yes"],
        ["dlq", "retry", "--all", "--set", "device_id", "--yes"],
        ["dlq", "show"],
        ["trim", "--keep", "7", "--yes"],
        ["export"],
    ],
)
def test_usage(words: list[str], dvctl_run: Run, broken: list[EntryId]) -> None:
    answer = dvctl_run(*words)
    assert (answer.code, answer.out) == (2, "")


@pytest.mark.parametrize("words", [["consumers"], ["dlq", "list"], ["dlq", "stats"]])
def test_where_nothing_is_yet_reading_says_so(words: list[str], dvctl_run: Run, redis_url: str) -> None:
    assert dvctl_run(*words, "-o", "json").code == 0


def test_all_that_is_pending_flows_not_only_a_page(dvctl_run: Run, group: Group) -> None:
    group.stream.add(message(number) for number in range(250))
    GroupConsumer(group, "ghost").read_new(250)
    ids = dvctl_run("pending", "-o", "ids").out
    assert len(ids.split()) == 250
    assert len(dvctl_run("pending", "-o", "ids", "--count", "7").out.split()) == 7
    assert len(dvctl_run("pending", "-o", "json").json["entries"]) == 100
    assert dvctl_run("claim", "--ids", "-", "--yes", "-o", "ids", stdin=ids).out == ids


def test_ids_flow(broken: list[EntryId], dvctl_run: Run, group: Group, table: Repository) -> None:
    ids = dvctl_run("pending", "-o", "ids").out
    assert ids.split() == [str(each) for each in broken[4:8]]
    claimed = dvctl_run("claim", "--ids", "-", "--to", "heir", "--yes", "-o", "ids", stdin=ids).out
    assert claimed == ids
    assert {each.consumer for each in pending(group).values()} == {"heir"}
    assert dvctl_run("replay", "--ids", "-", "--yes", "-o", "json", stdin=claimed).json["inserted"] == 4
    dead = dvctl_run("dlq", "list", "--reason", "unknown-device", "-o", "ids").out
    assert dvctl_run("dlq", "drop", "--ids", "-", "--yes", "-o", "json", stdin=dead).json["dropped"] == 1
    assert dvctl_run("ack", "--ids", "-", "--yes", "-o", "json", stdin=claimed).json["acked"] == claimed.split()


@pytest.mark.parametrize("words", [["replay"], ["claim"], ["ack"], ["dlq", "drop"], ["dlq", "retry"]])
def test_no_ids_from_a_pipe_mean_nothing_not_everything(
    words: list[str], broken: list[EntryId], dvctl_run: Run, group: Group, table: Repository
) -> None:
    before = state(group, table)
    assert dvctl_run(*words, "--ids", "-", "--yes").code == 0
    assert state(group, table) == before


def test_the_undo_line_undoes(broken: list[EntryId], dvctl_run: Run, group: Group) -> None:
    held, info = pending(group), group.info()
    for words in (
        ["reset-group", "--to", "start", "--force", "--yes"],
        ["destroy-group", "--force", *consent("destroy-group")],
    ):
        undo = dvctl_run(*words, "-o", "json").json["undo"]
        assert group.info() != info
        assert dvctl_run(*undo.split()[1:], "--yes").code == 0
        assert group.info() == info
        assert {key: (each.consumer, each.deliveries) for key, each in pending(group).items()} == {
            key: (each.consumer, each.deliveries) for key, each in held.items()
        }


def test_hostile_names_are_shown_inert(dvctl_run: Run, group: Group) -> None:
    group.stream.add([message(1, device_id="\x1b[31mred")])
    GroupConsumer(group, "evil\x1b]0;title\x07").read_new(1)
    for words in (
        ["consumers"],
        ["claim", "--idle", "0", "--dry-run"],
        ["consumers", "retire", "--dead-for", "0", "--dry-run"],
    ):
        for output in ("table", "json", "csv"):
            answer = dvctl_run(*words, "-o", output)
            assert "\x1b" not in answer.out + answer.err
            assert "\x07" not in answer.out + answer.err


def test_the_stuck_system_is_repaired_by_commands_alone(dvctl_run: Run, group: Group, table: Repository) -> None:
    """1,000 messages, 50 of them bad; 300 stranded by consumers that died; 20 good ones acknowledged without a row."""
    bad = [{"device_id": "abc"}, {"device_id": "999"}, {"device_id": ""}, {"log": "{"}, {"status": "x" * 17}]
    group.stream.add(message(number, **(bad[number % 5] if number % 20 == 7 else {})) for number in range(1000))
    for number in range(3):
        GroupConsumer(group, f"consumer-{number}").read_new(100)
    lost = [entry.id for entry in GroupConsumer(group, "consumer-9").read_new(22)]
    lost = [key for number, key in enumerate(lost, 300) if number % 20 != 7][:20]
    group.acknowledge(lost)

    assert dvctl_run("consumers", "retire", "--dead-for", "0", "--yes").code == 0
    drained = dvctl_run("consume", "--drain", "--claim-idle", "1ms", "-o", "json")
    assert drained.code == 0, drained.err
    answer = dvctl_run("replay", "--missing", "--yes", "-o", "json").json
    assert answer["inserted"] == 20
    assert dvctl_run("consumers", "retire", "--dead-for", "0", "--yes").code == 0

    assert table.count() == 950
    stats = dvctl_run("dlq", "stats", "-o", "json").json
    assert stats["total"] == 50
    assert sum(stats["reasons"].values()) == 50
    assert pending(group) == {}
    assert group.consumers() == []


@pytest.mark.parametrize("output", ["table", "json", "jsonl", "csv"])
def test_export_in_every_format(output: str, broken: list[EntryId], dvctl_run: Run, tmp_path: Path) -> None:
    answer = dvctl_run("export", str(tmp_path / "x.jsonl"), "-o", output)
    assert answer.code == 0, answer.err
    assert "12" in answer.out
    assert dvctl_run("export", str(tmp_path / "x.jsonl")).code == 2
    assert dvctl_run("export", str(tmp_path / "x.jsonl"), "--replace").code == 0


def test_exports_come_back_as_rows(broken: list[EntryId], dvctl_run: Run, table: Repository, tmp_path: Path) -> None:
    entries, dead = tmp_path / "entries.jsonl", tmp_path / "dead.jsonl"
    assert dvctl_run("export", str(entries), "--from", str(broken[4]), "-o", "json").json["exported"] == 8
    assert dvctl_run("export", "--file", str(dead), "--dead", "-o", "json").json["exported"] == 2
    assert dvctl_run("replay", "--file", str(entries), "--yes", "-o", "json").json["inserted"] == 8
    assert dvctl_run("replay", "--file", str(dead), "--yes", "-o", "json").json["rejected"] == {
        "invalid-device-id": 1,
        "unknown-device": 1,
    }
    assert table.count() == 10
    entries.write_text(entries.read_text().replace("job-5", "job-X"))
    assert dvctl_run("replay", "--file", str(entries), "--yes").code == 1
    assert dvctl_run("publish", "--file", str(entries)).code == 1


def documented_rights(user: str) -> str:
    """The ACL of a user, as docs/operations.md gives it."""
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    rule = text[text.index(f"ACL SETUSER {user}") :]
    return rule[: rule.index("```")].replace("PASSWORD", "secret")


@pytest.mark.parametrize("name", CHANGING)
def test_the_documented_rights_of_an_operator_suffice(
    name: str, typed: Callable[[str], list[str]], dvctl_run: Run, group: Group, redis_url: str
) -> None:
    words = typed(name)
    client: Any = group.stream.client
    client.execute_command(*documented_rights("dvctl-operator").split())
    try:
        limited = redis_url.replace("redis://", "redis://dvctl-operator:secret@")
        answer = dvctl_run(*words, *consent(name), "-o", "json", DEVICEVAULT_REDIS_URL=limited)
        assert answer.code == 0, answer.err
        assert dvctl_run("dlq", "stats", DEVICEVAULT_REDIS_URL=limited).code == 0
        assert dvctl_run("consumers", DEVICEVAULT_REDIS_URL=limited).code == 0
        assert dvctl_run("consumers", "--stream", "other", DEVICEVAULT_REDIS_URL=limited).code == 77
    finally:
        client.execute_command("ACL", "DELUSER", "dvctl-operator")
