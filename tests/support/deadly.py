"""`dvctl` that one message kills: `python -m tests.support.deadly MARK WORDS...` dies of a field that is MARK."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from devicevault_cli import pipelines


def dies_of(mark: bytes) -> None:
    """As the kernel ends a process whose memory one message has used up: no handler, no farewell."""
    decode = pipelines.RESULTS.decode

    def deadly(ms: int, seq: int, fields: Mapping[bytes, bytes], device_id_max: int) -> Any:
        if mark in fields.values():
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(ms, seq, fields, device_id_max)

    object.__setattr__(pipelines.RESULTS, "decode", deadly)


if __name__ == "__main__":
    from devicevault_cli.main import run

    dies_of(sys.argv[1].encode())
    sys.exit(run(sys.argv[2:]))
