"""`dvctl` that dies at a chosen point, as `kill -9` would have it: `python -m tests.support.deadly WHERE WORDS...`.

WHERE is `acknowledging`, `dispatching`, `confirming`, or what a field of the message holds that kills.
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

ACKNOWLEDGING, DISPATCHING, CONFIRMING = "acknowledging", "dispatching", "confirming"
CONFIRMED = 20
"""How many configurations are confirmed before it dies at that."""


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


def dies_dispatching() -> None:
    """The rows are committed, and the broker has not heard of them."""
    from devicevault_cli.broker.publisher import Publisher

    setattr(Publisher, "deliver", die)  # noqa: B010


def dies_confirming() -> None:
    """The broker has all of them, and has confirmed some."""
    from devicevault_cli.broker.publisher import Publisher

    confirm = Publisher._confirm

    def deadly(self: Publisher, item: Any) -> None:
        confirm(self, item)
        if len(item.delivery.confirmed) >= CONFIRMED:
            die()

    setattr(Publisher, "_confirm", deadly)  # noqa: B010


def die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


if __name__ == "__main__":
    from devicevault_cli.cli.app import run

    points = {ACKNOWLEDGING: dies_acknowledging, DISPATCHING: dies_dispatching, CONFIRMING: dies_confirming}
    if sys.argv[1] in points:
        points[sys.argv[1]]()
    else:
        dies_of(sys.argv[1].encode())
    sys.exit(run(sys.argv[2:]))
