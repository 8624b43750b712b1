"""Ends what a test process has started and removes its files, however that process ends: by kill -9 too.

A helper waits at the other end of a pipe that nobody else holds. When the pipe closes it kills every process whose
working directory is below one of the directories it knows, frozen ones included, and removes the one of the servers.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

PREFIX = "dvctl-tests-"
LOCK = ".lock"


@cache
def _guarded() -> tuple[Path, IO[bytes], int]:
    """The directory of this process's servers, where the helper listens, and its process id."""
    remove_leftovers()
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    directory.chmod(0o711)  # servers that refuse root run as other users, and pass through
    # Named only once it is locked: another process that cleans up in this moment would take it for nobody's.
    new = directory / f"{LOCK}-new"
    lock = os.open(new, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    new.rename(directory / LOCK)
    helper = subprocess.Popen(
        [sys.executable, "-S", "-E", __file__, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
        pass_fds=[lock],
    )
    assert helper.stdin is not None
    helper.returncode = 0  # it outlives this process on purpose
    return directory, helper.stdin, helper.pid


def guarded_directory() -> Path:
    """Where private servers have their directories. The path is short, as sockets need it, and others may enter."""
    return _guarded()[0]


def end_with_this_process(directory: Path) -> None:
    """Processes of dvctl that run in this directory end with this process; the directory stays."""
    pipe = _guarded()[1]
    pipe.write(os.fsencode(directory.resolve()) + b"\n")
    pipe.flush()


def remove_leftovers() -> None:
    """Clean up after test processes whose helper was killed too. Nobody holds the lock of such a directory."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            lock = os.open(directory / LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                clean_up(directory, [])
            finally:
                os.close(lock)


def clean_up(servers: Path, directories: list[Path]) -> None:
    """End what runs in these directories, and remove the first."""
    for attempt in range(200):
        running = _processes().items()
        found = {pid: cwd for pid, cwd in running if cwd.is_relative_to(servers) or _is_ours(pid, cwd, directories)}
        if not found:
            break
        for pid, cwd in found.items():
            # A PostgreSQL that is killed outright leaves its shared memory behind.
            gently = attempt < 40 and cwd.is_relative_to(servers)
            for number in (signal.SIGQUIT, signal.SIGCONT) if gently else (signal.SIGKILL,):
                with suppress(OSError):
                    os.kill(pid, number)
        time.sleep(0.05)
    shutil.rmtree(servers, ignore_errors=True)


def _processes() -> dict[int, Path]:
    """Every process but this one with its working directory, as far as the system tells."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(entry.name) != os.getpid():
                found[int(entry.name)] = Path(str((entry / "cwd").readlink()).removesuffix(" (deleted)"))
    return found


def _is_ours(pid: int, cwd: Path, directories: list[Path]) -> bool:
    """A program of this environment in one of the directories, and not, for example, somebody's shell."""
    with suppress(OSError):
        if any(map(cwd.is_relative_to, directories)):
            return os.fsencode(Path(sys.executable).parent) in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    known = [Path(os.fsdecode(line.rstrip(b"\n"))) for line in sys.stdin.buffer]
    clean_up(Path(sys.argv[1]), known)


if __name__ == "__main__":
    _main()
