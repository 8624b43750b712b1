"""How is measured: programs as processes, in adjacent pairs, and the median of the pairs' ratios."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from types import MappingProxyType
from typing import Any, NamedTuple

DVCTL = Path(sys.executable).parent / "dvctl"


class Run(NamedTuple):
    """A program that ran to its end: what it said (a JSON document, where it said one), seconds, memory, processor.

    `servers`: seconds of processor time that each server used meanwhile.
    """

    said: Any
    wall_s: float
    peak_mb: float
    cpu_s: float
    servers: Mapping[str, float] = MappingProxyType({})

    @property
    def rate(self) -> float:
        """Messages a second by the program's own clock, which starts after its imports."""
        return float(self.said["rate_per_s"])


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table. `ratio`: to the yardstick `against`; `target`: what it should be, as a person writes it.

    `cpu_us`: processor time a message of each process, in microseconds.  `others`: processors that other programs kept
    busy meanwhile.
    """

    name: str
    value: float
    unit: str
    against: str = ""
    yardstick: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    cpu_us: Mapping[str, float] = field(default_factory=dict)
    others: float | None = None


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


TIMES = 7
"""Pairs of the lines that have a target."""


def compared(
    name: str,
    ours: Callable[[], Run],
    theirs: Callable[[], float],
    whom: str,
    *,
    count: int,
    least: float = 0,
    whole: bool = False,
    start_s: float = 0,
    times: int = TIMES,
) -> Figure:
    """A rate beside that of a yardstick, and what a message costs each process.

    `count`: messages of a run. `whole`: by the time of the whole process. `start_s`: processor time of a run without
    messages.
    """
    runs: list[Run] = []

    def rate() -> float:
        runs.append(ours())
        return count / runs[-1].wall_s if whole else runs[-1].rate

    found, yardstick, ratio = pairs(rate, theirs, times)
    target, met = (f">= {least:g}", ratio >= least) if least else ("", None)
    cost = cpu_us(runs, count, start_s)
    return Figure(name, found, "messages/s", whom, yardstick, ratio, target, met, cost)


def cpu_us(runs: Sequence[Run], count: int, start_s: float = 0) -> dict[str, float]:
    """Microseconds of processor time a message of dvctl and of each server: the median of the runs."""
    used = {"dvctl": median(run.cpu_s for run in runs) - start_s}
    used |= {name: median(run.servers[name] for run in runs) for name in runs[0].servers}
    return {name: 1e6 * seconds / count for name, seconds in used.items()}


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
        "load_at_start": load(),
    }


def load() -> list[float]:
    """How many processes wanted to run lately."""
    return [round(number, 2) for number in os.getloadavg()]
