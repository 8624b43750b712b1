"""`dvctl consume --pid-file`: ended as DeviceVault's scripts end a process, by its group and with two seconds to go."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.allowance import wait_for_end
from tests.support.process import DVCTL, Dvctl, Running
from tests.support.server import wait_until


@pytest.fixture
def ready(dvctl: Dvctl, redis_url: str, sqlite_url: str) -> Dvctl:
    return dvctl.use(redis_url, sqlite_url)


def names(path: Path, running: Running) -> bool:
    return path.exists() and path.read_text() == f"{running.pid}\n"


def test_it_names_the_leader_of_a_group_while_it_runs(ready: Dvctl, tmp_path: Path) -> None:
    path = tmp_path / "backup-consumer.pid"
    running = ready.start("consume", "--pid-file", str(path))
    running.wait_for("consuming")
    assert names(path, running)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.getpgid(running.pid) == running.pid != os.getpgrp()
    assert not list(tmp_path.glob(".backup-consumer.pid*"))
    assert running.sigterm().code == 0
    assert not path.exists()


def test_without_it_the_process_stays_in_its_group(ready: Dvctl) -> None:
    running = ready.start("consume")
    running.wait_for("consuming")
    assert os.getpgid(running.pid) == os.getpgrp()
    assert running.sigterm().code == 0


SCRIPT = """
nohup "$DVCTL" consume --pipeline results,storage --pid-file "$FILE" > consumer.log 2>&1 &
echo $! > "$FILE"
until grep -q 'storage: consuming' consumer.log; do sleep 0.1; done
PID=$(cat "$FILE")
if kill -0 $PID; then
    kill -TERM -$PID || echo "no group"
    wait $PID
    echo "ended with $?"
fi
kill -9 -$PID 2>/dev/null && echo "something was left"
test -e "$FILE" && echo "the file was left"
echo "the script goes on"
"""


def test_a_script_ends_its_group_and_not_itself(ready: Dvctl, tmp_path: Path) -> None:
    """The shell writes the same number into the same file, before or after dvctl does."""
    environment = ready.environment | {"DVCTL": str(DVCTL), "FILE": str(tmp_path / "it.pid")}
    done = subprocess.run(
        ["sh", "-c", SCRIPT], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=250
    )
    assert done.stdout.splitlines() == ["ended with 0", "the script goes on"], done


def test_a_second_one_is_refused_and_leaves_the_file_alone(ready: Dvctl, redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "it.pid"
    running = ready.start("consume", "--pid-file", str(path))
    running.wait_for("consuming")
    for words in ((), ("--drain",), ("--pipeline", "storage")):
        second = ready.run("consume", "--pid-file", str(path), *words)
        assert second.code == 1
        assert f"{path} names process {running.pid}, which is running" in second.stderr
        assert "consuming" not in second.stderr
    assert names(path, running)
    assert running.sigterm().code == 0


def test_of_several_that_start_together_one_runs(ready: Dvctl, tmp_path: Path) -> None:
    path = tmp_path / "it.pid"
    started = [ready.start("consume", "--pid-file", str(path)) for _ in range(4)]
    wait_until(lambda: sum(running.alive() for running in started) == 1, what="the others to be refused")
    (running,) = [running for running in started if running.alive()]
    running.wait_for("consuming")
    assert names(path, running)
    assert running.sigterm().code == 0
    assert sorted(running.wait().code for running in started) == [0, 1, 1, 1]


@pytest.mark.parametrize("content", ["", "\n", "gone", "killed"])
def test_what_a_process_left_that_is_gone_is_replaced(ready: Dvctl, tmp_path: Path, content: str) -> None:
    path = tmp_path / "it.pid"
    if content == "killed":
        killed = ready.start("consume", "--pid-file", str(path))
        killed.wait_for("consuming")
        killed.kill9()
        assert names(path, killed)
    else:
        ended = subprocess.Popen(["true"])
        wait_for_end(ended, 60)
        path.write_text(content.replace("gone", f"{ended.pid}\n"))
    running = ready.start("consume", "--pid-file", str(path))
    running.wait_for("consuming")
    assert names(path, running)
    assert running.sigterm().code == 0
    assert not path.exists()


def test_a_file_that_names_another_process_by_now_stays(ready: Dvctl, tmp_path: Path) -> None:
    path = tmp_path / "it.pid"
    running = ready.start("consume", "--pid-file", str(path))
    running.wait_for("consuming")
    path.write_text("1\n")
    assert running.sigterm().code == 0
    assert path.read_text() == "1\n"


def directory(path: Path) -> None:
    path.mkdir()


def no_pid(path: Path) -> None:
    path.write_text("redis-url = 'x'\n")


def below_a_file(path: Path) -> None:
    path.parent.write_text("")


@pytest.mark.parametrize(
    ("prepare", "name", "says"),
    [
        (directory, "it.pid", "is no regular file"),
        (no_pid, "config.toml", "is not a pid file"),
        (below_a_file, "file/it.pid", "cannot be written"),
        (lambda path: None, "missing/it.pid", "cannot be written: No such file or directory"),
        (os.mkfifo, "it.pid", "is no regular file"),
    ],
)
def test_what_cannot_be_written_ends_the_start(
    ready: Dvctl, tmp_path: Path, prepare: Any, name: str, says: str
) -> None:
    path = tmp_path / name
    prepare(path)
    ended = ready.run("consume", "--pid-file", str(path))
    assert (ended.code, ended.stdout) == (78, "")
    assert says in ended.stderr
    assert "--pid-file" in ended.stderr
    assert "consuming" not in ended.stderr
    assert not list(tmp_path.glob(".*.pid*"))


def test_an_error_at_the_start_removes_it(dvctl: Dvctl, redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "it.pid"
    ended = dvctl.use(redis_url, f"sqlite:///{tmp_path}/absent.sqlite3").run(
        "consume", "--drain", "--pid-file", str(path)
    )
    assert ended.code in (69, 78)
    assert not path.exists()


def test_sigkill_of_the_group_loses_nothing_more_than_the_file(ready: Dvctl, tmp_path: Path) -> None:
    path = tmp_path / "it.pid"
    running = ready.start("consume", "--pid-file", str(path))
    running.wait_for("consuming")
    os.killpg(int(path.read_text()), signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL
    assert ready.ok("consume", "--drain", "--pid-file", str(path))
    assert not path.exists()
