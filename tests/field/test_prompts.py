"""A real terminal of 80 columns: prompts, answers to them, Ctrl-C, Ctrl-D, and nothing left of a progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import redis
from redis.typing import EncodableT, FieldT

from tests.support.process import Dvctl
from tests.support.redis_server import RedisServer
from tests.support.screen import Screen, on_a_terminal

STREAM, GROUP = "device:results", "devicevault"
CTRL_C, CTRL_D = "\x03", "\x04"
RED = b"\x1b[31m"
CANCELLED = "Cancelled; no changes made."
BAR = "\u2501\u2578\u257a"
"""What a progress bar is drawn with."""


def publish(client: redis.Redis, first: int, count: int, **fields: str) -> list[str]:
    whole: dict[FieldT, EncodableT] = {"device_id": "1", "status": "success"}
    whole.update(cast(dict[FieldT, EncodableT], fields))
    with client.pipeline(transaction=False) as pipe:
        for number in range(first, first + count):
            pipe.xadd(STREAM, whole | {"task_identifier": f"job-{number}"}, id=f"{1_767_225_600_000 + number}-0")
        return [key.decode() for key in pipe.execute()]


@pytest.fixture
def client(dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str) -> Iterator[redis.Redis]:
    dvctl.use(redis_server.url, sqlite_url)
    with redis_server.client() as client:
        yield client


@pytest.fixture
def lost(client: redis.Redis) -> list[str]:
    """3,000 entries that the group passed over, ten of them invalid."""
    client.xgroup_create(STREAM, GROUP, "$", mkstream=True)
    ids = publish(client, 0, 2990) + publish(client, 2990, 10, device_id="x")
    client.xgroup_setid(STREAM, GROUP, "$")
    return ids


def no_bar(screen: Screen, label: str) -> None:
    """It was drawn, and nothing of it is left."""
    assert "\u2501".encode() in screen.raw, "the bar was drawn"
    left = [line for line in screen.lines if line.startswith(label) or set(BAR).intersection(line)]
    assert not left, screen.text
    assert screen.column == 0


def test_verify_repair_leaves_nothing_of_its_bar(dvctl: Dvctl, lost: list[str]) -> None:
    with on_a_terminal(["verify", "--repair"], dvctl.environment) as screen:
        screen.wait_for("Repair? [y/N]")
        asked = screen.lines
        assert asked[-1] == "Repair? [y/N]"
        assert asked[0] == "2,990 entries would be inserted into devices_devicebackupresult"
        screen.type("y\n")
        screen.wait_for("3,000 entries")
        assert screen.code(60) == 0
        no_bar(screen, "verifying")
        assert "Repair? [y/N] y" in screen.lines


def test_changes_leave_nothing_of_their_bars(dvctl: Dvctl, lost: list[str]) -> None:
    """One after the other, each on a terminal of its own; the question and the answer begin on lines of their own."""
    for words, label, question, first in (
        (["replay", "--missing"], "replaying", "Replay these entries?", "Replayed"),
        (["dlq", "retry", "--all", "--set", "device_id=2"], "retrying", "Retry these dead letters?", "Retried"),
        (["reset-group", "--to", "start"], "looking at entries", f"Move group {GROUP}?", "Moved"),
    ):
        if words[0] == "dlq":
            dvctl.ok("verify", "--repair", "--yes")
        with on_a_terminal(words, dvctl.environment) as screen:
            screen.wait_for(question)
            assert screen.lines[-1] == f"{question} [y/N]", words
            screen.type("y\n")
            assert screen.code(60) == 0, screen.text
            no_bar(screen, label)
            after = screen.lines[screen.lines.index(f"{question} [y/N] y") + 1]
            assert after.split()[0] == first, screen.text


def test_export_and_drain_leave_nothing_of_their_bars(
    dvctl: Dvctl, client: redis.Redis, lost: list[str], tmp_path: Path
) -> None:
    with on_a_terminal(["export", str(tmp_path / "x.jsonl")], dvctl.environment) as screen:
        assert screen.code(60) == 0
        no_bar(screen, "exporting")
        assert screen.lines[0].startswith("Exported 3,000 entries to")
    client.xgroup_setid(STREAM, GROUP, "0")
    with on_a_terminal(["consume", "--drain", "--rate", "3000"], dvctl.environment) as screen:
        assert screen.code(60) == 0
        no_bar(screen, "consuming")


def test_an_answer_elsewhere_leaves_the_terminal_clean(dvctl: Dvctl, lost: list[str], tmp_path: Path) -> None:
    """stdout is a file, stderr a narrow terminal, where the bar is drawn and erased."""
    with (
        (tmp_path / "answer").open("wb") as file,
        on_a_terminal(["verify"], dvctl.environment, stdout=file, columns=40) as screen,
    ):
        assert screen.code(60) == 3
        no_bar(screen, "verifying")
    assert "lost" in (tmp_path / "answer").read_text()


@pytest.fixture
def held(client: redis.Redis) -> str:
    """An entry that a consumer holds which is not alive any more."""
    client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    (key,) = publish(client, 0, 1)
    client.xreadgroup(GROUP, "ghost-1", {STREAM: ">"})
    return key


QUESTIONS = {
    "yes or no": (["ack", "ID"], "Acknowledge these entries? [y/N]"),
    "a name": (["destroy-group", "--force"], f"Delete group {GROUP}? Type {GROUP} to continue:"),
}


@pytest.mark.parametrize(("typed", "shown"), [("n\n", " n"), ("\n", ""), ("devicevaul\n", " devicevaul"), (CTRL_D, "")])
@pytest.mark.parametrize("name", QUESTIONS)
def test_a_no_is_cancelled(name: str, typed: str, shown: str, dvctl: Dvctl, client: redis.Redis, held: str) -> None:
    words, question = QUESTIONS[name]
    with on_a_terminal([held if word == "ID" else word for word in words], dvctl.environment) as screen:
        screen.wait_for(question)
        screen.type(typed)
        assert screen.code(30) == 1
        assert screen.lines[-2:] == [f"{question}{shown}", CANCELLED]
        assert screen.column == 0
        assert RED not in screen.raw
        assert "hint:" not in screen.text
    assert client.xpending(STREAM, GROUP)["pending"] == 1


@pytest.mark.parametrize("name", QUESTIONS)
def test_ctrl_c_at_a_prompt_ends_its_line(name: str, dvctl: Dvctl, client: redis.Redis, held: str) -> None:
    words, question = QUESTIONS[name]
    with on_a_terminal([held if word == "ID" else word for word in words], dvctl.environment) as screen:
        screen.wait_for(question)
        screen.type(CTRL_C)
        assert screen.code(30) == 130
        assert screen.lines[-1] == f"{question} ^C"
        assert screen.column == 0
    assert client.xpending(STREAM, GROUP)["pending"] == 1


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["tail"], "job-0"),
        (["verify", "--watch", "--every", "1h"], "ENTRIES"),
        (["top", "--interval", "10s"], "pending"),
    ],
)
def test_ctrl_c_ends_what_follows_with_130_on_a_fresh_line(
    words: list[str], seen: str, dvctl: Dvctl, held: str
) -> None:
    with on_a_terminal(words, dvctl.environment) as screen:
        screen.wait_for(seen)
        screen.type(CTRL_C)
        assert screen.code(30) == 130
        assert screen.column == 0
        assert "Traceback" not in screen.text


def test_without_a_terminal_the_flag_is_named(dvctl: Dvctl, client: redis.Redis, held: str) -> None:
    for words, flag in (
        (["ack", held], "--yes"),
        (["destroy-group"], "--confirm NAME"),
        (["verify", "--repair"], "--yes"),
    ):
        answer = dvctl.run(*words)
        assert (answer.code, answer.stdout) == (2, "")
        assert f"confirmation required, but stdin is not a terminal; use {flag}" in answer.stderr
    assert client.xpending(STREAM, GROUP)["pending"] == 1
