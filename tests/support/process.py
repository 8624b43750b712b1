"""The installed `dvctl` as a process: run it, watch it, signal it, read what it said."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.allowance import wait_for_end
from tests.support.guard import end_with_this_process
from tests.support.server import WAIT_S, wait_until
from tests.support.warm import OWN_HOST, WarmProcess, parent_for

DVCTL = Path(sys.executable).parent / "dvctl"
_hosts = itertools.count()
END_S = 120.0
"""How long a command may take that works something off: long beside the 30 s that it may wait between two attempts."""
_LEAKS = ("DEVICEVAULT_", "DVCTL_", "XDG_", "PG", "PYTEST_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a finished command said."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.stdout)

    def jsonl(self) -> list[Any]:
        """The objects on stdout, one a line."""
        return [json.loads(line) for line in self.stdout.splitlines()]


class Running:
    """A `dvctl` that runs: its output goes to files, so that it never waits for a reader."""

    def __init__(self, popen: subprocess.Popen[bytes] | WarmProcess, stdout: Path, stderr: Path) -> None:
        self.popen = popen
        self._stdout, self._stderr = stdout, stderr

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(errors="replace")

    def alive(self) -> bool:
        return self.popen.poll() is None

    def wait(self, timeout: float = END_S) -> Answer:
        """Wait for its end. Raises TimeoutError with what it said so far."""
        try:
            code = wait_for_end(self.popen, timeout)
        except TimeoutError:
            raise TimeoutError(f"dvctl runs after {timeout:g} s: {self.stdout[-1000:]}{self.stderr[-3000:]}") from None
        return Answer(code, self.stdout, self.stderr)

    def wait_for(self, text: str, timeout: float = WAIT_S, *, times: int = 1) -> None:
        """Wait until it wrote the text to stdout or stderr, so many times."""

        def said() -> bool:
            if max(self.stdout.count(text), self.stderr.count(text)) >= times:
                return True
            if not self.alive():
                raise AssertionError(f"dvctl ended ({self.popen.returncode}) without {text!r}: {self.stderr[-3000:]}")
            return False

        wait_until(said, timeout=timeout, what=f"dvctl to say {text!r}")

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def sigterm(self, timeout: float = WAIT_S) -> Answer:
        self.send(signal.SIGTERM)
        return self.wait(timeout)

    def kill9(self) -> Answer:
        self.send(signal.SIGKILL)
        return self.wait(WAIT_S)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)


class Dvctl:
    """The installed command with its own home, state and configuration below a directory.

    Most of its processes are forked from one that has imported everything (`tests.support.warm`).
    """

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        end_with_this_process(directory)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(_LEAKS)}
        for name in ("CONFIG_HOME", "STATE_HOME", "CACHE_HOME", "DATA_HOME", "RUNTIME_DIR"):
            self.environment[f"XDG_{name}"] = str(directory / f"xdg_{name.lower()}")
        self.environment |= {"HOME": str(directory), "TERM": "dumb", "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"}
        self.environment |= settings
        self._started: list[Running] = []

    def use(self, redis_url: str = "", database_url: str = "", **settings: str) -> Dvctl:
        """Set the URLs (and other variables) for all that follows."""
        given = {"DEVICEVAULT_REDIS_URL": redis_url, "DEVICEVAULT_DATABASE_URL": database_url} | settings
        self.environment |= {name: value for name, value in given.items() if value}
        return self

    def on_its_own_host(self) -> Dvctl:
        """Consumers are numbered host by host, whatever their Redis: other tests consume at the same time."""
        return self.use(PYTHONPATH=str(OWN_HOST), DVCTL_TEST_HOST=f"host-{os.getpid()}-{next(_hosts)}")

    def run(self, *args: str, stdin: str = "", timeout: float = END_S, env: Mapping[str, str] | None = None) -> Answer:
        """Run it to its end. Raises TimeoutError with what it said so far."""
        running = self.start(*args, env=env, stdin=stdin)
        try:
            return running.wait(timeout)
        finally:
            if running.alive():
                running.kill9()

    def ok(self, *args: str, **options: Any) -> Answer:
        """Run it to its end and demand exit code 0."""
        answer = self.run(*args, **options)
        assert answer.code == 0, f"dvctl {' '.join(args)}: exit {answer.code}\n{answer.stdout[-2000:]}{answer.stderr}"
        return answer

    def json(self, *args: str, **options: Any) -> Any:
        """Run it with `-o json`, demand exit code 0, and give the document."""
        return self.ok(*args, "-o", "json", **options).json()

    def start(self, *args: str, env: Mapping[str, str] | None = None, stdin: str = "") -> Running:
        """Start it and come back at once."""
        number = len(self._started)
        source = self.directory / f"dvctl-{number}.in"
        source.write_text(stdin)
        stdout, stderr = self.directory / f"dvctl-{number}.out", self.directory / f"dvctl-{number}.err"
        with source.open("rb") as given, stdout.open("wb") as out, stderr.open("wb") as err:
            environment = self.environment | dict(env or {})
            if parent := parent_for(environment):
                popen = parent.start([str(DVCTL), *args], self.directory, environment, [given, out, err])
            else:
                popen = subprocess.Popen(
                    [DVCTL, *args], stdin=given, stdout=out, stderr=err, cwd=self.directory, env=environment
                )
        self._started.append(Running(popen, stdout, stderr))
        return self._started[-1]

    def adopt(self, running: Running) -> None:
        """Kill at the end too what somebody else started."""
        self._started.append(running)

    def kill_all(self) -> None:
        for running in self._started:
            if running.alive():
                running.kill9()
