"""The journal: who ran which changing command, its plan and its result, one JSON line each."""

from __future__ import annotations

import fcntl
import getpass
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devicevault_cli.directories import SET_STATE, NoStateDirectory, state_directory
from devicevault_cli.redact import scrub
from devicevault_cli.times import iso, now_ms

log = logging.getLogger("dvctl.journal")

LONGEST_LIST = 20
LONGEST_LINE = 2000
"""Characters of a command line that are kept: thousands of ids may have been typed."""
MOST_BYTES = 5 * 1024 * 1024
"""A journal that is larger is renamed when the next command begins. The one before it is removed then."""


def journal_path() -> Path:
    """Where the journal is. Raises NoStateDirectory."""
    return state_directory() / "journal.jsonl"


def older_path() -> Path:
    """Where the lines are that came before those of the journal. Raises NoStateDirectory."""
    return state_directory() / "journal.1.jsonl"


@dataclass(frozen=True, slots=True)
class About:
    """What a line says beside command, plan and result.

    line: the command line, without secrets.  facts: stream, group and servers.  sentence: the result of a command in
    words.  complete: an undo command with the settings that were typed, so that it is about the same servers.
    """

    line: str = ""
    facts: Mapping[str, str | None] = field(default_factory=dict)
    sentence: Callable[[str, Mapping[str, Any]], str] = lambda command, result: ""
    complete: Callable[[str], str] = lambda undo: undo


NOTHING = About()


@dataclass(frozen=True, slots=True)
class Journal:
    """An open journal; without a descriptor it records nothing, of which the operator was warned."""

    path: Path | None = None
    descriptor: int | None = None
    about: About = NOTHING

    def record(self, command: str, plan: dict[str, Any], result: dict[str, Any]) -> None:
        """Append a line. The change is already made, so a line that cannot be written goes to the log instead."""
        if self.descriptor is None:
            return
        line = json.dumps(self._facts(command, plan, result), default=str)
        try:
            _append(self.descriptor, line.encode() + b"\n")
        except OSError as error:
            log.warning("the journal %s cannot be written: %s; its line: %s", self.path, error.strerror, line)

    def _facts(self, command: str, plan: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        outcome = "failed" if "error" in result else "interrupted" if "interrupted" in result else "done"
        says = self.about.sentence(command, result) if outcome == "done" else str(result.get("error", ""))
        facts = self.about.facts
        return {
            "at": iso(now_ms()),
            "user": _user(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "command": command,
            "line": self.about.line[:LONGEST_LINE],
            # A snapshot is about another stream and group than the settings. (`stream` of verify is no name.)
            **{name: named if isinstance(named := plan.get(name), str) else value for name, value in facts.items()},
            "outcome": outcome,
            "says": scrub(says),
            "undo": result.get("undo"),
            "plan": _shortened(plan),
            "result": _shortened(result),
        }


@contextmanager
def opened(about: About = NOTHING) -> Iterator[Journal]:
    """Open the journal before anything is changed; where that fails, warn that the change will not be journalled."""
    journal = _open(about)
    try:
        yield journal
    finally:
        if journal.descriptor is not None:
            os.close(journal.descriptor)


def _open(about: About) -> Journal:
    try:
        path = journal_path()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Journal(path, _descriptor(path), about)
    except NoStateDirectory as error:
        why = str(error)
    except OSError as error:
        why = f"{error.filename} cannot be written: {error.strerror}"
    log.warning("this change will not be journalled: %s; %s", why, SET_STATE)
    return Journal(about=about)


def _descriptor(path: Path) -> int:
    """The journal, opened to append; a large one is renamed first, by one process alone. Raises OSError."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        if os.fstat(descriptor).st_size <= MOST_BYTES:
            return descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(descriptor, path):
                path.rename(older_path())
        except OSError:  # no locks on this file system, or no right to rename: the journal grows on
            return descriptor
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the path still names the open file: another process may have renamed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


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
    """Long lists as their length and first items; without what a plan and its result, or the line, say themselves."""
    return {
        name: {"count": len(value), "first": value[:LONGEST_LIST]}
        if isinstance(value, list) and len(value) > LONGEST_LIST
        else value
        for name, value in answer.items()
        if name not in ("applied", "undo")
    }
