"""The journal: who ran which changing command, its plan and its result, one JSON line each."""

from __future__ import annotations

import getpass
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devicevault_cli.directories import SET_STATE, NoStateDirectory, state_directory
from devicevault_cli.times import iso, now_ms

log = logging.getLogger("dvctl.journal")

LONGEST_LIST = 20


def journal_path() -> Path:
    """Where the journal is. Raises NoStateDirectory."""
    return state_directory() / "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Journal:
    """An open journal; without a descriptor it records nothing, of which the operator was warned."""

    path: Path | None = None
    descriptor: int | None = None

    def record(self, command: str, plan: dict[str, Any], result: dict[str, Any]) -> None:
        """Append a line. The change is already made, so a line that cannot be written goes to the log instead."""
        if self.descriptor is None:
            return
        line = json.dumps(
            {
                "at": iso(now_ms()),
                "user": _user(),
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "command": command,
                "plan": _shortened(plan),
                "result": _shortened(result),
            },
            default=str,
        )
        try:
            _append(self.descriptor, line.encode() + b"\n")
        except OSError as error:
            log.warning("the journal %s cannot be written: %s; its line: %s", self.path, error.strerror, line)


@contextmanager
def opened() -> Iterator[Journal]:
    """Open the journal before anything is changed; where that fails, warn that the change will not be journalled."""
    journal = _open()
    try:
        yield journal
    finally:
        if journal.descriptor is not None:
            os.close(journal.descriptor)


def _open() -> Journal:
    try:
        path = journal_path()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Journal(path, os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600))
    except NoStateDirectory as error:
        why = str(error)
    except OSError as error:
        why = f"{error.filename} cannot be written: {error.strerror}"
    log.warning("this change will not be journalled: %s; %s", why, SET_STATE)
    return Journal()


def _append(descriptor: int, line: bytes) -> None:
    """A line of its own, also behind one that a full disk cut off. Raises OSError."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line
    while line:
        line = line[os.write(descriptor, line) :]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _shortened(answer: dict[str, Any]) -> dict[str, Any]:
    """Long lists as their length and first items; without `applied`, which a plan and its result say themselves."""
    return {
        name: {"count": len(value), "first": value[:LONGEST_LIST]}
        if isinstance(value, list) and len(value) > LONGEST_LIST
        else value
        for name, value in answer.items()
        if name != "applied"
    }
