"""journal: the changes that were made on this machine, as its lines tell them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devicevault_cli.errors import DvctlError, Usage
from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.changes.journal import journal_path, older_path
from devicevault_cli.times import parse_time


@dataclass(frozen=True, slots=True)
class JournalEntry(Answer):
    """A change. `outcome`: done, failed or interrupted; `says`: its result in words, or the error.

    A line of an earlier version has no `line`, `outcome`, `says`, `undo`, stream, group and servers.
    """

    at: str
    user: str
    host: str
    pid: int | None
    command: str
    line: str | None
    stream: str | None
    group: str | None
    redis: str | None
    database: str | None
    outcome: str
    says: str | None
    undo: str | None
    plan: Mapping[str, Any]
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JournalAnswer(Answer):
    """The last entries, the newest last. `unreadable`: number of lines that were cut off or edited."""

    file: str
    unreadable: int
    entries: Sequence[JournalEntry]


def read_journal(since_ms: int, most: int) -> JournalAnswer:
    """Raises NoStateDirectory, and DvctlError where a file cannot be read."""
    found: deque[JournalEntry] = deque(maxlen=most)
    unreadable = 0
    for line in _lines(older_path(), journal_path()):
        entry = _entry(line)
        if entry is None:
            unreadable += 1
        elif _time(entry) >= since_ms:
            found.append(entry)
    return JournalAnswer(str(journal_path()), unreadable, [*found])


def _lines(*paths: Path) -> Iterator[bytes]:
    for path in paths:
        try:
            with suppress(FileNotFoundError), path.open("rb") as lines:
                yield from (line for line in lines if line.strip())
        except OSError as error:
            raise DvctlError(f"{path} cannot be read: {error.strerror}") from error


def _entry(line: bytes) -> JournalEntry | None:
    try:
        facts = json.loads(line)
        at, command, result = str(facts["at"]), str(facts["command"]), facts["result"]
        outcome = "failed" if "error" in result else "interrupted" if "interrupted" in result else "done"
        texts = {
            name: None if facts.get(name) is None else str(facts[name])
            for name in ("line", "stream", "group", "redis", "database", "undo")
        }
        return JournalEntry(
            at=at, user=str(facts.get("user", "")), host=str(facts.get("host", "")), pid=facts.get("pid"),
            command=command, outcome=str(facts.get("outcome", outcome)),
            says=facts.get("says") or result.get("error"), plan=dict(facts["plan"]), result=dict(result), **texts,
        )  # fmt: skip
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _time(entry: JournalEntry) -> int:
    try:
        return parse_time(entry.at)
    except Usage:
        return 0
