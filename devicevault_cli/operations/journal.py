"""The journal: who ran which changing command, its plan and its result, one JSON line each."""

from __future__ import annotations

import getpass
import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

from devicevault_cli.times import iso, now_ms

log = logging.getLogger("dvctl.journal")

LONGEST_LIST = 20


def state_folder() -> Path:
    """`$XDG_STATE_HOME/dvctl`, by default `~/.local/state/dvctl`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "dvctl"


def journal_path() -> Path:
    """Where the journal is."""
    return state_folder() / "journal.jsonl"


def record(command: str, plan: dict[str, Any], result: dict[str, Any]) -> None:
    """Append a line. A journal that cannot be written is warned of: it must not stop a repair half-way."""
    line = {
        "at": iso(now_ms()),
        "user": _user(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "command": command,
        "plan": _shortened(plan),
        "result": _shortened(result),
    }
    try:
        path = journal_path()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            os.close(descriptor)
    except OSError as error:
        log.warning("the journal %s cannot be written: %s", journal_path(), error.strerror)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _shortened(answer: dict[str, Any]) -> dict[str, Any]:
    """A list of a million ids does not belong into a line of a journal."""
    return {
        name: {"count": len(value), "first": value[:LONGEST_LIST]}
        if isinstance(value, list) and len(value) > LONGEST_LIST
        else value
        for name, value in answer.items()
    }
