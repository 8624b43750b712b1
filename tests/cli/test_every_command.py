"""Every command, in every format it has, on a real Redis and an SQLite file with something of each kind in them."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path

import pytest
import redis

from devicevault_cli.cli import command as command_module
from devicevault_cli.cli.app import COMMANDS as ALL
from devicevault_cli.output.table import cell_width
from devicevault_cli.streams.model import EntryId
from tests.cli.conftest import Answer, Cli
from tests.cli.test_exit_codes import consent
from tests.support.command_line import taken

KEYS = {
    "consume": "read persisted duplicates conflicting replaced dead_lettered skipped dropped gone reclaimed dispatched "
    "not_dispatched deferred_retries elapsed_s rate_per_s stopped_by",
    "completion": "",
    "config show": "settings dispatch redis",
    "config init": "profile file settings checks replaced default",
    "config validate": "file default connected ok checks",
    "config use": "profile before file",
    "publish": "published first_id last_id",
    "demo": "persisted dead_lettered verify",
    "status": "stream groups consumers table dead discarded incidents dispatch",
    "pending": "group total consumers entries",
    "show": "entries",
    "tail": "entries",
    "top": "",
    "claim": "claimed released gone",
    "ack": "acked unknown",
    "consumers list": "consumers",
    "consumers retire": "retired moved",
    "reset-group": "group from to redelivered already_persisted would_insert would_dispatch skipped pending snapshot "
    "applied",
    "destroy-group": "group pending_lost snapshot applied",
    "restore-group": "group restored unrestorable applied",
    "replay": "selected inserted duplicates overwritten rejected applied",
    "dispatch": "selected dispatched already_stored not_dispatched applied",
    "dlq list": "total reasons entries",
    "dlq show": "entries",
    "dlq stats": "total reasons",
    "dlq retry": "retried persisted duplicates still_dead",
    "dlq drop": "",
    "check": "status checks",
    "doctor": "checks",
    "help": "topics",
    "incidents list": "incidents",
    "incidents acknowledge": "acknowledged unknown applied",
    "verify": "stream classes lost_reasons rows ok elapsed_s examples",
    "trim": "floor would_remove removed blocked_by",
    "export": "exported file",
    "db index": "created duplicates",
    "db dedupe": "removed conflicting",
    "db init": "",
    "db restore": "table restored renumbered present applied",
    "journal": "entries",
    "snapshots list": "snapshots",
    "snapshots show": "at command user stream group table database position entries_read total size whole problem "
    "restore file created newly_pending consumers entries rows next_from",
    "snapshots prune": "deleted kept applied",
}
"""The keys of `-o json`, from the contract."""

SCREENS = ("demo", "top", "completion")
"""Commands that answer with text in every format, or with none."""


class World:
    """Rows, a dead letter, entries that a consumer which died holds, and one nobody read."""

    stream, group, ghost, heir = "device:results", "devicevault", "ghost", "heir"

    def __init__(
        self, cli: Cli, url: str, folder: Path, client: redis.Redis | None = None, broker_url: str = ""
    ) -> None:
        """`client`: of the server that holds the stream, where the URL is none of redis-py's."""
        self.cli, self.url, self.folder, self.broker_url = cli, url, folder, broker_url or url
        self.client = client or redis.Redis.from_url(url)
        self._ok("publish", "--count", "3")
        self._ok("publish", "--device", "999999")
        self._ok("consume", "--drain")
        first = self._ok("publish", "--count", "2", "-o", "json").json["first_id"]
        self.client.xreadgroup(self.group, self.ghost, {self.stream: ">"})
        self._ok("publish")
        self.held = first
        self.dead = self._ok("dlq", "list", "-o", "ids").out.strip()

    def line(self, words: str) -> list[str]:
        """A command line that gives a whole answer here."""
        needed = {
            "consume": ["--max-messages", "1"],
            "check": ["--max-lag", "1000"],
            "tail": ["--no-follow"],
            "show": [self.held],
            "ack": [self.held],
            "claim": ["--idle", "0"],
            "consumers retire": [self.ghost, "--to", self.heir],
            "reset-group": ["--to", "start", "--force"],
            "destroy-group": ["--force"],
            "replay": ["--id", self.held],
            "dispatch": ["--missing", "--broker-url", self.broker_url],
            "dlq show": [self.dead],
            "dlq retry": ["--all"],
            "dlq drop": ["--all"],
            "trim": ["--keep", "0"],
            "snapshots prune": ["--keep", "0s"],
        }
        if words == "restore-group":
            snapshot = self._ok("destroy-group", "--force", "--confirm", self.group, "-o", "json").json["snapshot"]
            return ["restore-group", snapshot]
        if words == "snapshots show":
            return ["snapshots", "show", self._ok("claim", "--idle", "0", "--yes", "-o", "json").json["snapshot"]]
        if words in ("config validate", "config use"):
            self._ok("config", "init", "p", "--redis-url", self.url, "--force")
            return [*words.split(), "p"]
        if words == "config init":
            return ["config", "init", "p", "--redis-url", self.url, "--force"]
        if words == "db restore":
            return ["db", "restore", str(self.removed())]
        if words == "export":
            return ["export", str(self.folder / "export.jsonl")]
        if words == "db init":
            return ["db", "init", "--database-url", f"sqlite:///{self.folder / 'new.sqlite3'}"]
        return [*words.split(), *needed.get(words, [])]

    def removed(self) -> Path:
        """A file with a row that db dedupe removed."""
        self.duplicate()
        return Path(self._ok("db", "dedupe", "--yes", "-o", "json").json["snapshot"])

    def duplicate(self) -> None:
        """Insert a row a second time."""
        columns = "task_id, task_identifier, device_id, status, timestamp, log, initiated_at, collection_duration_ms"
        table = "devices_devicebackupresult"
        path = self.cli.environ["DEVICEVAULT_DATABASE_URL"].removeprefix("sqlite:///")
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(f"DROP INDEX IF EXISTS {table}_task_identifier_dvctl")
            database.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {table} WHERE id = 1")

    def _ok(self, *words: str) -> Answer:
        answer = self.cli(*words)
        assert answer.code == 0, f"{words}: {answer.err}"
        return answer


@pytest.fixture
def world(cli: Cli, redis_url: str, sqlite_url: str, tmp_path: Path) -> World:
    return World(cli.at(redis_url, sqlite_url), redis_url, tmp_path)


def test_the_keys_of_every_command_are_known() -> None:
    assert KEYS.keys() == ALL.keys()


@pytest.mark.parametrize(
    ("words", "output"),
    [(words, output) for words in ALL for output in ALL[words].needs.formats if words not in SCREENS],
)
def test_every_format_of_every_command(world: World, words: str, output: str) -> None:
    more = ["--show", "lost"] if words == "verify" and output == "ids" else []
    answer = world.cli(*world.line(words), *consent(words), *more, "-o", output)
    # The device of the one dead letter still does not exist, so that nothing is persisted.
    assert answer.code == 1 if words == "dlq retry" else answer.code in {0, 3}, answer.err
    assert not [each for each in answer.out + answer.err if each != "\n" and unicodedata.category(each) == "Cc"]
    CHECKS[output](words, answer)


def check_table(words: str, answer: Answer) -> None:
    assert answer.out
    # What shows messages whole does not fold them: a terminal does, and copies them in one piece. `check` is one line.
    if words not in {"show", "dlq show", "check"}:
        assert not [each for each in answer.out.splitlines() if cell_width(each) > 80 and "/" not in each]


def check_json(words: str, answer: Answer) -> None:
    assert set(KEYS[words].split()) <= answer.json.keys()


def check_jsonl(words: str, answer: Answer) -> None:
    assert all(isinstance(json.loads(each), dict) for each in answer.out.splitlines())


def check_csv(words: str, answer: Answer) -> None:
    rows = list(csv.reader(io.StringIO(answer.out)))
    assert len({len(row) for row in rows}) <= 1
    assert all(rows)


def check_ids(words: str, answer: Answer) -> None:
    for each in answer.out.splitlines():
        assert str(EntryId.parse(each)) == each


CHECKS = {"table": check_table, "json": check_json, "jsonl": check_jsonl, "csv": check_csv, "ids": check_ids}


def test_the_keys_of_verify_with_storage(world: World) -> None:
    answer = world.cli("verify", "--storage", "-o", "json")
    assert {*KEYS["verify"].split(), "storage"} <= answer.json.keys()
    assert set(answer.json["storage"]) == {"stored", "store_failed", "not_stored", "in_progress", "not_dispatchable"}


USES = {"db dedupe": "database", "db index": "database", "db restore": "database", "snapshots prune": ""}
USES |= dict.fromkeys(("claim", "consumers retire", "destroy-group", "restore-group", "dlq drop"), "redis")
"""The servers of a changing command that does not use both."""
NOTHING_TO_DO = ("dispatch", "db dedupe", "incidents acknowledge", "snapshots prune")
"""Changing commands that find nothing to do in this world, so that nobody is asked."""


@pytest.mark.parametrize("words", [each for each in ALL if ALL[each].needs.changes and each != "db init"])
def test_a_dry_run_changes_nothing_and_answers_the_same_keys(world: World, words: str, sqlite_url: str) -> None:
    """It and the question name the servers that they are about."""
    line = world.line(words)
    before = {key: world.client.dump(key) for key in sorted(world.client.keys("*"))}
    rows = world.cli("status", "-o", "json").json["table"]
    answer = world.cli(*line, "--dry-run", "-o", "json")
    assert answer.code == 0, answer.err
    assert set(KEYS[words].split()) <= answer.json.keys()
    assert answer.json["applied"] is False
    asked = world.cli.typing("n\n")(*line)
    assert asked.code == (0 if words in NOTHING_TO_DO else 1), asked.err
    wanted = {"redis": world.url, "database": f"SQLite file {sqlite_url.removeprefix('sqlite:///')}"}
    for told in (answer.err, asked.err):
        target = " ".join(told.rpartition("target: ")[2].split())  # on a terminal it is folded
        named = [server for server, name in wanted.items() if name in target]
        assert named == [server for server in wanted if USES.get(words, server) == server], told
        assert ("Redis broker" in target) == (words == "dispatch"), target
    assert {key: world.client.dump(key) for key in sorted(world.client.keys("*"))} == before
    assert world.cli("status", "-o", "json").json["table"] == rows


@pytest.mark.parametrize(
    "words", [each for each in ALL if ALL[each].needs.redis and not ALL[each].needs.changes and each != "top"]
)
def test_nothing_there_yet_is_no_error(cli: Cli, redis_url: str, sqlite_url: str, words: str, tmp_path: Path) -> None:
    """No stream, no group: reading commands say so and exit 0; only verify has nothing to give an all-clear for."""
    needed = {
        "consume": ["--drain"],
        "tail": ["--no-follow"],
        "show": ["1-0"],
        "dlq show": ["1-0"],
        "export": [str(tmp_path / "export.jsonl")],
    }
    answer = cli.at(redis_url, sqlite_url)(*words.split(), *needed.get(words, []), "-o", "json")
    assert answer.code == (3 if words == "verify" else 0), answer.err
    assert set(KEYS[words].split()) <= answer.json.keys()


@pytest.mark.parametrize("words", ALL)
def test_every_command_explains_itself(cli: Cli, words: str) -> None:
    command = ALL[words]
    answer = cli(*words.split(), "--help")
    assert answer.code == 0
    shown = " ".join(answer.out.split())
    assert f"({command.needs.label})" in shown, "it says whether it changes anything"
    assert 0 < len(command.summary) <= 60
    assert command.examples, "it has examples"
    for example in command.examples:
        assert example in shown
        assert f"dvctl {words}" in example or words.partition(" ")[2] in ("list", "show") or words == "completion"
    for parameter in taken(words):
        assert parameter.help, parameter.names
        for name in parameter.names:
            assert name in answer.out
    assert all(len(line) <= 80 for line in answer.out.splitlines())


@pytest.mark.parametrize("words", ALL)
def test_every_example_is_a_command_line_that_can_be_read(
    cli: Cli, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    # Only the reading of the line can fail.
    def note(command: command_module.Command, *_: object) -> int:
        read.append(command.summary)
        return 0

    monkeypatch.setattr(command_module, "_run", note)
    lines = [part for example in ALL[words].examples for part in re.split(r" \| | > ", example)]
    for line in (shlex.split(line, comments=True) for line in lines):
        if line[0] == "dvctl" and line[1] != "--install-completion":
            answer = cli(*line[1:])
            assert answer.code == 0, (line, answer.err)
            assert read.pop()
