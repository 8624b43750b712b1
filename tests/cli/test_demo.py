"""dvctl demo: its story with a crash and an outage, without its extra, and with its servers kept."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import threading

import pytest

from devicevault_cli.cli import signals
from devicevault_cli.cli.app import run
from devicevault_cli.consumer import demo_faults
from devicevault_cli.output.terminal import Terminal
from devicevault_cli.streams import embedded
from tests.cli.conftest import Cli


@pytest.fixture
def without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without redis-server."""
    monkeypatch.setattr(shutil, "which", lambda _: None)


@pytest.mark.parametrize("absent", ["fakeredis", "lupa"])
def test_without_a_redis_and_without_the_extra(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, without_redis: None, absent: str
) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None if name == absent else object())
    answer = cli("demo")
    assert (answer.code, answer.out) == (1, "")
    assert "pip install 'dvctl[demo]'" in answer.err


def test_the_story_with_its_servers_kept(cli: Cli, monkeypatch: pytest.MonkeyPatch, without_redis: None) -> None:
    """With fakeredis: a process is killed while it holds entries, the database goes away, nothing is lost."""
    monkeypatch.setattr(demo_faults, "CLAIM_IDLE_S", 0.2)
    out, err = io.StringIO(), io.StringIO()
    looked: list[tuple[int, int, int]] = []

    def look() -> None:
        """In another terminal, with the URLs that the demo shows."""
        urls = dict(re.findall(r"export (\w+)=(\S+)", err.getvalue()))
        status = cli.at(urls["DEVICEVAULT_REDIS_URL"], urls["DEVICEVAULT_DATABASE_URL"])("status", "-o", "json").json
        looked.append((status["stream"]["length"], status["table"]["rows"], status["dead"]["length"]))

    monkeypatch.setattr(signals, "interrupted", look)
    code = run(["demo", "--keep", "-o", "json"], Terminal(io.StringIO(), out, err, cli.environ))
    story = err.getvalue()
    assert code == 0, story
    answer = json.loads(out.getvalue())
    assert (answer["persisted"], answer["dead_lettered"], answer["verify"]["ok"]) == (300, 8, True)
    assert looked == [(328, 300, 8)]
    for sentence in (
        r"^Redis: fakeredis",
        r"read [1-9]\d* of 50 new messages\.\n",
        r"`kill -9` ended it before they were written: [1-9]\d* entries are pending, 0 rows",
        r"took [1-9]\d* entries over",
        r"tried 4 times to write them,\n +and acknowledged nothing: [1-9]\d* entries are pending",
        r"continued by itself:\n +50 rows, 0 pending",
        r"compared all 328 entries with the 300 rows",
    ):
        assert re.search(sentence, story), (sentence, story)
    assert "warning" not in story
    assert max(map(len, story.splitlines())) <= 80 or "DATABASE_URL" in max(story.splitlines(), key=len)


def test_ctrl_c_ends_the_waiting_and_nothing_else() -> None:
    before = signal.getsignal(signal.SIGINT)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    signals.interrupted()
    timer.join()
    assert signal.getsignal(signal.SIGINT) is before
