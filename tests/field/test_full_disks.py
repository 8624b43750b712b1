"""Streams that cannot be written: full disks, readers and terminals that are gone. The work goes on all the same."""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support import messages
from tests.support.entries import entries
from tests.support.oracle import GROUP, STREAM, assert_everything
from tests.support.process import DVCTL, Dvctl
from tests.support.redis_server import RedisServer
from tests.support.server import free_port, wait_until

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="only Linux has /dev/full")
CANNOT = "error: this cannot be written: No space left on device\n"


def run(dvctl: Dvctl, *words: str, **streams: object) -> subprocess.CompletedProcess[str]:
    """The command with other streams than pipes, buffered as it is for a user."""
    environ = dvctl.environment | {"PYTHONUNBUFFERED": ""}
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    done: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]
        [DVCTL, *words], env=environ, text=True, timeout=60, check=False, **given
    )
    return done


@pytest.mark.parametrize("stream", ["full", "closed pipe", "full pipe"])
def test_a_log_that_cannot_be_written_stops_no_consumer(
    dvctl: Dvctl, redis_server: RedisServer, postgres_url: str, stream: str
) -> None:
    sent = messages.publish(redis_server.client(), messages.mixed(300, seed=5))
    dvctl.use(redis_server.url, postgres_url)
    reading, writing = os.pipe()
    if stream == "full":
        os.close(writing)
        writing = os.open(FULL, os.O_WRONLY)
    elif stream == "closed pipe":
        os.close(reading)
    else:
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(65_536))
    done = run(dvctl, "consume", "--drain", "-v", "-o", "json", stderr=writing)
    os.close(writing)
    if stream == "full pipe":
        os.close(reading)
    assert (done.returncode, json.loads(done.stdout)["stopped_by"]) == (0, "drained")
    assert_everything(redis_server.url, postgres_url, sent)


def test_a_log_disk_that_fills_up_and_gets_room_again(
    dvctl: Dvctl, redis_server: RedisServer, postgres_url: str, tmp_path: Path
) -> None:
    """The log has a summary of what it lacks, each line of it is whole, and the metric says the same."""
    client = redis_server.client()
    dvctl.use(redis_server.url, postgres_url)
    log, port = tmp_path / "log", free_port()

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, resource.RLIM_INFINITY))

    words: list[str | Path] = [DVCTL, "consume", "--log-format", "json", "--metrics-port", f"127.0.0.1:{port}"]
    with log.open("wb") as stderr:
        daemon = subprocess.Popen(words, env=dvctl.environment, stderr=stderr, preexec_fn=full)  # noqa: PLW1509

    def dropped() -> float:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            found = [line for line in answer.read().decode().splitlines() if line.startswith("dvctl_log_lines_dropped")]
            return float(found[0].rpartition(" ")[2]) if found else 0
        return 0

    try:
        sent = messages.publish(client, messages.bad(1))
        wait_until(lambda: dropped() > 3, what="lines to be dropped")
        wait_until(lambda: settled(client), what="the consumer to go on")
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        sent += messages.publish(client, messages.odd(2))
        wait_until(lambda: b"could not be written" in log.read_bytes(), what="the summary")
        lost = int(dropped())
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
    finally:
        daemon.kill()
        daemon.wait(30)
    before, after = log.read_bytes()[:700].splitlines(), log.read_bytes()[700:].splitlines()
    assert [json.loads(line) for line in before[:-1]]
    told = [json.loads(line)["message"] for line in after if line]
    assert told[0] == f"{lost} log lines could not be written: File too large"
    assert "signal" in told[-1]
    assert_everything(redis_server.url, postgres_url, sent)


def settled(client: redis.Redis) -> bool:
    """Whether the group has read everything and holds nothing."""
    (group,) = client.xinfo_groups(STREAM) or [{}]
    last: Any = client.xrevrange(STREAM, count=1)
    return bool(last) and group.get("pending") == 0 and group.get("last-delivered-id") == last[0][0]


def test_a_terminal_that_is_gone_stops_no_consumer(dvctl: Dvctl, redis_server: RedisServer, postgres_url: str) -> None:
    """Its progress bar cannot be drawn any more."""
    dvctl.use(redis_server.url, postgres_url, TERM="xterm")
    client = redis_server.client()
    sent = messages.publish(client, messages.good(50))
    controller, terminal = pty.openpty()
    words: list[str | Path] = [DVCTL, "consume", "--max-messages", "100"]
    running = subprocess.Popen(
        words, env=dvctl.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=terminal,
        start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    seen = b""
    while b"consuming" not in seen or b"/s" not in seen:
        seen += os.read(controller, 4096)
    os.close(controller)
    sent += messages.publish(client, messages.good(50, start=50))
    try:
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.wait(30)
    assert_everything(redis_server.url, postgres_url, sent)


COMMANDS = (
    "--version", "--help", "help pending", "pending --help", "completion bash", "config", "config -o json", "status",
    "pending -o csv", "tail -n 5 --no-follow", "tail -n 5 --no-follow -o json", "show {first}", "verify",
    "doctor -o jsonl", "dlq list", "consumers", "export -", "publish", "consume --drain", "nonsense",
)  # fmt: skip


def test_a_full_disk_under_the_answer_is_one_line(dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str) -> None:
    messages.publish(redis_server.client(), messages.good(20))
    redis_server.client().xgroup_create(STREAM, GROUP, "0")
    dvctl.use(redis_server.url, sqlite_url)
    ((first, _),) = entries(redis_server.client(), STREAM, count=1)
    for words in (command.format(first=first.decode()) for command in COMMANDS):
        with FULL.open("w") as stdout:
            done = run(dvctl, *words.split(), stdout=stdout)
        assert "Traceback" not in done.stderr, words
        assert "an error in dvctl" not in done.stderr, words
        if words == "nonsense":
            assert done.returncode == 2
            continue
        assert done.returncode == 1, (words, done.stderr)
        assert done.stderr.count(CANNOT) == 1, (words, done.stderr)
    for words in ("--version", "--help", "completion bash"):
        with FULL.open("w") as stdout:
            assert run(dvctl, *words.split(), stdout=stdout).stderr == f"{CANNOT}hint: make room, or write elsewhere\n"
    assert dvctl.json("status")["table"]["rows"] == 21, "what was to be done was done"


@pytest.mark.parametrize("words", ["--version", "status", "publish"])
def test_no_stream_can_be_written(dvctl: Dvctl, redis_url: str, words: str) -> None:
    dvctl.use(redis_url)
    with FULL.open("w") as full:
        assert run(dvctl, words, stdout=full, stderr=full).returncode == 1


def test_a_stream_that_is_no_output(dvctl: Dvctl, redis_url: str) -> None:
    dvctl.use(redis_url)
    with Path(os.devnull).open() as reading:
        for words in ("--version", "status -o json"):
            done = run(dvctl, *words.split(), stdout=reading)
            assert (done.returncode, "error: this cannot be written: " in done.stderr) == (1, True), done
            assert "Traceback" not in done.stderr


def test_a_change_whose_answer_cannot_be_written(dvctl: Dvctl, redis_server: RedisServer, sqlite_url: str) -> None:
    """It says that it was made, and how to undo it."""
    messages.publish(redis_server.client(), messages.good(5))
    client = redis_server.client()
    client.xgroup_create(STREAM, GROUP, "0")
    dvctl.use(redis_server.url, sqlite_url)
    with FULL.open("w") as stdout:
        done = run(dvctl, "reset-group", "--to", "end", "--yes", stdout=stdout)
    assert done.returncode == 1
    assert "warning: the change was made, only the answer could not be written\n" in done.stderr
    undo = done.stderr.partition("hint: to undo this: dvctl ")[2].splitlines()[0]
    assert client.xinfo_groups(STREAM)[0]["last-delivered-id"] != b"0-0"
    dvctl.ok(*undo.split(), "--yes")
    assert client.xinfo_groups(STREAM)[0]["last-delivered-id"] == b"0-0"


@pytest.mark.parametrize("words", ["--version", "--help", "config -o json", "completion bash"])
def test_a_reader_that_is_gone_is_quiet(dvctl: Dvctl, redis_url: str, words: str) -> None:
    dvctl.use(redis_url)
    reading, writing = os.pipe()
    os.close(reading)
    done = run(dvctl, *words.split(), stdout=writing)
    os.close(writing)
    assert (done.returncode in (0, 1, 141), done.stderr) == (True, "")


def test_an_interrupt_while_modules_are_loaded(dvctl: Dvctl) -> None:
    """Ctrl-C before the command has begun: exit 130, no traceback."""
    program = (
        "import sys\nclass Finder:\n def find_spec(self, name, *_):\n  if name == 'typer': raise KeyboardInterrupt\n"
    )
    program += "sys.meta_path.insert(0, Finder())\nfrom devicevault_cli.__main__ import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program], env=dvctl.environment, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (130, b"")
