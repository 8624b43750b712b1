"""Text that means harm, through every command and format, into a terminal emulator: it is shown and does nothing."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import unicodedata
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pyte
import pytest
from redis.typing import EncodableT, FieldT

from devicevault_cli.cli.app import COMMANDS as ALL
from tests.cli.conftest import Cli
from tests.cli.test_every_command import World
from tests.cli.test_exit_codes import consent

ATTACKS = (
    *(
        "\x1b]0;owned\x07",
        "\x1b]52;c;b3duZWQ=\x07",
        "\x1b[2J\x1b[H",
        "\x1b[10A",
        "\x1bc",
        "\x1b[?1049h",
        "\x1bP1$r\x1b\\",
    ),
    *("\x9b2J", "\x9d0;owned\x9c", "\x90q\x9c", "\x07\x08\x08", "\x0e\x0f", "\r", "\x0b\x0c", "\x7f", "\x85", "\u2028"),
    *("\u202eback", "\u2066\u2067", "\u200b\u200d\ufeff", "\u00ad\u034f", "\U000e0041", "[bold red]owned[/]", ":bomb:"),
    *("[link=http://x]y[/link]", "a\nb\n\nc", "\t", '"', "'", "\\", "\x1b[31m"),
)
EVIL = "".join(ATTACKS)
FORMULAS = ("=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\uff1d1", " =1")
COMMANDS = [words for words in ALL if words not in {"demo", "config", "top", "completion", "help"}]
"""`top` has a test on a terminal of its own."""
_SEEN = re.compile(r"\x1b\[[0-9;]*m")
_PROGRESS = re.compile(r"\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\r")
"""What dvctl itself sends: colours, and on stderr the moving line of its progress."""
HARMLESS = {"draw", "linefeed", "carriage_return", "select_graphic_rendition"}


class HostileWorld(World):
    """Every name and every text there is means harm."""

    stream, group = f"str{{eam{EVIL}}}", f"group{EVIL}"
    ghost, heir = f"ghost{EVIL}", f"heir{EVIL}"


class Recorder:
    """A screen that notes what it was told to do."""

    def __init__(self) -> None:
        self.screen = pyte.Screen(200, 500)
        self.done: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        action = getattr(self.screen, name)

        def noted(*arguments: Any, **options: Any) -> Any:
            self.done.add(name)
            return action(*arguments, **options)

        return noted if callable(action) else action


def shown(text: str) -> Recorder:
    """What a terminal does with the text; lines end as a terminal's driver ends them."""
    recorder = Recorder()
    pyte.Stream(cast(pyte.Screen, recorder)).feed(text.replace("\n", "\r\n"))
    return recorder


def inert(out: str, err: str = "") -> None:
    """Nothing but lines of text and dvctl's own colours (and the moving line of its progress, on stderr)."""
    for text in (out, _PROGRESS.sub("", err)):
        left = _SEEN.sub("", text)
        bad = {each for each in left if each != "\n" and unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
        assert not bad, sorted(map(ascii, bad))
        recorder = shown(text)
        assert recorder.done <= HARMLESS, recorder.done - HARMLESS
        assert (recorder.screen.title, recorder.screen.icon_name) == ("", "")


@pytest.fixture
def hostile(cli: Cli, redis_url: str, sqlite_url: str, tmp_path: Path) -> Callable[[], World]:
    """Make such a world anew, on a terminal."""
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE devices_device SET name = ?", [EVIL[:128]])
    names = {"DEVICEVAULT_RESULTS_STREAM": HostileWorld.stream, "DEVICEVAULT_RESULTS_GROUP": HostileWorld.group}
    at = cli.at(redis_url, sqlite_url, **names, TERM="xterm-256color")

    def make() -> World:
        world = HostileWorld(at, redis_url, tmp_path)
        messages(world)
        world.cli = replace(at, tty=True)
        return world

    return make


def messages(world: World) -> None:
    """Pending, lost, undelivered and bad messages, with attacks in every field and in the names of fields."""
    base: dict[FieldT, EncodableT] = {
        "device_id": "1",
        "task_id": EVIL[:60],
        "status": "\x1b]0;x\x07",
        "log": json.dumps([EVIL, "\x9b2J"]),
    }
    raw = {"log": json.dumps([EVIL], ensure_ascii=False), "initiated_at": EVIL, "collection_duration_ms": EVIL}
    named, unknown = {EVIL: EVIL, "_dvctl.x": EVIL}, {"device_id": "99", "device_config": EVIL}
    for number, more in enumerate((raw, named, unknown, {"device_id": EVIL}, {"status": EVIL})):
        for attack in (EVIL[:100], *FORMULAS):
            fields = base | {"task_identifier": f"{attack}{number}"} | more
            world.client.xadd(world.stream, fields)
    lost = world.client.xadd(world.stream, base | {"task_identifier": EVIL[:90]})
    world.client.xreadgroup(world.group, world.ghost, {world.stream: ">"}, count=1000)
    world.client.xack(world.stream, world.group, lost)
    world.client.xadd(world.stream, base | {"task_identifier": "undelivered"})
    about = {"_dvctl.id": "5-5", "_dvctl.group": world.group, "_dvctl.consumer": world.ghost, "_dvctl.deliveries": EVIL}
    dead = f"{world.stream}:dead"
    world.client.xadd(dead, base | about | {"_dvctl.reason": EVIL, "_dvctl.detail": EVIL, "_dvctl.at": EVIL})
    for number, formula in enumerate(FORMULAS):
        more = {"_dvctl.id": f"6-{number}", "_dvctl.reason": formula, "task_identifier": formula}
        world.client.xadd(dead, base | about | more)


@pytest.mark.parametrize("words", COMMANDS)
def test_hostile_text_does_nothing_in_any_format(hostile: Callable[[], World], words: str) -> None:
    once = ALL[words].needs.changes or words in {"consume", "export", "publish"}
    agreed = [HostileWorld.group if each == "devicevault" else each for each in consent(words)]
    world = hostile()
    for output in ALL[words].needs.formats:
        if once:
            world.client.flushall()
            for made in ("export.jsonl", "new.sqlite3"):
                (world.folder / made).unlink(missing_ok=True)
            world = hostile()
        line = [*world.line(words), *agreed, *(["--show", "lost"] if words == "verify" and output == "ids" else [])]
        answer = world.cli(*line, "--verbose", "-o", output)
        assert answer.code in {0, 1, 2, 3} if words == "check" else answer.code in {0, 3}, (line, answer.err)
        inert(answer.out, answer.err)
        SHAPES[output](answer.out)


def json_is_one_document(out: str) -> None:
    assert out.count("\n") == 1
    json.loads(out)


def each_line_is_an_object(out: str) -> None:
    assert out.endswith("\n") or not out
    assert all(isinstance(json.loads(line), dict) for line in out.split("\n")[:-1])


def cells_are_inert(out: str) -> None:
    for row in csv.reader(io.StringIO(out)):
        for cell in row:
            assert not cell.startswith(("=", "+", "@", "\t", "\r", "\uff1d")), cell
            assert not cell.startswith("-") or re.fullmatch(r"-[0-9.]+", cell), cell


def anything(out: str) -> None:
    """A table is for people, ids have their own test."""


SHAPES = {
    "table": anything,
    "json": json_is_one_document,
    "jsonl": each_line_is_an_object,
    "csv": cells_are_inert,
    "ids": anything,
}


@pytest.mark.parametrize(
    "line",
    [
        *(["dlq", "list", "--reason", EVIL], ["dlq", "show", "5-5", "--reveal"], ["pending", "--summary"]),
        *(
            ["tail", "--no-follow", "--since", "0"],
            ["show", "1-1"],
            ["status", "--group", EVIL],
            ["status", "--stream", EVIL],
        ),
        *(["show", EVIL], [EVIL], ["status", f"--{EVIL}"], ["pending", "--min-idle", EVIL], ["dlq", EVIL]),
        *(["restore-group", EVIL, "--yes"], ["status", "--profile", EVIL], ["status", "--config", EVIL]),
        *(["consumers", "retire", EVIL, "--yes"], ["destroy-group", "--confirm", EVIL], ["publish", "--file", EVIL]),
        *(["destroy-group"], ["reset-group", "--to", "start"], ["claim", "--idle", "0"], ["verify", "--repair"]),
        *(["dlq", "retry", "--all", "--set", f"x={EVIL}"], ["trim", "--keep", "0", "--ignore-group", EVIL]),
        *(["check", "--format", "prometheus"], ["check", "--format", "nagios"], ["check", "--format", "json"]),
        *(["pending", "--redis-url", f"redis://{EVIL}@127.0.0.1:1"], ["verify", "--database-url", f"sqlite:///{EVIL}"]),
    ],
    ids=ascii,
)
def test_hostile_text_does_nothing_in_questions_and_refusals(hostile: Callable[[], World], line: list[str]) -> None:
    world = hostile()
    for typed in ("n\n", f"{world.group}\n", "y\n"):
        answer = world.cli(*line, "--verbose", stdin=typed)
        inert(answer.out, answer.err)


def test_the_log_is_an_object_a_line(hostile: Callable[[], World]) -> None:
    world = hostile()
    world.client.hset(f"{world.stream}:alone", "x", "y")
    line = ["consume", "--max-messages", "40", "--claim-idle", "1ms", "--log-format", "json", "--verbose"]
    answer = replace(world.cli, tty=False)(*line)
    assert answer.code == 0, answer.err
    inert(answer.err)
    each_line_is_an_object(answer.err)
    assert "group" in answer.err


@pytest.mark.parametrize("suffix", ["md", "html"])
def test_a_report_is_inert(hostile: Callable[[], World], tmp_path: Path, suffix: str) -> None:
    world, report = hostile(), tmp_path / f"report.{suffix}"
    assert world.cli("verify", "--report", str(report)).code == 3
    text = report.read_text()
    inert(text)
    assert "owned" in text, "what it says of the hostile messages is there"


def test_the_recorder_sees_what_hostile_text_would_do() -> None:
    """The test's own test."""
    assert shown("\x1b]0;owned\x07").screen.title == "owned"
    assert "cursor_up" in shown("\x1b[10A").done
    for attack in ATTACKS[:12]:
        with pytest.raises(AssertionError):
            inert(attack)
