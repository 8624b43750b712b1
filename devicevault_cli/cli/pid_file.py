"""`consume --pid-file`: a process group of its own, and a file that names its leader."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from devicevault_cli.errors import BadConfig, DvctlError

log = logging.getLogger("dvctl.consume")

LONGEST = 64
"""Bytes of a file that can be a pid file."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class ProcessRuns(DvctlError):
    """The pid file names a process that runs."""


@contextmanager
def naming_this_process(path: Path) -> Iterator[None]:
    """Lead a process group, and name this process in a file while the block lasts.

    What ends a process group (`kill -TERM -PID`) would end the script that started this process too, or nothing at
    all. Raises ProcessRuns, BadConfig for a path that cannot be written, DvctlError for a full disk.
    """
    path = path.absolute()
    _lead_group()
    try:
        _write(path)
    except OSError as error:
        why = error.strerror or type(error).__name__
        kind = DvctlError if error.errno in _FULL else BadConfig
        raise kind(f"pid file {path} cannot be written: {why}", hint="choose another --pid-file") from None
    try:
        yield
    finally:
        _remove(path)


def _lead_group() -> None:
    """A shell with job control, setsid and systemd have done so already."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)


def _write(path: Path) -> None:
    """Write the file under a lock of its directory: of two processes that start together only one gets it."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(directory, fcntl.LOCK_EX)
        _refuse_if_running(path)
        _replace(path)
    finally:
        os.close(directory)


def _replace(path: Path) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with new.open("w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(f"{os.getpid()}\n")
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise


def _refuse_if_running(path: Path) -> None:
    """Raises ProcessRuns for the pid of another process that exists, BadConfig for what is no pid file."""
    pid = _read(path)
    if pid is not None and pid != os.getpid() and _exists(pid):
        raise ProcessRuns(
            f"pid file {path} names process {pid}, which is running",
            hint=f"stop process {pid}, or choose another --pid-file",
        )


def _read(path: Path) -> int | None:
    """The pid in a file; None if there is no file, or an empty one: a shell has opened it and not written yet."""
    if not path.exists():
        return None
    if not path.is_file():
        raise BadConfig(f"pid file {path} is no regular file", hint="choose another --pid-file")
    with path.open("rb") as file:
        text = file.read(LONGEST + 1).strip()
    if not text:
        return None
    if not text.isdigit() or len(text) > LONGEST // 2:
        raise BadConfig(f"{path} is not a pid file; dvctl does not replace it", hint="choose another --pid-file")
    return int(text)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid > 0


def _remove(path: Path) -> None:
    """Only if it names this process: a script may have removed it, and started another one."""
    try:
        if _read(path) == os.getpid():
            path.unlink()
    except (OSError, DvctlError) as error:
        log.warning("pid file %s could not be removed: %s", path, getattr(error, "strerror", None) or error)
