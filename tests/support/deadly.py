"""`dvctl` that dies at a chosen point, as `kill -9` would have it: `python -m tests.support.deadly WHERE WORDS...`.

WHERE is `acknowledging`, or what a field of the message holds that kills.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from devicevault_cli import pipelines
from devicevault_cli.streams.group import Group

ACKNOWLEDGING = "acknowledging"


def dies_of(mark: bytes) -> None:
    """As the kernel ends a process whose memory one message has used up: no handler, no farewell."""
    decode = pipelines.RESULTS.decode

    def deadly(ms: int, seq: int, fields: Mapping[bytes, bytes], device_id_max: int) -> Any:
        if mark in fields.values():
            die()
        return decode(ms, seq, fields, device_id_max)

    object.__setattr__(pipelines.RESULTS, "decode", deadly)


def dies_acknowledging() -> None:
    """The rows are committed, and Redis has not heard of it."""
    setattr(Group, "acknowledge", die)  # noqa: B010  mypy would have it return a number


def die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


if __name__ == "__main__":
    from devicevault_cli.main import run

    if sys.argv[1] == ACKNOWLEDGING:
        dies_acknowledging()
    else:
        dies_of(sys.argv[1].encode())
    sys.exit(run(sys.argv[2:]))
