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
from devicevault_cli.streams.model import ZERO, EntryId

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
    acknowledge = Group.acknowledge

    def deadly(self: Group, ids: list[EntryId]) -> int:
        # At its start a consumer acknowledges an entry that cannot be, to see whether it may.
        return acknowledge(self, ids) if ids == [ZERO] else die()

    setattr(Group, "acknowledge", deadly)  # noqa: B010  mypy takes methods for final


def die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


if __name__ == "__main__":
    from devicevault_cli.cli.app import run

    if sys.argv[1] == ACKNOWLEDGING:
        dies_acknowledging()
    else:
        dies_of(sys.argv[1].encode())
    sys.exit(run(sys.argv[2:]))
