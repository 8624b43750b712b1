"""The installed dvctl with its standard streams closed, full, or read by nobody: no traceback, the right exit code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.process import DVCTL, END_S, Dvctl


def shell(dvctl: Dvctl, line: str) -> subprocess.CompletedProcess[str]:
    """A line for sh, in which `dvctl` is the installed one."""
    return subprocess.run(
        ["/bin/sh", "-c", line],
        env=dvctl.environment | {"PATH": f"{Path(DVCTL).parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=END_S,
        check=False,
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_stops_nothing(dvctl: Dvctl, redis_url: str, sqlite_url: str, closed: str) -> None:
    dvctl.use(redis_url, sqlite_url)
    for words in ("publish --count 3", "consume --drain", "status", "--version", "pending --help"):
        answer = shell(dvctl, f"dvctl {words} {closed}")
        assert answer.returncode == 0, answer.stderr
        assert "Traceback" not in answer.stderr
    assert dvctl.json("status")["table"]["rows"] == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk_under_the_output_is_told(dvctl: Dvctl, redis_url: str, sqlite_url: str) -> None:
    dvctl.use(redis_url, sqlite_url)
    answer = shell(dvctl, "dvctl status -o json >/dev/full")
    assert answer.returncode == 1
    assert "\nerror: this cannot be written: No space left on device\nhint: " in f"\n{answer.stderr}"
    assert "Traceback" not in answer.stderr


def test_a_reader_that_has_seen_enough(dvctl: Dvctl, redis_url: str, sqlite_url: str) -> None:
    dvctl.use(redis_url, sqlite_url)
    dvctl.ok("publish", "--count", "3000")
    answer = shell(dvctl, "(dvctl tail -n 3000 --no-follow -o jsonl; echo $? >&2) | head -1")
    assert (answer.stdout.count("\n"), answer.stderr) == (1, "141\n")
