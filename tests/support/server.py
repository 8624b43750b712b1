"""What every private server shares: a free port, a directory, a process that can be killed, frozen and thawed."""

from __future__ import annotations

import fcntl
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from tests.support.allowance import Allowance, wait_for_end
from tests.support.guard import guarded_directory


class ServerFailed(RuntimeError):
    """A private server did not start or died; the end of its log is in the message."""


# Below the ports that the system gives to whoever asks for any: between the choice of a port and its use, or while a
# server is down, nobody gets it by chance. Test processes that run beside each other begin at different places.
_PORTS = range(15_000, 32_000)
_candidates = itertools.count(os.getpid() * 101)

WAIT_S = 60.0
"""How long a test waits for what usually comes at once: long beside the product's own limits (10 s for a lock or a
silent Redis, 30 s between two attempts), so that only what never comes is reported."""


def free_port(bus: int = 0) -> int:
    """A port of 127.0.0.1 that nobody listens on. It is this process's to the end, also while its server is down.

    bus: the port so far above it must be free too.
    """
    for number in itertools.islice(_candidates, len(_PORTS)):
        port = _PORTS[number % len(_PORTS)]
        with socket.socket() as probe, suppress(OSError):
            fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            probe.bind(("127.0.0.1", port))
            if bus:
                with socket.socket() as beside:
                    beside.bind(("127.0.0.1", port + bus))
            return port
    raise ServerFailed("no port is free")


@cache
def _reservations() -> int:
    """A file in which each byte is a port: who has it locked may use it. The lock ends with the process."""
    path = Path(tempfile.gettempdir()) / f"dvctl-ports-{os.geteuid()}"
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)


def wait_until(
    condition: Callable[[], object], *, timeout: float = WAIT_S, what: str = "", every: float = 0.02
) -> None:
    """Return as soon as the condition is true. Raises TimeoutError that says what was waited for."""
    allowance = Allowance(timeout)
    while not condition():
        if allowance.used_up():
            raise TimeoutError(f"not within {timeout:g} s: {what or condition}")
        time.sleep(every)


def unprivileged(*names: str) -> str | None:
    """The user that servers which refuse root must run as: the first that exists; None unless we are root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in (*names, "nobody") if name in known), None)


def server_directory(kind: str, user: str | None = None) -> Path:
    """A new directory, gone with this process at the latest. Socket paths in it are short, other users reach it."""
    path = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=guarded_directory()))
    if user is not None:
        shutil.chown(path, user)
    return path


class ServerProcess:
    """A server's process in its own process group, its output in a log file."""

    def __init__(
        self, command: Sequence[str | Path], *, log: Path, user: str | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=log.parent,
                env=env,
                start_new_session=True,
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                extra_groups=None if user is None else [],
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def alive(self) -> bool:
        return self.popen.poll() is None

    def wait_ready(self, ready: Callable[[], object], *, timeout: float = WAIT_S) -> None:
        """Wait for the server's first answer; one that never comes ends it. Raises ServerFailed with its log's end."""

        def answered() -> object:
            if not self.alive():
                raise ServerFailed(f"exit code {self.popen.returncode}: {self.tail()}")
            return ready()

        try:
            wait_until(answered, timeout=timeout)
        except TimeoutError as error:
            self.kill9()
            raise ServerFailed(f"no answer within {timeout:g} s: {self.tail()}") from error
        except BaseException:
            self.kill9()
            raise

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def send(self, number: signal.Signals, *, timeout: float = WAIT_S) -> None:
        """Send a signal to the main process and wait for its end."""
        if self.alive():
            self.popen.send_signal(number)
            try:
                wait_for_end(self.popen, timeout)
            except TimeoutError as error:
                raise ServerFailed(f"{error} and {number.name}: {self.tail()}") from error

    def kill_group(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the main process and all its children."""
        if self.alive():
            os.killpg(self.pid, number)

    def kill9(self) -> None:
        """The machine's power cord: the whole process group, at once."""
        self.kill_group()
        wait_for_end(self.popen, WAIT_S)

    def freeze(self) -> None:
        self.kill_group(signal.SIGSTOP)

    def thaw(self) -> None:
        self.kill_group(signal.SIGCONT)


def version_of(binary: Path, *args: str) -> str:
    """What the binary says of itself, on one line."""
    answer = subprocess.run([binary, *args], capture_output=True, text=True, timeout=WAIT_S, check=False)
    return (answer.stdout or answer.stderr).strip().splitlines()[0]


def reachable(path: Path, user: str | None) -> bool:
    """Whether another user may enter all the folders above the path."""
    return user is None or all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
