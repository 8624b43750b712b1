"""Nothing that the tests start outlives them, however they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import guard
from tests.support.server import free_port, running, wait_until

ROOT = Path(__file__).parents[2]

RUN = """
import json, sys, time
from pathlib import Path
from tests.support import guard
from tests.support.process import Dvctl
from tests.support.redis_server import RedisServer
from tests.support.servers import some_redis

server = RedisServer(some_redis()).start()
dvctl = Dvctl(Path(sys.argv[1])).use(server.url, "sqlite:///none").start("tail")
dvctl.freeze()
server.freeze()
helper = guard._guarded()[2]
print(json.dumps({"server": server.process.pid, "dvctl": dvctl.pid, "helper": helper, "home": str(server.directory)}))
sys.stdout.flush()
time.sleep(1000)
"""


@pytest.fixture
def test_run(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A process that uses the servers as a test run does, and what it has started, all of it frozen."""
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as popen:
        assert popen.stdout is not None
        yield popen, json.loads(popen.stdout.readline())
        popen.kill()


def test_killed_it_leaves_no_process_and_no_directory(test_run: tuple[subprocess.Popen[str], dict[str, Any]]) -> None:
    popen, started = test_run
    assert running(started["server"])
    assert running(started["dvctl"])
    popen.kill()
    wait_until(lambda: not running(started["server"]), what="the end of the server")
    wait_until(lambda: not running(started["dvctl"]), what="the end of the command")
    wait_until(lambda: not Path(started["home"]).parent.exists(), what="the end of the directory")


def test_what_is_left_even_so_is_removed_at_the_next_start(
    test_run: tuple[subprocess.Popen[str], dict[str, Any]],
) -> None:
    popen, started = test_run
    guard.remove_leftovers()
    assert running(started["server"]), "its owner is alive"
    os.kill(started["helper"], signal.SIGKILL)
    popen.kill()
    popen.wait()
    wait_until(lambda: not running(started["helper"]), what="the end of the helper")
    assert running(started["server"])
    guard.remove_leftovers()
    assert not running(started["server"])
    assert not Path(started["home"]).exists()
    os.kill(started["dvctl"], signal.SIGKILL)


def test_a_port_is_given_to_nobody_else_while_its_server_is_down() -> None:
    code = f"from tests.support import server; server._PORTS = [{free_port()}]; server.free_port()"
    asked = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "no port is free" in asked.stderr
