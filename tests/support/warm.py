"""A `dvctl` that starts in 10 ms of processor time instead of 300: forked from a process that has imported everything.

What differs from the installed command is the import, nothing else: arguments, environment, directory, files, signals
and the end of the process are its own. Tests that are about the start, or that set what Python reads as it starts, run
the installed command, and so does a measurement of the coverage; `DVCTL_TEST_COLD=1` makes all do so.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

COLD = "DVCTL_TEST_COLD"
OWN_HOST = Path(__file__).parent / "own_host"
_READ_LATE = (
    "DEVICEVAULT_", "DVCTL_", "XDG_", "PG", "NOTIFY_", "WATCHDOG_", "JOURNAL_", "STATE_DIRECTORY", "HOME", "PYTHONPATH",
)  # fmt: skip
"""Variables that nothing reads while modules are imported; in all others a warm command must be as the warm process."""
_MESSAGE_BYTES = 1 << 20


class WarmProcess:
    """A command that was forked from the warm process: what tests use of subprocess.Popen."""

    def __init__(self, parent: WarmParent, pid: int) -> None:
        self.pid = pid
        self._parent = parent

    @property
    def returncode(self) -> int | None:
        """As Popen's; None where nobody has looked since the end."""
        return self._parent.ended.get(self.pid)

    def poll(self) -> int | None:
        """Look whether it has ended. -> its exit code"""
        self._parent.listen(0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            left = until - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired("dvctl", timeout)
            self._parent.listen(left)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class WarmParent:
    """The warm process of this test process, as seen from here. `ended`: the exit codes of its children."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.ended: dict[int, int] = {}
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-P", __file__, str(theirs.fileno())]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=self.environment, cwd="/",
                pass_fds=[theirs.fileno()],
            )  # fmt: skip
        process.returncode = 0  # it ends with its socket, and this process does not wait for it

    def start(self, argv: list[str], directory: Path, environment: Mapping[str, str], files: list[IO[bytes]]) -> Any:
        """Fork a command with its three files."""
        request = json.dumps({"argv": argv, "directory": str(directory), "environment": dict(environment)})
        socket.send_fds(self._socket, [request.encode(errors="surrogateescape")], [file.fileno() for file in files])
        while (pid := self.listen(None)) is None:
            pass
        return WarmProcess(self, pid)

    def listen(self, seconds: float | None) -> int | None:
        """Take in what the warm process says within a time, or the next that it says. -> the process it started"""
        while select.select([self._socket], [], [], seconds)[0]:
            said = self._socket.recv(_MESSAGE_BYTES).split()
            if not said:
                raise RuntimeError("the warm process of the tests has ended")
            if len(said) == 1:
                self.ended.pop(int(said[0]), None)  # of an earlier process with this number
                return int(said[0])
            self.ended[int(said[0])] = int(said[1])
            seconds = seconds and 0
        return None


_parents: dict[frozenset[tuple[str, str]], WarmParent] = {}
_asked: Counter[frozenset[tuple[str, str]]] = Counter()


def parent_for(environment: Mapping[str, str]) -> WarmParent | None:
    """The warm process whose children can have this environment; None where the command has to start by itself."""
    if COLD in os.environ or sys.platform != "linux" or any(name.startswith("COVERAGE_") for name in environment):
        return None
    if environment.get("PYTHONPATH", str(OWN_HOST)) != str(OWN_HOST):
        return None
    base = {name: value for name, value in environment.items() if not name.startswith(_READ_LATE)}
    key = frozenset(base.items())
    _asked[key] += 1
    if key not in _parents and _asked[key] > 1:  # most of those that are asked for once stay alone
        _parents[key] = WarmParent(base)
    return _parents.get(key)


# --- the warm process itself


def _serve(number: int) -> Any:
    """Start what is asked for until the other end closes. -> in each child: the function that is the command"""
    main = _everything()
    asked, woken = socket.socket(fileno=number), socket.socketpair()
    ends = (asked, *woken)
    for end in woken:
        end.setblocking(False)
    signal.set_wakeup_fd(woken[1].fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    at_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest and the commands
    while True:
        ready, _, _ = select.select([asked, woken[0]], [], [])
        if asked in ready:
            request, files, _, _ = socket.recv_fds(asked, _MESSAGE_BYTES, 3)
            begun, begins = os.pipe()
            child = bool(request) and os.fork()
            if not child:  # in the child, or at the end
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, at_interrupt)
                for end in ends:
                    end.close()
                os.close(begun)
                if request:
                    _become(json.loads(request), files)
                os.close(begins)
                if not request:
                    sys.exit()
                return main
            os.close(begins)
            os.read(begun, 1)
            os.close(begun)
            for file in files:
                os.close(file)
            asked.send(str(child).encode())
        with suppress(BlockingIOError):
            woken[0].recv(4096)
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                asked.send(f"{ended[0]} {os.waitstatus_to_exitcode(ended[1])}".encode())


def _everything() -> Any:
    """Import all that a command may need, but not what only the demo does. -> the command"""
    package = importlib.import_module("devicevault_cli")
    for module in pkgutil.walk_packages(package.__path__, "devicevault_cli."):
        importlib.import_module(module.name)
    for name in ("psycopg", "pymysql", "sqlalchemy.dialects.sqlite.pysqlite", "typer.rich_utils", "rich.table"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    return importlib.import_module("devicevault_cli.__main__").main


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Be the process that was asked for."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    sys.argv[:] = request["argv"]
    if "PYTHONPATH" in os.environ:
        runpy.run_path(str(OWN_HOST / "sitecustomize.py"))


def _run(main: Any) -> int:
    """Run the command. -> its exit code. What else it raises ends this process as it ends any."""
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    code = _run(_serve(int(sys.argv[1])))
    # As Python ends a process, but for taking all modules apart, which costs as much as a short command.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
