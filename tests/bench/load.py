"""How busy the processors are: what each server used, and what everybody else used meanwhile. Linux, by /proc."""

from __future__ import annotations

import os
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def tree_cpu(pid: int) -> float:
    """Seconds of processor time of a process and all its children so far, also of those that have ended.

    Of a PostgreSQL server: the backend that a client had, and the processes that write.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it ended meanwhile
        return 0.0
    own = sum(map(int, stat[11:15])) / TICK  # utime, stime, cutime, cstime: see proc(5), counted behind the name
    return own + sum(tree_cpu(int(child)) for child in children)


def machine_cpu() -> float:
    """Seconds in which a processor of the machine was busy, or was kept by the host, since its start."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICK


class Others:
    """The processors that programs beside this one and its children keep busy."""

    def __init__(self) -> None:
        self._last = self._begun = self._now()

    def since_last(self) -> float:
        """Processors since the last call."""
        before, self._last = self._last, self._now()
        return self._between(before, self._last)

    def in_all(self) -> float:
        """Processors since this was made."""
        return self._between(self._begun, self._now())

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.monotonic(), machine_cpu() - tree_cpu(os.getpid())

    @staticmethod
    def _between(before: tuple[float, float], after: tuple[float, float]) -> float:
        return max(0.0, (after[1] - before[1]) / max(after[0] - before[0], 1e-3))
