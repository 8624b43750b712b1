"""How is measured: programs as processes, in adjacent pairs, and the median of the pairs' ratios."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Any, NamedTuple

DVCTL = Path(sys.executable).parent / "dvctl"


class Run(NamedTuple):
    """A program that ran to its end: what it said (a JSON document, where it said one), seconds, memory, processor."""

    said: Any
    wall_s: float
    peak_mb: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Messages a second by the program's own clock, which starts after its imports."""
        return float(self.said["rate_per_s"])


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table. `ratio`: to the yardstick `against`; `target`: what it should be, as a person writes it."""

    name: str
    value: float
    unit: str
    against: str = ""
    yardstick: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None


def tell(count: int, seconds: float) -> None:
    """What a yardstick prints at its end."""
    print(json.dumps({"count": count, "elapsed_s": seconds, "rate_per_s": count / seconds}))


def tell_all(count: int, seconds: float, cpu_s: float) -> None:
    """The same, with the processor time of what was measured."""
    print(json.dumps({"count": count, "elapsed_s": seconds, "rate_per_s": count / seconds, "cpu_s": cpu_s}))


def run(*command: str | Path, env: dict[str, str] | None = None, code: int = 0) -> Run:
    """Run a program to its end. Raises where it ends with another code."""
    started = time.perf_counter()
    # The complaints go to a file: nobody reads them meanwhile, and a full pipe would stop the program.
    with TemporaryFile() as complaints:
        popen = subprocess.Popen(
            list(map(str, command)), env=os.environ | (env or {}), stdout=subprocess.PIPE, stderr=complaints
        )
        assert popen.stdout is not None
        said = popen.stdout.read()
        popen.stdout.close()
        _, status, usage = os.wait4(popen.pid, 0)
        wall = time.perf_counter() - started
        popen.returncode = os.waitstatus_to_exitcode(status)
        complaints.seek(0)
        complaint = complaints.read()
    if popen.returncode != code:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {popen.returncode}: {complaint[-2000:].decode()}")
    document = json.loads(said) if said.startswith((b"{", b"[")) else said
    return Run(document, wall, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)


def dvctl(*words: str, redis_url: str = "", database_url: str = "", code: int = 0) -> Run:
    """Run the installed command."""
    urls = {"DEVICEVAULT_REDIS_URL": redis_url, "DEVICEVAULT_DATABASE_URL": database_url}
    return run(DVCTL, *words, env={name: value for name, value in urls.items() if value}, code=code)


def program(name: str, *words: str) -> Run:
    """Run one of the yardsticks."""
    return run(sys.executable, "-m", f"tests.bench.{name}", *words)


def pairs(ours: Callable[[], float], theirs: Callable[[], float], times: int) -> tuple[float, float, float]:
    """Measure alternately, first the one and then the other first. -> median, median, median of the ratios"""
    found = []
    for number in range(times):
        if number % 2:
            second, first = theirs(), ours()
        else:
            first, second = ours(), theirs()
        found.append((first, second))
    ratio = median(first / second for first, second in found)
    return median(first for first, _ in found), median(second for _, second in found), ratio


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def machine() -> dict[str, Any]:
    """Where this was measured."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "processor": model[0].partition(": ")[2] if model else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory) / 1024**2, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_at_start": [round(load, 2) for load in os.getloadavg()],
    }
