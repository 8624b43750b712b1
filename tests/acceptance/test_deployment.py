"""The command of the systemd unit where it runs: no HOME, no name for the user, everything read-only but its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.guard import end_with_this_process
from tests.support.messages import bad, good, publish
from tests.support.notify_socket import service_manager
from tests.support.process import DVCTL, END_S, Answer, Dvctl, Running
from tests.support.redis_server import RedisServer
from tests.support.rows import select
from tests.support.server import WAIT_S, wait_until

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "dvctl-consume@.service"
NOBODY = "64321"
"""A user id that no passwd file lists, as that of DynamicUser= to a container."""
SANDBOX = """
set -e
mount --make-rprivate /
for own in "$STATE_DIRECTORY" "$CACHE_DIRECTORY" "$TMPDIR"; do mount --bind "$own" "$own"; done
mount -o remount,bind,ro /
export JOURNAL_STREAM="$(stat -L -c %d:%i /proc/self/fd/2)"
exec setpriv --reuid "$NOBODY" --regid "$NOBODY" --clear-groups --no-new-privs \
    --inh-caps +dac_read_search --ambient-caps +dac_read_search --bounding-set -all,+dac_read_search "$@"
"""
"""As ProtectSystem=strict. The capability is for the tests' own directories, which only root can read."""


def unit_words() -> list[str]:
    """The unit's command without the program, for instance 0; its port is not for tests to take."""
    (command,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    words = shlex.split(command.replace("127.0.0.1:946%i", "127.0.0.1:0").replace("%i", "0"))
    assert "127.0.0.1:0" in words
    return words[1:]


class Service:
    """Runs dvctl as the unit does. `directory`: holds what the service may write."""

    def __init__(self, dvctl: Dvctl, directory: Path, notify: dict[str, str]) -> None:
        self.state = directory / "state"
        self._directory = directory
        kept = ("DEVICEVAULT_", "DVCTL_TEST_HOST", "PYTHONPATH", "PYTHONWARNINGS", "PATH", "LANG")
        self._environment = {name: value for name, value in dvctl.environment.items() if name.startswith(kept)}
        for name in ("state", "cache", "tmp"):
            (directory / name).mkdir()
            (directory / name).chmod(0o777)
        self._environment |= {"STATE_DIRECTORY": str(self.state), "CACHE_DIRECTORY": str(directory / "cache")}
        self._environment |= {"TMPDIR": str(directory / "tmp"), "NOBODY": NOBODY, "PYTHONDONTWRITEBYTECODE": "1"}
        self._notify = notify

    def _command(self, words: list[str]) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", SANDBOX, "sh", str(DVCTL), *words]

    def start(self, words: list[str]) -> Running:
        stdout, stderr = self._directory / "out", self._directory / "err"
        with stdout.open("wb") as out, stderr.open("wb") as err:
            popen = subprocess.Popen(
                self._command(words), cwd="/", stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                env=self._environment | self._notify,
            )  # fmt: skip
        return Running(popen, stdout, stderr)

    def run(self, *words: str) -> Answer:
        done = subprocess.run(
            self._command(list(words)), cwd="/", env=self._environment, capture_output=True, text=True,
            timeout=END_S, check=False,
        )  # fmt: skip
        return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def may_mount() -> Iterator[None]:
    allowed = (
        shutil.which("unshare")
        and not subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode
    )
    if os.geteuid() or not allowed:
        servers.unavailable("a read-only root needs root and the right to mount")
    yield


@pytest.mark.usefixtures("may_mount")
def test_it_is_started_scraped_watched_and_stopped(
    dvctl: Dvctl, redis_server: RedisServer, postgres_url: str, tmp_path: Path
) -> None:
    end_with_this_process(tmp_path)
    client = redis_server.client()
    sent = publish(client, [*good(100), *bad(1)])
    dvctl.on_its_own_host().use(redis_server.url, postgres_url)
    with service_manager(tmp_path, abstract=True) as manager:
        service = Service(dvctl, tmp_path, manager.environment(watchdog_s=0.6))
        daemon = service.start(unit_words())
        try:
            daemon.wait_for("<6>consuming device:results")
            manager.wait_for("READY=1", timeout=END_S)
            manager.wait_for("WATCHDOG=1", times=3)
            (address,) = re.findall(r"<6>metrics are served on http://(127\.0\.0\.1:\d+)/metrics", daemon.stderr)

            def scraped() -> str:
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=WAIT_S) as answer:
                    return str(answer.read().decode())

            wait_until(lambda: client.xpending("device:results", "devicevault")["pending"] == 0, what="all to be done")
            assert "process_resident_memory_bytes" in scraped()
            dead = client.xlen("{device:results}:dead")
            rows = select(postgres_url, "SELECT count(*) FROM devices_devicebackupresult")[0][0]
            assert 0 < dead < rows <= len(sent)
            assert daemon.stderr.count("<4>entry ") == dead
            status = service.run("status", "-o", "json")
            assert [one["name"][-2:] for one in status.json()["consumers"]] == ["-0"]
            changed = service.run("reset-group", "--to", "start", "--force", "--yes", "-o", "json")
            assert changed.code == 0, changed.stderr
            assert Path(changed.json()["snapshot"]).parent == service.state / "snapshots"
            assert json.loads((service.state / "journal.jsonl").read_text().splitlines()[0])
            outside = service.run("export", "--file", "/usr/dvctl.jsonl")
            assert outside.code == 1, outside
            assert "Read-only file system" in outside.stderr
            manager.forget()  # what it did not read would be in the way
            assert daemon.sigterm().code == 0
            assert "STOPPING=1" in manager.received()
        finally:
            if daemon.alive():
                daemon.kill9()
